"""Rows: token sequences packed with shared prefixes once, and what each token of a row sees.

Requests are packed in sorted order. In it every sequence shares its longest prefix with its neighbour, so the trie of
all sequences is walked depth first by appending to a row only what the sequence before did not have. Where a row is
full, the prefix that the next one would repeat becomes the cached prefix of both: computed once, cached, and continued
by every row that begins with it.
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
    """Token sequences packed into one row of a batch, shared prefixes once.

    Attributes:
        tokens: (length,) int32.
        parents: (length,) int32, the index in the row of the token before; -1 where a sequence begins.
        scored: (targets,) int32, the indices of the tokens after which a target is scored.
        targets: (targets,) int32, the next tokens to score.
        prefix_length: how many of the first tokens form a plain sequence that other rows begin with too, and in which
            nothing is scored: a model may cache their states from one row to the next.
        moments: whether some of its targets are of requests with `moments`.
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
    """Log-probabilities (targets,) in nats, float32, and whether each target was the most likely token.

    Attributes:
        moments: (2, targets) if some row of the batch has them, and else (0, targets).
    """

    logprobs: NDArray[np.float32]
    greedy: NDArray[np.bool_]
    moments: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))


PendingRows = Callable[[], list[RowAnswer]]  # waits for the answers to the rows of a batch


def depths(parents: NDArray[np.int32]) -> NDArray[np.int64]:
    """Each token's position in its own sequence, (length,)."""
    depth = np.zeros(len(parents), dtype=np.int64)
    for start, stop in segments(parents):
        first = 0 if parents[start] < 0 else depth[parents[start]] + 1
        depth[start:stop] = np.arange(first, first + stop - start)
    return depth


def visibility(parents: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether token i (rows) sees token j (columns), (length, length)."""
    length = len(parents)
    sees = np.zeros((length, length), dtype=np.bool_)
    for start, stop in segments(parents):
        if parents[start] >= 0:
            sees[start:stop, :start] = sees[parents[start], :start]
        sees[start:stop, start:stop] = np.tri(stop - start, dtype=np.bool_)
    return sees


def segments(parents: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Maximal segments in which every token follows the one before it."""
    breaks = np.flatnonzero(parents[1:] != np.arange(len(parents) - 1)) + 1
    starts = [0, *breaks.tolist()] if len(parents) else []
    return list(pairwise([*starts, len(parents)]))


PAIRS_PER_TOKEN = 6  # times the width: attended pairs that cost as much as one token's matrix products (12 d^2 / 2 d)


@dataclass(frozen=True, slots=True)
class Span:
    """The answer to the request of a number: the targets `start:stop` of its row."""

    request: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False)
class PackedRow:
    """A row and whose answers its targets are."""

    row: Row
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class RowSizes:
    """Numbers of tokens that decide how requests are packed into rows.

    Attributes:
        min_prefix: a shared prefix is cached from this length on, because then caching is faster than recomputing it.
        after_prefix: most new tokens of a row after a cached prefix: enough to be efficient, few enough to waste little
            attention.
        small_row: up to this length, a longer row costs a CPU no more per token.
    """

    min_prefix: int = 64
    after_prefix: int = 1024
    small_row: int = 512


@dataclass(frozen=True, slots=True)
class Terms:
    """What rows a model takes, and what they cost it.

    Attributes:
        share: whether rows may branch; otherwise a row is one sequence, extended only by longer ones of itself.
        limit: tokens of a row that holds several sequences.
        targets: scored tokens of such a row.
        width: the model's hidden size, which weighs the cost of attention between unrelated sequences.
        cache_prefixes: whether rows may share a cached prefix.
        tree_attention: whether tokens attend to their ancestors only, so that unrelated sequences cost nothing.
        sizes: the lengths of rows and prefixes.
    """

    share: bool
    limit: int
    width: int
    targets: int = 2**31
    cache_prefixes: bool = False
    tree_attention: bool = False
    sizes: RowSizes = RowSizes()


def pack(requests: Mapping[int, ScoreRequest], terms: Terms) -> list[PackedRow]:
    """Rows that answer all requests, which come by number."""
    return list(_rows(requests, terms))


def _rows(requests: Mapping[int, ScoreRequest], terms: Terms) -> Iterator[PackedRow]:
    row = _OpenRow(terms)
    for index in sorted(requests, key=lambda index: requests[index].tokens):
        tokens = np.frombuffer(requests[index].tokens, dtype=np.int32)
        shared = common_prefix(row.last, tokens[:-1])
        boundary = requests[index].boundary
        if row.spans and not row.welcomes(shared, len(tokens), boundary):
            prefix_length = min(shared, boundary - 1) if terms.cache_prefixes else 0
            yield row.close(prefix_length)
            caches = prefix_length >= terms.sizes.min_prefix
            row = _OpenRow.on(terms, tokens[:prefix_length]) if caches else _OpenRow(terms)
            shared = common_prefix(row.last, tokens[:-1])
        row.add(index, tokens, boundary, shared)
        row.moments |= requests[index].moments
    if row.spans:
        yield row.close()


@dataclass(slots=True)
class _OpenRow:
    """A row being filled; `path[d]` is the index of token d of the sequence added last."""

    terms: Terms
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
    def on(cls, terms: Terms, prefix: NDArray[np.int32]) -> _OpenRow:
        """A row that begins with a cached prefix."""
        indices = np.arange(len(prefix), dtype=np.int32)
        return cls(terms, len(prefix), len(prefix), path=indices, last=prefix, tokens=[prefix], parents=[indices - 1])

    def welcomes(self, shared: int, length: int, boundary: int) -> bool:
        """Whether to continue this row rather than recompute the shared prefix in the next one."""
        terms, new = self.terms, length - 1 - shared
        if not terms.share:
            return shared == len(self.last)
        uncached = self.length - self.prefix_length + new
        if (
            uncached > terms.limit
            or self.scored_tokens + length - boundary > terms.targets
            or boundary <= self.prefix_length
        ):
            return False
        if terms.tree_attention:
            return True
        if self.prefix_length and uncached > terms.sizes.after_prefix:
            return False
        wasted_pairs = new * (2 * self.length - shared)
        return uncached <= terms.sizes.small_row or shared * PAIRS_PER_TOKEN * terms.width >= wasted_pairs

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
        """The row; its first `wanted` tokens become its cached prefix if they form one sequence without targets."""
        scored = np.concatenate(self.scored)
        leads = bool((self.path[:wanted] == np.arange(wanted)).all()) and wanted <= scored.min()
        caches = leads and wanted >= self.terms.sizes.min_prefix
        prefix_length = max(self.prefix_length, wanted) if caches else self.prefix_length
        tokens, parents, targets = (np.concatenate(part) for part in (self.tokens, self.parents, self.targets))
        if self.terms.tree_attention:
            order = longest_first(parents, prefix_length)
            new_index = np.argsort(order).astype(np.int32)  # of every old index
            tokens, scored = tokens[order], new_index[scored]
            parents = np.where(parents < 0, np.int32(-1), new_index[parents])[order]
        return PackedRow(Row(tokens, parents, scored, targets, prefix_length, self.moments), tuple(self.spans))


def longest_first(parents: NDArray[np.int32], prefix_length: int) -> NDArray[np.int64]:
    """The indices of a row's tokens, depth first, with the longest branch of every segment first."""
    starts = np.flatnonzero(parents[prefix_length:] != np.arange(prefix_length - 1, len(parents) - 1)) + prefix_length
    forks = parents[starts] + 1
    cuts = np.unique(np.concatenate([[prefix_length], starts, forks[forks > prefix_length], [len(parents)]]))
    sizes = np.diff(cuts)
    above = np.searchsorted(cuts, parents[cuts[:-1]], side="right") - 1  # the node that each continues; -1 for none
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
