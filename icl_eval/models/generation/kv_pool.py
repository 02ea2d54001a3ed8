"""Decode hypotheses as one row of single tokens per step, with a KV pool that stores shared prefixes once.

The states of a prefix are stored once for all hypotheses that begin with it: for the beams of a prompt, or for prompts
with the same demonstrations. Suffixes are stored for each hypothesis. A step attends to both in one softmax, with a few
batched products per layer for any number of hypotheses, so it uses the same operations on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from icl_eval.models.causal.kernels import Scores
from icl_eval.models.causal.rows import Row
from icl_eval.models.causal.tree_attention import attending_as
from icl_eval.models.generation.decoder import Entry, Tokens
from icl_eval.models.generation.search import Extension
from icl_eval.models.loading.devices import to_device
from icl_eval.models.network import Network
from icl_eval.models.protocol import common_prefix

Path = NDArray[np.int32]  # the indices of a sequence's tokens in its row, (length,)


def trie_row(sequences: Sequence[Tokens], prefix_length: int) -> tuple[Row, list[Path]]:
    """A row of sequences that scores the last token of each, in their order; and their paths.

    Args:
        sequences: token sequences, none empty.
        prefix_length: leading tokens that all share and that the model caches; all sequences are longer.
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


MIN_PREFIX = 64  # tokens of a shared prefix from which on its states are cached for the next prompts
EXTRA_SLOTS = 16  # tokens per hypothesis by which the pool grows when it is full

ReadRows = Callable[[Sequence[Row]], tuple[torch.Tensor, Any]]  # logits (N, V) at scored tokens, and the cache


class PooledDecoder:
    """Next-token logits of hypotheses whose states are in a KV pool.

    Args:
        network: the network; its layers take attention from the registry of `transformers`.
        prefill: runs rows with the same cached prefix.
        branches: whether a branching row costs no more than its tokens; otherwise each entry gets its own row.
    """

    joins = True

    def __init__(self, network: Network, prefill: ReadRows, *, branches: bool) -> None:
        self._network, self._prefill, self._branches = network, prefill, branches
        self._pool = _Pool([])
        self._prefixes: list[bytes] = []
        self._prefix_of = np.empty(0, np.int64)  # (hypotheses,)
        self._shared = np.empty(0, np.int64)  # tokens of each prefix, (prefixes,)
        self._suffixes = np.empty(0, np.int64)  # tokens that each hypothesis stores after its prefix, (hypotheses,)

    def enter(self, entries: Sequence[Entry]) -> torch.Tensor:
        """Next-token logits (entries, V) after new hypotheses."""
        groups: dict[bytes, list[int]] = {}
        for index, entry in enumerate(entries):
            keeps = MIN_PREFIX <= entry.shared < len(entry.prompt)
            key = entry.prompt[: entry.shared].tobytes() if keeps else b""
            groups.setdefault(key, []).append(index)
        logits = [torch.empty(0)] * len(entries)
        for indices in groups.values():
            for index, row in zip(indices, self._enter([entries[index] for index in indices]), strict=True):
                logits[index] = row
        # the pool has the groups one after the other: bring them into the order of the entries
        before = len(self._suffixes) - len(entries)
        order = np.argsort(np.concatenate(list(groups.values())))
        self._select(np.concatenate([np.arange(before), before + order]))
        return torch.stack(logits)

    def step(self, extensions: Sequence[Extension]) -> torch.Tensor:
        """Next-token logits (extensions, V) after extended hypotheses."""
        self._select(np.array([each.row for each in extensions]))
        self._pool.reserve(int(self._suffixes.max()) + 1, EXTRA_SLOTS)
        positions = self._shared[self._prefix_of] + self._suffixes
        inputs = {
            "input_ids": to_device(torch.tensor([[each.token for each in extensions]]), self._network.device),
            "position_ids": to_device(torch.from_numpy(positions)[None], self._network.device),
            "use_cache": False,
        }
        step = _Step(self._pool, self._prefix_of, self._shared, self._suffixes)
        with attending_as(self._network.config, step):
            logits = self._network.forward(inputs, torch.arange(len(extensions)))[0]
        self._suffixes = self._suffixes + 1
        return logits

    def _enter(self, entries: Sequence[Entry]) -> torch.Tensor:
        """Prefill entries that begin with the same prefix and go on, or that have none."""
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
        self._prefixes = list(known)
        self._prefix_of = np.concatenate([self._prefix_of, np.array(prefix_of, np.int64)])
        self._shared = np.concatenate([self._shared, np.array([len(path) for _, path in new], np.int64)])
        self._suffixes = np.concatenate([self._suffixes, np.array([len(path) for _, path in suffixes], np.int64)])

    def _select(self, rows: NDArray[np.int64]) -> None:
        """Keep these hypotheses, in this order; drop unused prefixes once half of them are unused."""
        if not np.array_equal(rows, np.arange(len(self._suffixes))):
            self._prefix_of, self._suffixes = self._prefix_of[rows], self._suffixes[rows]
            self._pool.select_suffixes(rows, int(self._suffixes.max()))
        used = np.unique(self._prefix_of)
        if len(used) <= len(self._prefixes) // 2:
            self._pool.select_prefixes(used, int(self._shared[used].max()))
            self._prefixes, self._shared = [self._prefixes[index] for index in used], self._shared[used]
            self._prefix_of = np.searchsorted(used, self._prefix_of)


class _Indices:
    """Indices that are copied to each device once, without waiting for it."""

    def __init__(self, indices: NDArray[np.integer[Any]]) -> None:
        self._host, self._on = torch.from_numpy(indices), dict[torch.device, torch.Tensor]()

    def __len__(self) -> int:
        return len(self._host)

    def on(self, device: torch.device) -> torch.Tensor:
        """They, on a device."""
        if device not in self._on:
            self._on[device] = to_device(self._host, device)
        return self._on[device]


class _Pool:
    """Keys and values of every layer: of prefixes, (prefixes, key heads, tokens, width), and of suffixes."""

    def __init__(self, empty: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self.shared = [list(pair) for pair in empty]
        self.suffixes = [list(pair) for pair in empty]

    def add(
        self, layers: Sequence[Any], shared: Sequence[tuple[int, Path]], suffixes: Sequence[tuple[int, Path]]
    ) -> None:
        """Copy states of prefixes and suffixes from rows of a cache."""
        prefix_paths, suffix_paths = ([(row, _Indices(path)) for row, path in each] for each in (shared, suffixes))
        for index, layer in enumerate(layers):
            for part, states in enumerate((layer.keys, layer.values)):
                self.shared[index][part] = _with(self.shared[index][part], states, prefix_paths)
                self.suffixes[index][part] = _with(self.suffixes[index][part], states, suffix_paths)

    def select_suffixes(self, rows: NDArray[np.int64], used: int) -> None:
        """Keep the states of these hypotheses, at most `used` tokens of each."""
        self.suffixes = _selected(self.suffixes, rows, used)

    def select_prefixes(self, rows: NDArray[np.int64], used: int) -> None:
        """Keep the states of these prefixes, at most `used` tokens of each."""
        self.shared = _selected(self.shared, rows, used)

    def reserve(self, tokens: int, more: int) -> None:
        """Make room for `tokens` tokens of each hypothesis, and `more` if the pool has to grow."""
        if self.suffixes[0][0].shape[2] < tokens:
            self.suffixes = [[_padded(part, tokens + more) for part in pair] for pair in self.suffixes]


@dataclass(frozen=True, slots=True)
class _Where:
    """What a step needs on one device.

    Attributes:
        new: the slot of each hypothesis's new token, (hypotheses,).
        slots: the index of its queries among those of all prefixes, (hypotheses,).
        distances: to every key, (hypotheses, keys); negative for keys of others.
    """

    new: torch.Tensor
    slots: torch.Tensor
    distances: torch.Tensor


class _Step:
    """The attention of one step.

    Args:
        pool: the states, with room for one more token of each hypothesis.
        prefix_of: (hypotheses,), the index of the prefix of each.
        shared: (prefixes,), their lengths in tokens.
        suffixes: (hypotheses,), the lengths of their suffixes in tokens.
    """

    def __init__(
        self, pool: _Pool, prefix_of: NDArray[np.int64], shared: NDArray[np.int64], suffixes: NDArray[np.int64]
    ) -> None:
        self._pool, self._prefixes, self._suffixes = pool, len(shared), suffixes
        counts = np.bincount(prefix_of, minlength=len(shared))
        self._most = int(counts.max())  # most hypotheses of one prefix
        order = np.argsort(prefix_of, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        self._slots = prefix_of * self._most + rank
        self._in_order = np.array_equal(self._slots, np.arange(len(shared) * self._most))
        self._used = int(suffixes.max()) + 1
        keys, length = pool.shared[0][0].shape[2], shared[prefix_of][:, None]
        before = np.arange(keys)[None]
        after = length + np.arange(self._used)[None]
        query = length + suffixes[:, None]
        self._distances = np.concatenate([np.where(before < length, query - before, -1), query - after], axis=1)
        self._on: dict[torch.device, _Where] = {}
        self._masks: dict[tuple[torch.device, int | None], torch.Tensor] = {}

    def __call__(
        self,
        layer: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scores: Scores,
    ) -> torch.Tensor:
        where = self._where(query.device)
        (prefix_keys, prefix_values), (suffix_keys, suffix_values) = (
            self._pool.shared[layer.layer_idx],
            self._pool.suffixes[layer.layer_idx],
        )
        rows = torch.arange(len(self._suffixes), device=query.device)
        suffix_keys[rows, :, where.new], suffix_values[rows, :, where.new] = (
            key[0].transpose(0, 1),
            value[0].transpose(0, 1),
        )
        suffix_keys, suffix_values = suffix_keys[:, :, : self._used], suffix_values[:, :, : self._used]
        heads, count, width = query.shape[1:]
        queries = query[0].view(key.shape[1], -1, count, width).permute(2, 0, 1, 3)  # (N, key heads, queries, width)
        queries = queries * (width**-0.5 if scores.scaling is None else scores.scaling)
        before = self._split(_product(self._together(queries, where), prefix_keys.mT), where)
        products = torch.cat([before, _product(queries, suffix_keys.mT)], dim=-1)
        shares = self._softmax(products, scores, query.device).to(value.dtype)
        size = prefix_keys.shape[2]
        output = _product(shares[..., size:], suffix_values)
        if size:
            output += self._split(_product(self._together(shares[..., :size], where), prefix_values), where)
        return output.permute(1, 2, 0, 3).reshape(1, heads, count, -1)

    def _softmax(self, products: torch.Tensor, scores: Scores, device: torch.device) -> torch.Tensor:
        if scores.softcap is not None:
            products = torch.tanh(products / scores.softcap) * scores.softcap
        products = products + self._mask(device, scores.window)
        if scores.sinks is None:
            return products.softmax(dim=-1)
        column = scores.sinks.float().view(1, products.shape[1], -1, 1).expand(len(products), -1, -1, -1)
        return torch.cat([products, column], dim=-1).softmax(dim=-1)[..., :-1]

    def _together(self, rows: torch.Tensor, where: _Where) -> torch.Tensor:
        """(N, key heads, queries, width) as (prefixes, key heads, hypotheses x queries, width)."""
        _, heads, queries, width = rows.shape
        placed = rows
        if not self._in_order:
            placed = rows.new_zeros(self._prefixes * self._most, heads, queries, width)
            placed[where.slots] = rows
        placed = placed.view(self._prefixes, self._most, heads, queries, width).transpose(1, 2)
        return placed.reshape(self._prefixes, heads, self._most * queries, width)

    def _split(self, placed: torch.Tensor, where: _Where) -> torch.Tensor:
        """The inverse of `_together`."""
        _, heads, queries, width = placed.shape
        rows = placed.view(self._prefixes, heads, self._most, queries // self._most, width).transpose(1, 2)
        return rows.flatten(0, 1) if self._in_order else rows.flatten(0, 1)[where.slots]

    def _where(self, device: torch.device) -> _Where:
        if device not in self._on:
            arrays = (self._suffixes, self._slots, self._distances)
            self._on[device] = _Where(*(to_device(torch.from_numpy(each), device) for each in arrays))
        return self._on[device]

    def _mask(self, device: torch.device, window: int | None) -> torch.Tensor:
        """(N, 1, 1, keys), additive."""
        if (device, window) not in self._masks:
            distances = self._where(device).distances
            hidden = distances < 0 if window is None else (distances < 0) | (distances >= window)
            mask = torch.zeros(distances.shape, device=device).masked_fill_(hidden, -torch.inf)
            self._masks[device, window] = mask[:, None, None]
        return self._masks[device, window]


def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """A batched product in float32."""
    if left.dtype == torch.float32:
        return left @ right
    if not left.is_cuda:
        return left.float() @ right.float()
    product = torch.bmm(left.flatten(0, 1), right.flatten(0, 1), out_dtype=torch.float32)
    return product.view(*left.shape[:-1], -1)


def _with(states: torch.Tensor, new: torch.Tensor, paths: Sequence[tuple[int, _Indices]]) -> torch.Tensor:
    """Append to rows of states those at paths in other rows."""
    if not paths:
        return states
    longest = max(states.shape[2], *(len(path) for _, path in paths))
    grown = new.new_zeros(len(states) + len(paths), new.shape[1], longest, new.shape[3])
    grown[: len(states), :, : states.shape[2]] = states
    for index, (row, path) in enumerate(paths, start=len(states)):
        grown[index, :, : len(path)] = new[row].index_select(1, path.on(new.device))
    return grown


def _selected(layers: Sequence[Sequence[torch.Tensor]], rows: NDArray[np.int64], used: int) -> list[list[torch.Tensor]]:
    """These rows of the states of every layer, at most `used` tokens of each."""
    indices = _Indices(rows)
    return [[part[:, :, :used].index_select(0, indices.on(part.device)) for part in pair] for pair in layers]


def _padded(states: torch.Tensor, tokens: int) -> torch.Tensor:
    return torch.nn.functional.pad(states, (0, 0, 0, tokens - states.shape[2]))
