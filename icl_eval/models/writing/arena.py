"""Hypotheses written side by side, on a processor: one row of single tokens per step, and nothing is ever reordered.

The keys and values of all layers lie in an arena, by place. What prompts share lies there once. A token attends,
without a mask, to each long run of its prompt together with all other hypotheses of the prompts that have it; and to
what its hypothesis wrote, and to its prompt's short runs, by a list of places. The parts are merged by their
log-sum-exps. A hypothesis is thus a list of places, and to continue one in two ways is to copy a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from icl_eval.models.networks.ancestry import depths
from icl_eval.models.networks.blocks import TreePlan
from icl_eval.models.networks.network import Network
from icl_eval.models.networks.stem import KeptStem
from icl_eval.models.networks.tree_attention import attend, attend_to_all, attending, attending_as, merge
from icl_eval.models.protocol import common_prefix
from icl_eval.models.writing.search import Move
from icl_eval.models.writing.trie import Prompt, Run, trie

STEM = 64  # tokens of a shared prefix from which on its states are kept for the next prompts
GATHERED = 128  # states up to which to copy a run for each of its hypotheses is cheaper than to attend to it apart
ROOM = 256  # places for written tokens at first; doubled when they are full


class ArenaDecoder:
    """Rows of next-token logits of many prompts' hypotheses at once.

    Args:
        network: what computes them; its layers take attention from the registry of `transformers`.
        kept: the states of what the last prompts shared.
    """

    def __init__(self, network: Network, kept: KeptStem) -> None:
        self._network, self._kept = network, kept

    def start(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """Logits (prompts, V) after prompts in sorted order, each of which is a hypothesis without a token."""
        common = min(common_prefix(prompts[0], prompts[-1]), len(prompts[0]) - 1)
        row, runs = trie(prompts, common if common >= STEM else 0)
        inputs = {
            "input_ids": torch.from_numpy(row.tokens[row.stem :].astype(np.int64))[None],
            "position_ids": torch.from_numpy(depths(row.parents)[row.stem :])[None],
            "past_key_values": self._kept.of(row.tokens[: row.stem]),
            "use_cache": True,
        }
        with attending(self._network.config, TreePlan(row.parents, row.stem)):
            logits, output = self._network.ask(inputs, torch.from_numpy(row.scored - row.stem))
        self._arena = _Arena(output.past_key_values.layers, len(row.tokens))
        self._runs = runs
        self._lengths = np.array([len(prompt) for prompt in prompts])
        self._prompts = np.arange(len(prompts))  # of each hypothesis
        self._written = np.empty((len(prompts), 0), np.int64)  # places, (hypotheses, tokens)
        return logits

    def step(self, moves: Sequence[Move]) -> torch.Tensor:
        """Logits (moves, V) after hypotheses of the last rows, each continued by a token; prompts stay in order."""
        rows = np.array([move.row for move in moves])
        self._prompts, written = self._prompts[rows], self._written[rows]
        if not written.size:
            self._divide()
        new = self._arena.free(len(moves), written)
        self._written = np.concatenate([written, new[:, None]], axis=1)
        inputs = {
            "input_ids": torch.tensor([[move.token for move in moves]]),
            "position_ids": torch.from_numpy(self._lengths[self._prompts] + written.shape[1])[None],
            "use_cache": False,
        }
        with attending_as(self._network.config, self._step(new)):
            return self._network.ask(inputs, torch.arange(len(moves)))[0]

    def _divide(self) -> None:
        """Tell long runs from short ones."""
        copied = [(run.stop - run.start) * _size(self._below(run)) for run in self._runs]
        self._long = [run for run, states in zip(self._runs, copied, strict=True) if states > GATHERED]
        short = [run for run, states in zip(self._runs, copied, strict=True) if states <= GATHERED]
        self._short = _padded(len(self._lengths), short)

    def _step(self, new: NDArray[np.int64]) -> _Step:
        short = self._short[self._prompts]
        places = torch.from_numpy(np.concatenate([short, self._written], axis=1))
        mask = torch.zeros(places.shape, dtype=self._network.model.dtype).masked_fill_(places < 0, -torch.inf)
        runs = [(below, slice(run.start, run.stop)) for run in self._long if _size(below := self._below(run))]
        return _Step(self._arena, torch.from_numpy(new), places.clamp_(min=0), mask[:, None, None], runs)

    def _below(self, run: Run) -> slice:
        """The hypotheses of a run's prompts."""
        first, last = np.searchsorted(self._prompts, [run.first, run.last])
        return slice(int(first), int(last))


@dataclass(frozen=True, slots=True)
class _Step:
    """The attention of one step.

    Attributes:
        arena: where states are.
        new: (hypotheses,) places of the tokens being read.
        places: (hypotheses, N) places that each attends to on its own.
        mask: (hypotheses, 1, 1, N), additive: those that are there.
        runs: which hypotheses attend to which places together.
    """

    arena: _Arena
    new: torch.Tensor
    places: torch.Tensor
    mask: torch.Tensor
    runs: Sequence[tuple[slice, slice]]

    def __call__(
        self, layer: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        keys, values = self.arena.with_new(layer.layer_idx, self.new, key, value)
        count, heads = len(self.new), keys.shape[1]
        alone = (
            query[0].view(heads, -1, count, query.shape[-1]).permute(2, 0, 1, 3)
        )  # (hypotheses, key heads, queries, width)
        part, score = attend(alone, _chosen(keys, self.places), _chosen(values, self.places), scaling, mask=self.mask)
        output = part.float().permute(1, 2, 0, 3).reshape(1, -1, count, part.shape[-1])
        weight = score.permute(1, 2, 0).reshape(1, -1, count)
        for queries, run in self.runs:
            part, score = attend_to_all(query[:, :, queries], _together(keys[run]), _together(values[run]), scaling)
            merge(output[:, :, queries], weight[:, :, queries], part, score)
        return output


class _Arena:
    """The keys and values of every layer, (places, key heads, width): the prompts' first, then what is written."""

    def __init__(self, layers: Sequence[Any], prompts: int) -> None:
        self._prompts, self._places = prompts, prompts
        self._states = [(layer.keys[0].transpose(0, 1), layer.values[0].transpose(0, 1)) for layer in layers]

    def free(self, count: int, used: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places that no hypothesis uses, (count,)."""
        taken = np.zeros(self._places, np.bool_)
        taken[: self._prompts] = True
        taken[used] = True
        places = np.flatnonzero(~taken)[:count]
        if len(places) == count:
            return places
        self._grow(max(ROOM, self._places - self._prompts, count))
        return self.free(count, used)

    def with_new(
        self, layer: int, places: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values of a layer, once those of new tokens, (1, key heads, new, width), are in their places."""
        keys, values = self._states[layer]
        keys[places], values[places] = key[0].transpose(0, 1), value[0].transpose(0, 1)
        return keys, values

    def _grow(self, more: int) -> None:
        self._places += more
        self._states = [(_grown(keys, more), _grown(values, more)) for keys, values in self._states]


def _size(places: slice) -> int:
    return int(places.stop - places.start)


def _grown(states: torch.Tensor, more: int) -> torch.Tensor:
    return torch.cat([states, states.new_empty(more, *states.shape[1:])])


def _chosen(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(hypotheses, key heads, N, width)."""
    return states.index_select(0, places.flatten()).view(*places.shape, *states.shape[1:]).transpose(1, 2)


def _together(states: torch.Tensor) -> torch.Tensor:
    """(1, key heads, places, width)."""
    return states.transpose(0, 1)[None]


def _padded(prompts: int, runs: Sequence[Run]) -> NDArray[np.int64]:
    """The places of each prompt's runs, (prompts, N), -1 where there are fewer."""
    places = [
        [place for run in runs if run.first <= prompt < run.last for place in range(run.start, run.stop)]
        for prompt in range(prompts)
    ]
    padded = np.full((prompts, max(map(len, places))), -1, np.int64)
    for row, own in zip(padded, places, strict=True):
        row[: len(own)] = own
    return padded
