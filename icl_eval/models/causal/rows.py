"""Rows: token sequences packed so that shared prefixes are computed once.

Requests are packed in sorted order, in which each sequence shares its longest prefix with a neighbour. So the trie of
all sequences is traversed depth first: of each sequence, only the tokens are appended that the previous one does not
share. When a row is full, the prefix that the next row would repeat becomes the cached prefix of both: it is computed
once, and every row that begins with it continues from its keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from icl_eval.models.protocol import ScoreRequest, common_prefix


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """Token sequences packed into one row of a batch, in which shared prefixes occur once.

    Attributes:
        tokens: (length,) int32.
        parents: (length,) int32, for each token the index of the previous token of its sequence; -1 if it is the first.
        scored: (targets,) int32, the indices of the tokens after which a target is scored.
        targets: (targets,) int32, the next tokens to score.
        prefix_length: length of the cached prefix: of the leading tokens that form a plain sequence, in which nothing
            is scored, and with which other rows begin, too. A model may keep their states from one row to the next.
        moments: whether any of its targets belongs to a request with `moments`.
    """

    tokens: NDArray[np.int32]
    parents: NDArray[np.int32]
    scored: NDArray[np.int32]
    targets: NDArray[np.int32]
    prefix_length: int = 0
    moments: bool = False

    @property
    def is_linear(self) -> bool:
        """Whether the row is one plain sequence."""
        return bool((self.parents == np.arange(-1, len(self.tokens) - 1)).all())


@dataclass(frozen=True, slots=True, eq=False)
class RowAnswer:
    """The scores of a row's targets.

    Attributes:
        logprobs: log-probabilities (targets,) in nats, float32.
        greedy: whether each target was the most likely token, (targets,).
        moments: (2, targets) if any row of the batch has `moments`, else (0, targets).
    """

    logprobs: NDArray[np.float32]
    greedy: NDArray[np.bool_]
    moments: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))


PendingRows = Callable[[], list[RowAnswer]]  # waits for the answers of a batch and returns them, one for each row


def depths(parents: NDArray[np.int32]) -> NDArray[np.int64]:
    """The depth of each token in the trie, which is its position in its sequence, (length,)."""
    depth = np.zeros(len(parents), dtype=np.int64)
    for start, stop in segments(parents):
        first = 0 if parents[start] < 0 else depth[parents[start]] + 1
        depth[start:stop] = np.arange(first, first + stop - start)
    return depth


def visibility(parents: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether token i (rows) attends to token j (columns), (length, length)."""
    length = len(parents)
    visible = np.zeros((length, length), dtype=np.bool_)
    for start, stop in segments(parents):
        if parents[start] >= 0:
            visible[start:stop, :start] = visible[parents[start], :start]
        visible[start:stop, start:stop] = np.tri(stop - start, dtype=np.bool_)
    return visible


def segments(parents: NDArray[np.int32]) -> list[tuple[int, int]]:
    """The maximal segments `start:stop` of a row in which each token continues the one before it."""
    breaks = np.flatnonzero(parents[1:] != np.arange(len(parents) - 1)) + 1
    starts = [0, *breaks.tolist()] if len(parents) else []
    return list(pairwise([*starts, len(parents)]))


PAIRS_PER_TOKEN = 6  # times hidden size: attended pairs with the cost of a token's matrix products (12 d^2 / 2 d)


@dataclass(frozen=True, slots=True)
class Span:
    """The targets `start:stop` of a row, which answer the request with this index."""

    request: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False)
class PackedRow:
    """A row, and which of its targets answer which request."""

    row: Row
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class RowSizes:
    """Lengths that decide how requests are packed into rows, in tokens.

    Attributes:
        min_prefix: the length from which on a shared prefix is cached; shorter ones are faster to recompute.
        after_prefix: the maximum number of new tokens after a cached prefix: large enough to be efficient, small enough
            to waste little attention.
        small_row: the length up to which longer rows are more efficient on a CPU.
    """

    min_prefix: int = 64
    after_prefix: int = 1024
    small_row: int = 512


@dataclass(frozen=True, slots=True)
class Packing:
    """How requests are packed into rows: what rows a model supports, and what they cost.

    Attributes:
        share: whether rows may branch; otherwise all sequences of a row are prefixes of the longest one.
        limit: maximum number of tokens of a row with several sequences.
        targets: maximum number of scored tokens of such a row.
        width: the model's hidden size, from which the cost of attention between unrelated sequences is estimated.
        cache_prefixes: whether rows may share a cached prefix.
        tree_attention: whether the attention between unrelated sequences of a row is not computed and costs nothing.
        sizes: lengths of rows and prefixes.
    """

    share: bool
    limit: int
    width: int
    targets: int = 2**31
    cache_prefixes: bool = False
    tree_attention: bool = False
    sizes: RowSizes = RowSizes()


def pack(requests: Mapping[int, ScoreRequest], packing: Packing) -> list[PackedRow]:
    """Rows that answer all requests, which are given by index."""
    return list(_rows(requests, packing))


def _rows(requests: Mapping[int, ScoreRequest], packing: Packing) -> Iterator[PackedRow]:
    row = _OpenRow(packing)
    for index in sorted(requests, key=lambda index: requests[index].tokens):
        tokens = np.frombuffer(requests[index].tokens, dtype=np.int32)
        shared = common_prefix(row.last, tokens[:-1])
        boundary = requests[index].boundary
        if row.spans and not row.accepts(shared, len(tokens), boundary):
            prefix_length = min(shared, boundary - 1) if packing.cache_prefixes else 0
            yield row.close(prefix_length)
            caches = prefix_length >= packing.sizes.min_prefix
            row = _OpenRow.on(packing, tokens[:prefix_length]) if caches else _OpenRow(packing)
            shared = common_prefix(row.last, tokens[:-1])
        row.add(index, tokens, boundary, shared)
        row.moments |= requests[index].moments
    if row.spans:
        yield row.close()


@dataclass(slots=True)
class _OpenRow:
    """A row that is being filled.

    Attributes:
        path: the indices in the row of the tokens of the sequence that was added last.
        last: the tokens of this sequence.
    """

    packing: Packing
    prefix_length: int = 0
    length: int = 0
    scored_tokens: int = 0
    path: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    last: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    tokens: list[NDArray[np.int32]] = field(default_factory=list)
    parents: list[NDArray[np.int32]] = field(default_factory=list)
    scored: list[NDArray[np.int32]] = field(default_factory=list)
    targets: list[NDArray[np.int32]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    moments: bool = False

    @classmethod
    def on(cls, packing: Packing, prefix: NDArray[np.int32]) -> _OpenRow:
        """A row that begins with a cached prefix."""
        indices = np.arange(len(prefix), dtype=np.int32)
        return cls(packing, len(prefix), len(prefix), path=indices, last=prefix, tokens=[prefix], parents=[indices - 1])

    def accepts(self, shared: int, length: int, boundary: int) -> bool:
        """Whether a sequence should be added to this row, instead of starting a row that recomputes the shared prefix.

        Args:
            shared: number of leading tokens that the sequence shares with the last one.
            length: number of its tokens.
            boundary: number of its tokens that are not scored.
        """
        packing, new = self.packing, length - 1 - shared
        if not packing.share:
            return shared == len(self.last)
        uncached = self.length - self.prefix_length + new
        if (
            uncached > packing.limit
            or self.scored_tokens + length - boundary > packing.targets
            or boundary <= self.prefix_length
        ):
            return False
        if packing.tree_attention:
            return True
        if self.prefix_length and uncached > packing.sizes.after_prefix:
            return False
        wasted_pairs = new * (2 * self.length - shared)
        return uncached <= packing.sizes.small_row or shared * PAIRS_PER_TOKEN * packing.width >= wasted_pairs

    def add(self, request: int, tokens: NDArray[np.int32], boundary: int, shared: int) -> None:
        inputs = tokens[:-1]
        new = np.arange(self.length, self.length + len(inputs) - shared, dtype=np.int32)
        if len(new):
            before = self.path[shared - 1] if shared else -1
            self.tokens.append(inputs[shared:])
            self.parents.append(np.concatenate([[before], new[:-1]]).astype(np.int32))
        self.path = np.concatenate([self.path[:shared], new])
        self.last, self.length = inputs, self.length + len(new)
        start, self.scored_tokens = self.scored_tokens, self.scored_tokens + len(tokens) - boundary
        self.spans.append(Span(request, start, self.scored_tokens))
        self.scored.append(self.path[boundary - 1 :])
        self.targets.append(tokens[boundary:])

    def close(self, wanted: int = 0) -> PackedRow:
        """The finished row; its first `wanted` tokens become its cached prefix if that is possible.

        They must be long enough, and form one sequence in which nothing is scored.
        """
        scored = np.concatenate(self.scored)
        leads = bool((self.path[:wanted] == np.arange(wanted)).all()) and wanted <= scored.min()
        caches = leads and wanted >= self.packing.sizes.min_prefix
        prefix_length = max(self.prefix_length, wanted) if caches else self.prefix_length
        tokens, parents, targets = (np.concatenate(part) for part in (self.tokens, self.parents, self.targets))
        if self.packing.tree_attention:
            order = longest_first(parents, prefix_length)
            new_index = np.argsort(order).astype(np.int32)  # by old index
            tokens, scored = tokens[order], new_index[scored]
            parents = np.where(parents < 0, np.int32(-1), new_index[parents])[order]
        return PackedRow(Row(tokens, parents, scored, targets, prefix_length, self.moments), tuple(self.spans))


def longest_first(parents: NDArray[np.int32], prefix_length: int) -> NDArray[np.int64]:
    """The indices of a row's tokens in depth-first order, in which the longest branch of each segment comes first."""
    starts = np.flatnonzero(parents[prefix_length:] != np.arange(prefix_length - 1, len(parents) - 1)) + prefix_length
    forks = parents[starts] + 1
    cuts = np.unique(np.concatenate([[prefix_length], starts, forks[forks > prefix_length], [len(parents)]]))
    sizes = np.diff(cuts)
    above = np.searchsorted(cuts, parents[cuts[:-1]], side="right") - 1  # the parent of each node; -1 for none
    longest, children = sizes.tolist(), [list[int]() for _ in sizes]
    for node in range(len(sizes) - 1, -1, -1):
        if (parent := int(above[node])) >= 0:
            children[parent].append(node)
            longest[parent] = max(longest[parent], int(sizes[parent]) + longest[node])
    order: list[int] = []
    waiting = [node for node in range(len(sizes) - 1, -1, -1) if above[node] < 0]
    while waiting:
        order.append(node := waiting.pop())
        waiting += sorted(children[node], key=lambda child: (longest[child], -child))
    return np.concatenate([np.arange(prefix_length), *(np.arange(cuts[node], cuts[node + 1]) for node in order)])
