"""Attention blocks of a packed row: blocks of consecutive tokens, the same for every kernel.

A row lists its sequences depth first, so everything that continues a segment of consecutive tokens follows right after
it. A segment attends causally to itself; its branches attend, without a mask, to the part of the segment that they
continue; adjacent short segments form a dense subtree with one small mask. A sliding window is a distance
in depth: it drops the keys that no query of a block sees, and masks those that only some see.
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

DENSE = 256  # tokens of small masks that cost less than separate blocks
CHUNK = 256  # queries of one mask of a window
PATHS = 2**16  # tokens of windows that are gathered at once


@dataclass(frozen=True, slots=True)
class Block:
    """Tokens that attend to tokens: to all of them, causally, or where `sees` says so.

    Attributes:
        queries: slice of the tokens that are new.
        keys: slice of all tokens, those of the cached prefix included.
        sees: (queries, keys), or None.
        causal: whether a token sees those up to itself; queries and keys are then the same tokens.
        includes_queries: whether the keys include the queries. Such blocks come first and hold every query once.
    """

    queries: slice
    keys: slice
    sees: NDArray[np.bool_] | None = None
    causal: bool = False
    includes_queries: bool = False


class TreePlan:
    """The attention blocks of one row, for every window of its layers, and their masks on every device.

    Args:
        parents: (length,), of a `Row`.
        prefix_length: how many of the first tokens are cached.
        dense: tokens up to which adjacent segments share one mask.
    """

    def __init__(self, parents: NDArray[np.int32], prefix_length: int, *, dense: int = DENSE) -> None:
        self.parents, self.prefix_length, self._dense = parents, prefix_length, dense
        self._blocks: dict[int | None, list[Block]] = {}
        self._masks: dict[tuple[int, torch.device, torch.dtype], torch.Tensor] = {}
        self._cache: dict[Hashable, Any] = {}

    @cached_property
    def depths(self) -> NDArray[np.int64]:
        """Each token's position in its own sequence, (length,)."""
        return depths(self.parents)

    def blocks(self, window: int | None = None) -> list[Block]:
        """All that the new tokens attend to, within a window if given; blocks that include their queries come first."""
        if window is not None and window > int(self.depths.max(initial=0)):
            window = None
        if window not in self._blocks:
            found = list(Segments(self.parents, self.prefix_length, self._dense).blocks())
            if window is not None:
                found = [part for block in found for part in self._within(block, window)]
            self._blocks[window] = sorted(found, key=lambda block: not block.includes_queries)
        return self._blocks[window]

    def mask(self, block: Block, device: torch.device, dtype: torch.dtype) -> torch.Tensor | None:
        """The additive mask of a block, if it has one.

        Hidden keys get the lowest finite number, so a query that sees no key of a block has no weight there.
        """
        if block.sees is None:
            return None
        key = (id(block), device, dtype)
        if key not in self._masks:
            mask = torch.zeros(block.sees.shape, dtype=dtype)
            mask.masked_fill_(torch.from_numpy(~block.sees), torch.finfo(dtype).min)
            self._masks[key] = mask.to(device)
        return self._masks[key]

    def cached(self, key: Hashable, make: Callable[..., Any], *args: Any) -> Any:
        """What a kernel computes from this plan once for all layers."""
        if key not in self._cache:
            self._cache[key] = make(self, *args)
        return self._cache[key]

    def sees(self, window: int | None = None) -> NDArray[np.bool_]:
        """Which tokens each new one sees, (new, length): the union of all blocks."""
        seen = visibility(self.parents)[self.prefix_length :]
        if window is not None:
            seen &= self.depths[self.prefix_length :, None] - self.depths[None] < window
        return seen

    def _within(self, block: Block, window: int) -> Iterator[Block]:
        """The parts of a block within a window."""
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
            yield replace(block, sees=near if block.sees is None else block.sees & near)
            return
        start, last = block.queries.start, block.queries.stop
        for begin in range(start, last, CHUNK):
            stop = min(begin + CHUNK, last)
            first = max(start, begin - window + 1)
            distance = np.arange(begin, stop)[:, None] - np.arange(first, stop)[None]
            seen = (distance >= 0) & (distance < window)
            visible = slice(self.prefix_length + first, self.prefix_length + stop)
            yield Block(slice(begin, stop), visible, seen, includes_queries=True)

    def _ancestors_within(self, block: Block, window: int) -> Iterator[Block]:
        """Keys that all queries see, without a mask; keys that only some see, in chunks of queries."""
        first = int(self.depths[block.keys.start])  # the keys are part of one segment: their depths are consecutive
        size = block.keys.stop - block.keys.start
        queries = self.depths[self.prefix_length :][block.queries]
        everywhere = max(0, int(queries.max()) - window + 1 - first)  # keys from here on are seen by all
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
    """The segments of a row, and the tokens at which they branch off others."""

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
        """Segments that continue the segment or cached prefix that begins at `trunk`, or start a sequence."""
        while begin < end:
            fork, stop = self.continued[begin], self.after[begin]
            while stop < end and self.continued[stop] == fork:
                stop = self.after[stop]
            if fork >= trunk:
                yield Block(self._queries(begin, stop), self._keys(trunk, fork + 1))
            yield from self._siblings(begin, stop)
            begin = stop

    def _siblings(self, begin: int, end: int) -> Iterator[Block]:
        """The blocks within segments that continue the same token, and within all their branches."""
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
        """For each segment the next one that does not descend from it."""
        after, unfinished = [len(self.segments)] * len(self.segments), list[int]()
        for index, fork in enumerate(self.continued):
            while unfinished and fork < self.segments[unfinished[-1]][0]:
                after[unfinished.pop()] = index
            unfinished.append(index)
        return after


@dataclass(frozen=True, slots=True)
class Sequences:
    """One call of a variable-length kernel.

    Attributes:
        queries: which new tokens, Tq of them: a slice if they are consecutive, else their indices.
        keys: which of all tokens, Tk of them, in the same way.
        q_ends, k_ends: (sequences + 1,) int32, where sequences begin and end among these.
        longest_q, longest_k: tokens of the longest sequence.
        causal: whether queries see keys up to their own; the last query and the last key are the same token.
        window: how many tokens back a query sees, including itself; None for all.
        includes_queries: whether the keys include the queries; such calls come first and hold all queries in order.
    """

    queries: torch.Tensor | slice
    keys: torch.Tensor | slice
    q_ends: torch.Tensor
    k_ends: torch.Tensor
    longest_q: int
    longest_k: int
    causal: bool
    window: int | None
    includes_queries: bool


def sequences(plan: TreePlan, window: int | None, device: torch.device) -> list[Sequences]:
    """The calls of a row."""
    if window is None or window > int(plan.depths.max(initial=0)):
        return list(_levels(plan, device))
    return list(_paths(plan, window, device))


def _levels(plan: TreePlan, device: torch.device) -> Iterator[Sequences]:
    """Every segment with itself, then branches with what they continue, so that no query appears twice in a call."""
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
    """Every segment with its ancestors within the window."""
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
    q_ends, k_ends = (torch.from_numpy(np.ascontiguousarray(side)).to(device) for side in ends.T)
    longest_q, longest_k = sizes.max(axis=0).tolist()
    return Sequences(queries, keys, q_ends, k_ends, longest_q, longest_k, causal, window, includes_queries)


def _indices(tokens: NDArray[np.int64], device: torch.device) -> torch.Tensor | slice:
    """Tokens to select from states: consecutive ones need no copy."""
    if (np.diff(tokens) == 1).all():
        return slice(int(tokens[0]), int(tokens[-1]) + 1)
    return torch.from_numpy(tokens).to(device)


def _range(tokens: slice) -> NDArray[np.int64]:
    return np.arange(tokens.start, tokens.stop)
