"""How the attention over a packed row is divided: into blocks, or into sequences for variable-length kernels.

A row lists its trie depth first, so all branches of a segment of consecutive tokens directly follow it. A segment
attends causally to itself. Its branches attend, without a mask, to the part of the segment that they continue. Adjacent
short segments form a dense subtree with one small mask. A sliding window is a distance in depth: keys beyond it for all
queries of a block are dropped, and those beyond it for some are masked.

A variable-length kernel takes pairs of queries and keys as sequences: first each segment with itself, then, level by
level, each branch with the tokens that it continues. In a layer with a sliding window, each segment attends to its
ancestors within the window in one sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from icl_eval.models.causal.rows import depths, segments, visibility
from icl_eval.models.loading.devices import to_device

DENSE = 256  # tokens up to which a subtree with one mask is faster than separate blocks
CHUNK = 256  # queries of each mask of a sliding window
PATHS = 2**16  # tokens of keys that are gathered for one call


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive queries and the consecutive keys that they attend to.

    Attributes:
        queries: a slice of the new tokens.
        keys: a slice of all tokens, including those of the cached prefix.
        visible: which query attends to which key, (queries, keys); None if all do, or as `causal` says.
        causal: whether each token attends to the tokens up to itself; queries and keys are then the same tokens.
        includes_queries: whether the keys include the queries. These blocks come first and contain each query once.
    """

    queries: slice
    keys: slice
    visible: NDArray[np.bool_] | None = None
    causal: bool = False
    includes_queries: bool = False


class TreePlan:
    """The attention blocks of one row, for each sliding window of the layers, and their masks on each device.

    Args:
        parents: (length,), as in `Row`.
        prefix_length: number of leading tokens that are cached.
        dense: maximum number of tokens of a subtree with one mask.
    """

    def __init__(self, parents: NDArray[np.int32], prefix_length: int, *, dense: int = DENSE) -> None:
        self.parents, self.prefix_length, self._dense = parents, prefix_length, dense
        self._blocks: dict[int | None, list[Block]] = {}
        self._masks: dict[tuple[int, torch.device, torch.dtype], torch.Tensor] = {}
        self._cache: dict[Hashable, Any] = {}

    @cached_property
    def depths(self) -> NDArray[np.int64]:
        """The depth of each token, (length,)."""
        return depths(self.parents)

    def blocks(self, window: int | None = None) -> list[Block]:
        """All blocks, within a sliding window if it is given; those that include their queries come first."""
        if window is not None and window > int(self.depths.max(initial=0)):
            window = None
        if window not in self._blocks:
            found = list(Segments(self.parents, self.prefix_length, self._dense).blocks())
            if window is not None:
                found = [part for block in found for part in self._within(block, window)]
            self._blocks[window] = sorted(found, key=lambda block: not block.includes_queries)
        return self._blocks[window]

    def mask(self, block: Block, device: torch.device, dtype: torch.dtype) -> torch.Tensor | None:
        """The additive mask of a block, (queries, keys), if it has one.

        It has the lowest finite number for hidden keys, so that a query without visible keys gives no NaN; the block
        then has no weight for it.
        """
        if block.visible is None:
            return None
        key = (id(block), device, dtype)
        if key not in self._masks:
            mask = torch.zeros(block.visible.shape, dtype=dtype)
            mask.masked_fill_(torch.from_numpy(~block.visible), torch.finfo(dtype).min)
            self._masks[key] = to_device(mask, device)
        return self._masks[key]

    def cached(self, key: Hashable, make: Callable[..., Any], *args: Any) -> Any:
        """The value of `make(self, *args)`, which is computed once for all layers."""
        if key not in self._cache:
            self._cache[key] = make(self, *args)
        return self._cache[key]

    def visible(self, window: int | None = None) -> NDArray[np.bool_]:
        """Which tokens each new token attends to, (new, length): the union of all blocks."""
        seen = visibility(self.parents)[self.prefix_length :]
        if window is not None:
            seen &= self.depths[self.prefix_length :, None] - self.depths[None] < window
        return seen

    def _within(self, block: Block, window: int) -> Iterator[Block]:
        """The parts of a block within a sliding window."""
        queries, keys = self.depths[self.prefix_length :][block.queries], self.depths[block.keys]
        if int(queries.max()) - int(keys.min()) < window:
            yield block
        elif block.includes_queries:
            yield from self._queries_within(block, window)
        else:
            yield from self._ancestors_within(block, window)

    def _queries_within(self, block: Block, window: int) -> Iterator[Block]:
        if not block.causal:
            queries, keys = self.depths[self.prefix_length :][block.queries], self.depths[block.keys]
            near = queries[:, None] - keys[None] < window
            yield replace(block, visible=near if block.visible is None else block.visible & near)
            return
        start, last = block.queries.start, block.queries.stop
        for begin in range(start, last, CHUNK):
            stop = min(begin + CHUNK, last)
            first = max(start, begin - window + 1)
            distance = np.arange(begin, stop)[:, None] - np.arange(first, stop)[None]
            seen = (distance >= 0) & (distance < window)
            window_keys = slice(self.prefix_length + first, self.prefix_length + stop)
            yield Block(slice(begin, stop), window_keys, seen, includes_queries=True)

    def _ancestors_within(self, block: Block, window: int) -> Iterator[Block]:
        """A block of the keys that are visible to all queries, and masked blocks of those that are visible to some."""
        first = int(self.depths[block.keys.start])  # the keys are part of one segment: their depths are consecutive
        size = block.keys.stop - block.keys.start
        queries = self.depths[self.prefix_length :][block.queries]
        everywhere = max(0, int(queries.max()) - window + 1 - first)  # keys from here on are visible to all queries
        if everywhere < size:
            yield Block(block.queries, slice(block.keys.start + everywhere, block.keys.stop))
        size = min(everywhere, size)
        for begin in range(block.queries.start, block.queries.stop, CHUNK):
            stop = min(begin + CHUNK, block.queries.stop)
            near = self.depths[self.prefix_length :][begin:stop]
            some = max(0, int(near.min()) - window + 1 - first)
            if some < size:
                keys = np.arange(first + some, first + size)
                seen = near[:, None] - keys[None] < window
                cached = slice(block.keys.start + some, block.keys.start + size)
                yield Block(slice(begin, stop), cached, None if seen.all() else seen)


class Segments:
    """The segments of a row, and the tokens that they continue.

    Args:
        parents: (length,), as in `Row`.
        prefix_length: number of leading tokens that are cached.
        dense: maximum number of tokens of a subtree with one mask.
    """

    def __init__(self, parents: NDArray[np.int32], prefix_length: int, dense: int) -> None:
        self.prefix_length, self.dense = prefix_length, dense
        self.parents = parents[prefix_length:] - prefix_length  # negative: a token of the cached prefix, or none
        self.segments = segments(self.parents)
        self.continued = [int(self.parents[start]) for start, _ in self.segments]
        self.after = self._after()

    def blocks(self) -> Iterator[Block]:
        """The blocks of all segments."""
        yield from self._branches(0, len(self.segments), trunk=-self.prefix_length)

    def _branches(self, begin: int, end: int, *, trunk: int) -> Iterator[Block]:
        """The blocks of segments that continue the segment or cached prefix at `trunk`, or begin a sequence."""
        while begin < end:
            fork, stop = self.continued[begin], self.after[begin]
            while stop < end and self.continued[stop] == fork:
                stop = self.after[stop]
            if fork >= trunk:
                yield Block(self._queries(begin, stop), self._keys(trunk, fork + 1))
            yield from self._siblings(begin, stop)
            begin = stop

    def _siblings(self, begin: int, end: int) -> Iterator[Block]:
        """The blocks of segments that continue the same token, and of all their branches."""
        while begin < end:
            stop = self.after[begin]
            if self._size(begin, stop) > self.dense:
                start, last = self.segments[begin]
                yield Block(slice(start, last), self._keys(start, last), causal=True, includes_queries=True)
                yield from self._branches(begin + 1, stop, trunk=start)
            else:
                while stop < end and self._size(begin, self.after[stop]) <= self.dense:
                    stop = self.after[stop]
                yield self._subtree(begin, stop)
            begin = stop

    def _subtree(self, begin: int, end: int) -> Block:
        queries = self._queries(begin, end)
        keys = self._keys(queries.start, queries.stop)
        if end - begin == 1:
            return Block(queries, keys, causal=True, includes_queries=True)
        return Block(
            queries, keys, visibility(np.maximum(self.parents[queries] - queries.start, -1)), includes_queries=True
        )

    def _queries(self, begin: int, end: int) -> slice:
        return slice(self.segments[begin][0], self.segments[end - 1][1])

    def _keys(self, start: int, stop: int) -> slice:
        return slice(self.prefix_length + start, self.prefix_length + stop)

    def _size(self, begin: int, end: int) -> int:
        return self.segments[end - 1][1] - self.segments[begin][0]

    def _after(self) -> list[int]:
        """For each segment, the index of the next segment that does not descend from it."""
        after, unfinished = [len(self.segments)] * len(self.segments), list[int]()
        for index, fork in enumerate(self.continued):
            while unfinished and fork < self.segments[unfinished[-1]][0]:
                after[unfinished.pop()] = index
            unfinished.append(index)
        return after


@dataclass(frozen=True, slots=True)
class Sequences:
    """The sequences of one call of a variable-length kernel.

    Attributes:
        queries: the new tokens of all sequences: a slice if they are consecutive, else their indices (Tq,).
        keys: the tokens that they attend to, among all tokens: a slice or indices (Tk,).
        q_ends, k_ends: (sequences + 1,) int32, the offsets in queries and keys at which sequences begin and end.
        q_offsets: (2, Tq), the sequence of each query, and its offset in the sequence.
        longest_q, longest_k: number of tokens of the longest sequence.
        causal: whether a query attends to keys up to itself; the last query and the last key are the same token.
        window: number of tokens that a query attends to, including itself; None for all.
        includes_queries: whether the keys include the queries. These calls come first and contain all queries in order.
    """

    queries: torch.Tensor | slice
    keys: torch.Tensor | slice
    q_ends: torch.Tensor
    k_ends: torch.Tensor
    q_offsets: torch.Tensor
    longest_q: int
    longest_k: int
    causal: bool
    window: int | None
    includes_queries: bool


def sequences(plan: TreePlan, window: int | None, device: torch.device) -> list[Sequences]:
    """The calls of a variable-length kernel for a row, within a sliding window if it is given."""
    if window is None or window > int(plan.depths.max(initial=0)):
        return list(_levels(plan, device))
    return list(_paths(plan, window, device))


def _levels(plan: TreePlan, device: torch.device) -> Iterator[Sequences]:
    """Each segment with itself; then branches with the tokens that they continue, each query once in a call."""
    blocks = list(Segments(plan.parents, plan.prefix_length, 0).blocks())
    own = sorted((block for block in blocks if block.includes_queries), key=lambda block: block.queries.start)
    pairs = [(_range(block.queries), _range(block.keys)) for block in own]
    yield _sequences(pairs, device, causal=True, includes_queries=True)
    levels: list[list[tuple[NDArray[np.int64], NDArray[np.int64]]]] = []
    ends: list[int] = []
    for block in blocks:
        if block.includes_queries:
            continue
        level = next((i for i, end in enumerate(ends) if end <= block.queries.start), len(ends))
        if level == len(ends):
            ends.append(0)
            levels.append([])
        ends[level] = block.queries.stop
        levels[level].append((_range(block.queries), _range(block.keys)))
    for pairs in levels:
        yield _sequences(pairs, device)


def _paths(plan: TreePlan, window: int, device: torch.device) -> Iterator[Sequences]:
    """Each segment with its ancestors within the sliding window."""
    pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    gathered = 0
    whole = segments(plan.parents)
    starts = np.array([start for start, _ in whole])
    for start, stop in segments(plan.parents[plan.prefix_length :] - plan.prefix_length):
        keys = [np.arange(plan.prefix_length + start, plan.prefix_length + stop)]
        last, wanted = int(plan.parents[plan.prefix_length + start]), window - 1
        while last >= 0 and wanted > 0:
            first = max(int(starts[np.searchsorted(starts, last, side="right") - 1]), last - wanted + 1)
            keys.append(np.arange(first, last + 1))
            wanted -= last + 1 - first
            last = int(plan.parents[first])
        pairs.append((np.arange(start, stop), np.concatenate(keys[::-1])))
        gathered += len(pairs[-1][1])
        if gathered > PATHS:
            yield _sequences(pairs, device, causal=True, includes_queries=True, window=window)
            pairs, gathered = [], 0
    if pairs:
        yield _sequences(pairs, device, causal=True, includes_queries=True, window=window)


def _sequences(
    pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
    device: torch.device,
    *,
    causal: bool = False,
    includes_queries: bool = False,
    window: int | None = None,
) -> Sequences:
    sizes = np.array([(len(queries), len(keys)) for queries, keys in pairs])
    ends = np.concatenate([[[0, 0]], sizes.cumsum(axis=0)]).astype(np.int32)
    queries, keys = (_indices(np.concatenate(side), device) for side in zip(*pairs, strict=True))
    q_ends, k_ends = (to_device(torch.from_numpy(np.ascontiguousarray(side)), device) for side in ends.T)
    sequence = np.repeat(np.arange(len(sizes)), sizes[:, 0])
    offsets = np.stack([sequence, np.arange(len(sequence)) - ends[sequence, 0]])
    q_offsets = to_device(torch.from_numpy(offsets), device)
    longest_q, longest_k = sizes.max(axis=0).tolist()
    return Sequences(queries, keys, q_ends, k_ends, q_offsets, longest_q, longest_k, causal, window, includes_queries)


def _indices(tokens: NDArray[np.int64], device: torch.device) -> torch.Tensor | slice:
    """The index that selects these tokens from states: a slice if they are consecutive, which needs no copy."""
    if (np.diff(tokens) == 1).all():
        return slice(int(tokens[0]), int(tokens[-1]) + 1)
    return to_device(torch.from_numpy(tokens), device)


def _range(tokens: slice) -> NDArray[np.int64]:
    return np.arange(tokens.start, tokens.stop)
