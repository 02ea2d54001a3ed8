"""A decoder with a KV pool, in which the states of shared prefixes are stored once.

In each step, the new tokens of all hypotheses form one row. The states of a prefix are stored once for all hypotheses
that begin with it: for the beams of a prompt, or for prompts with the same demonstrations. The states of the other
tokens of each hypothesis, its suffix, are in a slot of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import pad

from icl_eval.models.causal.rows import Row
from icl_eval.models.causal.tree_attention import attending_as
from icl_eval.models.generation.decoder import Entry, Tokens
from icl_eval.models.generation.decoding_step import DecodingStep, Numbers, Recorder
from icl_eval.models.generation.search import Extension
from icl_eval.models.loading.devices import to_device
from icl_eval.models.network import Network
from icl_eval.models.protocol import common_prefix

Path = NDArray[np.int32]  # the indices of a sequence's tokens in its row, (length,)


def trie_row(sequences: Sequence[Tokens], prefix_length: int) -> tuple[Row, list[Path]]:
    """A row of sequences, in which the token after each sequence is scored, in order; and the path of each sequence.

    Args:
        sequences: token sequences, none of them empty.
        prefix_length: number of leading tokens that all share and that are cached; all sequences are longer.
    """
    order = sorted(range(len(sequences)), key=lambda index: sequences[index].tolist())
    paths = [np.empty(0, np.int32)] * len(sequences)
    tokens, parents = list[Tokens](), list[NDArray[np.int32]]()
    path, last, length = np.empty(0, np.int32), np.empty(0, np.int32), 0
    for index in order:
        sequence = sequences[index]
        common = common_prefix(last, sequence)
        new = np.arange(length, length + len(sequence) - common, dtype=np.int32)
        before = path[common - 1] if common else -1
        tokens.append(sequence[common:])
        parents.append(np.concatenate([[before], new])[: len(new)].astype(np.int32))
        path, last, length = np.concatenate([path[:common], new]), sequence, length + len(new)
        paths[index] = path
    scored = np.array([each[-1] for each in paths], np.int32)
    return Row(np.concatenate(tokens), np.concatenate(parents), scored, np.zeros_like(scored), prefix_length), paths


MIN_PREFIX = 64  # tokens from which on the states of a shared prefix are cached for the next prompts
EXTRA_SLOTS = 16  # tokens per hypothesis by which the pool grows when it is full
EXTRA_RECORDED_SLOTS = 64  # the same if steps are recorded, and have to be recorded again after the pool has grown
IDLE = 0.25  # maximum share of slots without a hypothesis if steps are recorded

ReadRows = Callable[[Sequence[Row]], tuple[torch.Tensor, Any]]  # logits (N, V) at scored tokens, and the cache


class PooledDecoder:
    """Decodes hypotheses whose states are in a KV pool.

    Args:
        network: the network, whose layers use the registry of attentions in `transformers`.
        prefill: runs rows with the same cached prefix.
        branches: whether entries can share a branching row at no extra cost; if not, each entry gets a row of its own.
        recorder: records steps, so that launching them takes no time. Slots of hypotheses that have left then stay idle
            for a while, because a recorded step has a fixed shape.
    """

    joins = True

    def __init__(
        self, network: Network, prefill: ReadRows, *, branches: bool, recorder: Recorder | None = None
    ) -> None:
        self._network, self._prefill, self._branches, self._recorder = network, prefill, branches, recorder
        self._pool = _Pool([])
        self._prefixes: list[bytes] = []
        self._shared = np.empty(0, np.int64)  # tokens of each prefix, (prefixes,)
        self._prefix_of = np.empty(0, np.int64)  # the prefix of each slot, (slots,)
        self._suffixes = np.empty(0, np.int64)  # tokens that each slot stores after its prefix, (slots,)
        self._slots = np.empty(0, np.int64)  # the slot of each hypothesis, (hypotheses,)
        self._step: DecodingStep | None = None  # of these slots

    def enter(self, entries: Sequence[Entry]) -> torch.Tensor:
        """Next-token logits (entries, V) after new hypotheses."""
        groups: dict[bytes, list[int]] = {}
        for index, entry in enumerate(entries):
            keeps = MIN_PREFIX <= entry.shared < len(entry.prompt)
            key = entry.prompt[: entry.shared].tobytes() if keeps else b""
            groups.setdefault(key, []).append(index)
        self._compact(self._slots)
        before = len(self._slots)
        logits = [self._enter([entries[index] for index in indices]) for indices in groups.values()]
        order = np.argsort(np.concatenate(list(groups.values())))
        self._slots = np.concatenate([self._slots, before + order])
        return torch.cat(logits)[to_device(torch.from_numpy(order), self._network.device)]

    def step(self, extensions: Sequence[Extension]) -> torch.Tensor:
        """Next-token logits (extensions, V) after extended hypotheses."""
        parents = self._slots[[each.row for each in extensions]]
        self._extend(parents)
        tokens = np.zeros_like(self._prefix_of)
        tokens[self._slots] = [each.token for each in extensions]
        used = int(self._suffixes.max()) + 1
        if self._pool.slots < used:
            self._step = None  # it keeps the states that are replaced
            self._pool.grow(used + (EXTRA_RECORDED_SLOTS if self._records else EXTRA_SLOTS))
        if self._step is None:
            self._step = DecodingStep(self._pool.shared, self._pool.suffixes, self._prefix_of, self._shared)
        step = self._step
        step.load(tokens, self._suffixes, self._pool.slots if self._records else used)
        logits = step.logits(lambda: self._forward(step), self._recorder)
        self._suffixes[self._slots] += 1
        if np.array_equal(self._slots, np.arange(len(logits))):
            return logits
        return logits[to_device(torch.from_numpy(self._slots), logits.device)]

    def _forward(self, step: DecodingStep) -> torch.Tensor:
        tokens, positions = step.numbers.on(self._network.device)[:2]
        inputs = {"input_ids": tokens[None], "position_ids": positions[None], "use_cache": False}
        with attending_as(self._network.config, step):
            return self._network.forward(inputs, torch.arange(len(tokens), device=tokens.device))[0]

    def _extend(self, parents: NDArray[np.int64]) -> None:
        """Assign a slot to each extension, and copy the states of its parent there."""
        idle = len(self._prefix_of) - len(parents)
        most = IDLE * len(self._prefix_of) if self._records else 0
        slots = assigned(parents, self._prefix_of) if idle <= most else None
        if slots is None:
            self._compact(parents)
            self._slots = np.arange(len(parents))
            return
        sources = np.arange(len(self._prefix_of))
        sources[slots] = parents
        if not np.array_equal(slots, parents):
            self._pool.copy_suffixes(sources, int(self._suffixes.max()))
            self._suffixes = self._suffixes[sources]
        self._slots = slots

    @property
    def _records(self) -> bool:
        return self._recorder is not None and self._recorder.works

    def _enter(self, entries: Sequence[Entry]) -> torch.Tensor:
        """Prefill entries that are longer than their common shared prefix, or that have none."""
        sequences = [entry.tokens for entry in entries]
        prefix_length = entries[0].shared if MIN_PREFIX <= entries[0].shared < len(entries[0].prompt) else 0
        batch = [sequences] if self._branches else [[sequence] for sequence in sequences]
        rows, paths = zip(*(trie_row(each, prefix_length) for each in batch), strict=True)
        where = [(index, path) for index, found in enumerate(paths) for path in found]
        logits, cache = self._prefill(rows)
        self._store(entries, where, cache.layers)
        return logits

    def _store(self, entries: Sequence[Entry], where: Sequence[tuple[int, Path]], layers: Sequence[Any]) -> None:
        known = {key: index for index, key in enumerate(self._prefixes)}
        new: list[tuple[int, Path]] = []
        prefix_of = []
        for entry, (row, path) in zip(entries, where, strict=True):
            key = entry.prompt[: entry.shared].tobytes()
            if key not in known:
                known[key] = len(known)
                new.append((row, path[: entry.shared]))
            prefix_of.append(known[key])
        suffixes = [(row, path[entry.shared :]) for entry, (row, path) in zip(entries, where, strict=True)]
        if not self._pool.suffixes:
            self._pool = _Pool([(layer.keys[:0, :, :0], layer.values[:0, :, :0]) for layer in layers])
        self._pool.add(layers, new, suffixes)
        self._step = None
        self._prefixes = list(known)
        self._prefix_of = np.concatenate([self._prefix_of, np.array(prefix_of, np.int64)])
        self._shared = np.concatenate([self._shared, np.array([len(path) for _, path in new], np.int64)])
        self._suffixes = np.concatenate([self._suffixes, np.array([len(path) for _, path in suffixes], np.int64)])

    def _compact(self, slots: NDArray[np.int64]) -> None:
        """Keep only these slots, in this order; drop unused prefixes if they are half of all prefixes."""
        if np.array_equal(slots, np.arange(len(self._prefix_of))):
            return
        self._step = None
        self._prefix_of, self._suffixes = self._prefix_of[slots], self._suffixes[slots]
        self._slots = np.arange(len(slots))
        self._pool.select_suffixes(slots, int(self._suffixes.max(initial=0)))
        used = np.unique(self._prefix_of)
        if len(used) <= len(self._prefixes) // 2:
            self._pool.select_prefixes(used, int(self._shared[used].max(initial=0)))
            self._prefixes, self._shared = [self._prefixes[index] for index in used], self._shared[used]
            self._prefix_of = np.searchsorted(used, self._prefix_of)


def assigned(parents: NDArray[np.int64], prefix_of: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """A slot for each extension, which has the prefix of its parent's slot and is the same slot if possible.

    Args:
        parents: the slot of the parent of each extension, (extensions,).
        prefix_of: the prefix of each slot, (slots,).

    Returns:
        The slots (extensions,); None if there are not enough slots of a prefix.
    """
    slots = np.full(len(parents), -1)
    kept, firsts = np.unique(parents, return_index=True)
    slots[firsts] = kept
    waiting = np.flatnonzero(slots < 0)
    free = np.setdiff1d(np.arange(len(prefix_of)), kept)
    waiting = waiting[np.argsort(prefix_of[parents[waiting]], kind="stable")]
    free = free[np.argsort(prefix_of[free], kind="stable")]
    wanted, offered = prefix_of[parents[waiting]], prefix_of[free]
    rank = np.arange(len(wanted)) - np.searchsorted(wanted, wanted)
    places = np.searchsorted(offered, wanted) + rank
    if (places >= len(offered)).any() or (offered[places] != wanted).any():
        return None
    slots[waiting] = free[places]
    return slots


class _Paths:
    """The tokens of rows whose states are copied; shorter paths are padded with the first token of their row."""

    def __init__(self, paths: Sequence[tuple[int, Path]]) -> None:
        self._count, self.longest = len(paths), max((len(path) for _, path in paths), default=0)
        places = np.zeros((2, len(paths), self.longest), np.int64)
        for index, (row, path) in enumerate(paths):
            places[0, index], places[1, index, : len(path)] = row, path
        self._places = Numbers(places)

    def __len__(self) -> int:
        return self._count

    def on(self, device: torch.device) -> torch.Tensor:
        """The indices of rows and of tokens, (2, paths, longest)."""
        return self._places.on(device)


class _Pool:
    """Keys and values of each layer: of prefixes (prefixes, key heads, tokens, width), and of suffixes (slots, ...)."""

    def __init__(self, empty: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self.shared = [list(pair) for pair in empty]
        self.suffixes = [list(pair) for pair in empty]

    def add(
        self, layers: Sequence[Any], shared: Sequence[tuple[int, Path]], suffixes: Sequence[tuple[int, Path]]
    ) -> None:
        """Add prefixes and suffixes, with states from the rows of a cache."""
        prefix_paths, suffix_paths = _Paths(shared), _Paths(suffixes)
        for index, layer in enumerate(layers):
            for part, states in enumerate((layer.keys, layer.values)):
                self.shared[index][part] = _with(self.shared[index][part], states, prefix_paths)
                self.suffixes[index][part] = _with(self.suffixes[index][part], states, suffix_paths)

    def select_suffixes(self, rows: NDArray[np.int64], used: int) -> None:
        """Keep only the states of these suffixes, at most `used` tokens of each."""
        _select(self.suffixes, rows, used)

    def select_prefixes(self, rows: NDArray[np.int64], used: int) -> None:
        """Keep only the states of these prefixes, at most `used` tokens of each."""
        _select(self.shared, rows, used)

    @property
    def slots(self) -> int:
        """Number of tokens of each suffix for which there is memory."""
        return self.suffixes[0][0].shape[2]

    def grow(self, tokens: int) -> None:
        """Make room for `tokens` tokens of each suffix."""
        _replace(self.suffixes, lambda states: pad(states, (0, 0, 0, tokens - states.shape[2])))

    def copy_suffixes(self, sources: NDArray[np.int64], used: int) -> None:
        """Copy to each slot the states of its source, at most `used` tokens, in the same memory."""
        changed = np.flatnonzero(sources != np.arange(len(sources)))
        indices = Numbers(np.stack([changed, sources[changed]]))
        for pair in self.suffixes:
            for part in pair:
                to, of = indices.on(part.device)
                part[:, :, :used].index_copy_(0, to, part[:, :, :used].index_select(0, of))


def _with(states: torch.Tensor, new: torch.Tensor, paths: _Paths) -> torch.Tensor:
    """States with new rows, copied from the paths in other states."""
    if not len(paths):
        return states
    longest = max(states.shape[2], paths.longest)
    grown = new.new_zeros(len(states) + len(paths), new.shape[1], longest, new.shape[3])
    grown[: len(states), :, : states.shape[2]] = states
    rows, tokens = paths.on(new.device)
    grown[len(states) :, :, : paths.longest] = new[rows, :, tokens].transpose(1, 2)
    return grown


def _select(layers: Sequence[list[torch.Tensor]], rows: NDArray[np.int64], used: int) -> None:
    """Keep only these rows of the states of all layers, at most `used` tokens of each."""
    indices = Numbers(rows)
    _replace(layers, lambda states: states[:, :, :used].index_select(0, indices.on(states.device)))


def _replace(layers: Sequence[list[torch.Tensor]], change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Replace the states of one layer after another, so that only those of one layer are in memory twice."""
    for pair in layers:
        for part, states in enumerate(pair):
            pair[part] = change(states)
