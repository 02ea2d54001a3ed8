"""Decoders compute the next-token logits of hypotheses: their protocol, one without a cache, one on any cache."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from icl_eval.models.generation.search import Extension
from icl_eval.models.loading.devices import to_device
from icl_eval.models.network import Network

Tokens = NDArray[np.int32]

CACHES = ("past_key_values", "cache_params")  # names of caches in outputs of networks
STATES = ("conv_states", "recurrent_states")  # states of layers with a fixed size


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A new hypothesis.

    Attributes:
        prompt: tokens of the prompt, (length,).
        generated: tokens generated so far, usually none.
        shared: number of leading tokens of the prompt that other hypotheses share; the states of equal prefixes are
            computed and stored once.
    """

    prompt: Tokens
    generated: Tokens
    shared: int = 0

    @property
    def tokens(self) -> Tokens:
        """The tokens of prompt and generated text, (length,)."""
        return np.concatenate([self.prompt, self.generated])


class Decoder(Protocol):
    """Computes next-token logits of hypotheses, a batch at a time, and holds their states.

    Attributes:
        joins: whether hypotheses may enter while there are others.
    """

    joins: bool

    def enter(self, entries: Sequence[Entry]) -> torch.Tensor:
        """Next-token logits (entries, V) after new hypotheses, which follow the existing ones."""
        ...

    def step(self, extensions: Sequence[Extension]) -> torch.Tensor:
        """Next-token logits (extensions, V) after hypotheses, each extended by a token; all others leave."""
        ...


class UncachedDecoder:
    """Recomputes each hypothesis from its first token in every step, in batches of the same length.

    Args:
        prefill: computes the next-token logits (N, V) of entries of the same length.
    """

    joins = True

    def __init__(self, prefill: Callable[[Sequence[Entry]], torch.Tensor]) -> None:
        self._prefill = prefill
        self._entries: list[Entry] = []

    def enter(self, entries: Sequence[Entry]) -> torch.Tensor:
        """Next-token logits (entries, V) after new hypotheses."""
        self._entries += entries
        return self._logits(entries)

    def step(self, extensions: Sequence[Extension]) -> torch.Tensor:
        """Next-token logits (extensions, V) after extended hypotheses."""
        going = [(self._entries[each.row], np.array([each.token], np.int32)) for each in extensions]
        self._entries = [Entry(entry.prompt, np.concatenate([entry.generated, token])) for entry, token in going]
        return self._logits(self._entries)

    def _logits(self, entries: Sequence[Entry]) -> torch.Tensor:
        by_length: dict[tuple[int, int], list[int]] = {}
        for index, entry in enumerate(entries):
            by_length.setdefault((len(entry.prompt), len(entry.generated)), []).append(index)
        parts = [self._prefill([entries[index] for index in indices]) for indices in by_length.values()]
        order = np.argsort(np.concatenate(list(by_length.values())))
        return torch.cat(parts)[torch.from_numpy(order).to(parts[0].device)]


class BatchDecoder:
    """Decodes hypotheses as a batch on the network's own cache of keys and values, recurrent states, or both.

    Each new hypothesis is prefilled separately, from the states of its shared prefix. Its cache then becomes a row of
    the batch. Shorter rows are padded on the left, as in `transformers`.

    Args:
        network: the network.
        forks: whether prefill may continue from a copy of the states of a shared prefix.
    """

    joins = True

    def __init__(self, network: Network, *, forks: bool = True) -> None:
        self._network, self._forks = network, forks
        self._positions = "position_ids" in inspect.signature(network.model.forward).parameters
        self._lengths = torch.empty(0, dtype=torch.long)  # (hypotheses,)
        self._caches: dict[str, Any] = {}
        self._prefix: tuple[bytes, dict[str, Any]] = (b"", {})

    def enter(self, entries: Sequence[Entry]) -> torch.Tensor:
        """Next-token logits (entries, V) after new hypotheses."""
        logits, parts = [], [self._caches] if self._caches else []
        for entry in entries:
            row, caches = self._prefill(entry)
            logits.append(row)
            parts.append(caches)
        self._caches = {name: _joined([part[name] for part in parts]) for name in parts[-1]}
        self._lengths = torch.cat([self._lengths, torch.tensor([len(entry.tokens) for entry in entries])])
        return torch.cat(logits)

    def step(self, extensions: Sequence[Extension]) -> torch.Tensor:
        """Next-token logits (extensions, V) after extended hypotheses."""
        rows, device = torch.tensor([each.row for each in extensions]), self._network.device
        if not torch.equal(rows, torch.arange(len(self._lengths))):
            kept = to_device(rows, device)
            for cache in self._caches.values():
                cache.reorder_cache(kept)
        self._lengths = self._lengths[rows] + 1
        inputs: dict[str, Any] = {"input_ids": to_device(torch.tensor([[each.token] for each in extensions]), device)}
        if self._positions:
            inputs["position_ids"] = to_device((self._lengths - 1)[:, None], device)
        if any(_has_keys(layer) for cache in self._caches.values() for layer in cache.layers):
            longest = int(self._stored()) + 1
            mask = torch.arange(longest)[None] >= longest - self._lengths[:, None]
            inputs["attention_mask"] = to_device(mask.long(), device)
        return self._forward(inputs, self._caches)[0]

    def _stored(self) -> int:
        """Number of tokens of the longest row, including those that are no longer in a sliding window."""
        return max(int(cache.get_seq_length()) for cache in self._caches.values())

    def _prefill(self, entry: Entry) -> tuple[torch.Tensor, dict[str, Any]]:
        tokens = entry.tokens
        shared = min(entry.shared, len(tokens) - 1) if self._forks and entry.shared < len(entry.prompt) else 0
        start = copy.deepcopy(self._prefix_states(tokens[:shared])) if shared else {}
        return self._forward(self._inputs(tokens, shared), start)

    def _prefix_states(self, prefix: Tokens) -> dict[str, Any]:
        key = prefix.tobytes()
        if self._prefix[0] != key:
            self._prefix = key, self._forward(self._inputs(prefix, 0), {})[1]
        return self._prefix[1]

    def _inputs(self, tokens: Tokens, start: int) -> dict[str, Any]:
        new = to_device(torch.from_numpy(tokens[start:].astype(np.int64))[None], self._network.device)
        positions = torch.arange(start, len(tokens), device=self._network.device)[None]
        return {"input_ids": new, "position_ids": positions} if self._positions else {"input_ids": new}

    def _forward(self, inputs: dict[str, Any], caches: dict[str, Any]) -> tuple[torch.Tensor, dict[str, Any]]:
        count, new = inputs["input_ids"].shape
        last = torch.arange(1, count + 1) * new - 1
        logits, output = self._network.forward({**inputs, **caches, "use_cache": True}, last)
        found = {name: getattr(output, name, None) for name in CACHES}
        return logits, {name: cache for name, cache in found.items() if cache is not None}


def _joined(caches: Sequence[Any]) -> Any:
    """The first cache, to which the rows of all other caches are added."""
    first = caches[0]
    for layers in zip(*(cache.layers for cache in caches), strict=True):
        if _has_keys(layers[0]):
            for name in ("keys", "values"):
                setattr(layers[0], name, _stacked([getattr(layer, name) for layer in layers]))
            if hasattr(layers[0], "cumulative_length"):
                layers[0].cumulative_length = max(layer.cumulative_length for layer in layers)
        for name in STATES:
            for index, state in getattr(layers[0], name, {}).items():
                if state is not None:
                    getattr(layers[0], name)[index] = torch.cat([getattr(layer, name)[index] for layer in layers])
    return first


def _has_keys(layer: Any) -> bool:
    return isinstance(getattr(layer, "keys", None), torch.Tensor) and layer.keys.dim() == 4


def _stacked(states: Sequence[torch.Tensor]) -> torch.Tensor:
    longest = max(each.shape[2] for each in states)
    return torch.cat([torch.nn.functional.pad(each, (0, 0, longest - each.shape[2], 0)) for each in states])
