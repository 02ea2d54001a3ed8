"""Requests to rows: sorted token sequences form a trie, and a row holds as much of it as pays.

In sorted order every sequence shares its longest prefix with its neighbour, so the trie is walked depth first by
appending to a row only what the sequence before did not have. Where a row is full, the prefix that the next one would
repeat becomes the stem of both: computed once, kept, and continued by every row that begins with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from icl_eval.models import Row, ScoreRequest, common_prefix

STEM = 64  # tokens of a shared prefix from which on keeping its states beats computing them again
STEM_ROW = 1024  # new tokens of a row on a kept stem: enough to be efficient, few enough not to attend in vain
SMALL_ROW = 512  # tokens below which a longer row costs a processor no more per token
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
class Terms:
    """What rows a model takes, and what they cost it.

    Attributes:
        share: whether rows may branch; otherwise a row is one sequence, extended only by longer ones of itself.
        limit: tokens of a row that holds several sequences.
        targets: scored places of such a row.
        width: the model's hidden size, from which the cost of attention between strangers is weighed.
        stems: whether rows may share a kept stem.
        skips: whether attention between strangers costs nothing.
    """

    share: bool
    limit: int
    width: int
    targets: int = 2**31
    stems: bool = False
    skips: bool = False


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
            stem = min(shared, boundary - 1) if terms.stems else 0
            yield row.close(stem)
            row = _OpenRow.on(terms, tokens[:stem]) if stem >= STEM else _OpenRow(terms)
            shared = common_prefix(row.last, tokens[:-1])
        row.add(index, tokens, boundary, shared)
    if row.spans:
        yield row.close()


@dataclass(slots=True)
class _OpenRow:
    """A row being filled; `path[d]` is the place of token d of the sequence added last."""

    terms: Terms
    stem: int = 0
    length: int = 0
    asked: int = 0
    path: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    last: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    tokens: list[NDArray[np.int32]] = field(default_factory=list)
    parents: list[NDArray[np.int32]] = field(default_factory=list)
    scored: list[NDArray[np.int32]] = field(default_factory=list)
    targets: list[NDArray[np.int32]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    @classmethod
    def on(cls, terms: Terms, stem: NDArray[np.int32]) -> _OpenRow:
        """A row that begins with tokens whose states are kept."""
        places = np.arange(len(stem), dtype=np.int32)
        return cls(terms, len(stem), len(stem), path=places, last=stem, tokens=[stem], parents=[places - 1])

    def welcomes(self, shared: int, length: int, boundary: int) -> bool:
        """Whether to continue this row rather than compute the shared prefix again in the next one."""
        terms, new = self.terms, length - 1 - shared
        if not terms.share:
            return shared == len(self.last)
        own = self.length - self.stem + new
        if own > terms.limit or self.asked + length - boundary > terms.targets or boundary <= self.stem:
            return False
        if terms.skips:
            return True
        if self.stem and own > STEM_ROW:
            return False
        attended_in_vain = new * (2 * self.length - shared)
        return own <= SMALL_ROW or shared * PAIRS_PER_TOKEN * terms.width >= attended_in_vain

    def add(self, request: int, tokens: NDArray[np.int32], boundary: int, shared: int) -> None:
        inputs = tokens[:-1]
        new = np.arange(self.length, self.length + len(inputs) - shared, dtype=np.int32)
        if len(new):
            before = self.path[shared - 1] if shared else -1
            self.tokens.append(inputs[shared:])
            self.parents.append(np.concatenate([[before], new[:-1]]).astype(np.int32))
        self.path = np.concatenate([self.path[:shared], new])
        self.last, self.length = inputs, self.length + len(new)
        start, self.asked = self.asked, self.asked + len(tokens) - boundary
        self.spans.append(Span(request, start, self.asked))
        self.scored.append(self.path[boundary - 1 :])
        self.targets.append(tokens[boundary:])

    def close(self, wanted: int = 0) -> PackedRow:
        """The row; its first `wanted` tokens become its stem if they are one sequence and nothing is scored there."""
        scored = np.concatenate(self.scored)
        leads = bool((self.path[:wanted] == np.arange(wanted)).all()) and wanted <= scored.min()
        stem = max(self.stem, wanted) if wanted >= STEM and leads else self.stem
        tokens, parents, targets = (np.concatenate(part) for part in (self.tokens, self.parents, self.targets))
        if self.terms.skips:
            order = longest_first(parents, stem)
            place = np.argsort(order).astype(np.int32)  # from the old one to the new one
            tokens, scored = tokens[order], place[scored]
            parents = np.where(parents < 0, np.int32(-1), place[parents])[order]
        return PackedRow(Row(tokens, parents, scored, targets, stem), tuple(self.spans))


def longest_first(parents: NDArray[np.int32], stem: int) -> NDArray[np.int64]:
    """The places of a row in an order, still depth first, in which every run goes on to its farthest end."""
    starts = np.flatnonzero(parents[stem:] != np.arange(stem - 1, len(parents) - 1)) + stem
    forks = parents[starts] + 1
    cuts = np.unique(np.concatenate([[stem], starts, forks[forks > stem], [len(parents)]]))
    sizes = np.diff(cuts)
    above = np.searchsorted(cuts, parents[cuts[:-1]], side="right") - 1  # the node that each continues; -1 for none
    reach, below = sizes.tolist(), [list[int]() for _ in sizes]
    for node in range(len(sizes) - 1, -1, -1):
        if (parent := int(above[node])) >= 0:
            below[parent].append(node)
            reach[parent] = max(reach[parent], int(sizes[parent]) + reach[node])
    order: list[int] = []
    waiting = [node for node in range(len(sizes) - 1, -1, -1) if above[node] < 0]
    while waiting:
        order.append(node := waiting.pop())
        waiting += sorted(below[node], key=lambda child: (reach[child], -child))
    return np.concatenate([np.arange(stem), *(np.arange(cuts[node], cuts[node + 1]) for node in order)])
