"""Requests to rows: sorted token sequences form a trie, and a row holds as much of it as pays.

In sorted order every sequence shares its longest prefix with its neighbour, so the trie is walked depth first by
appending to a row only what the sequence before did not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from icl_eval.models import Row, ScoreRequest

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


def pack(requests: Mapping[int, ScoreRequest], *, share: bool, limit: int, width: int) -> list[PackedRow]:
    """Rows that answer all requests.

    Args:
        requests: what is asked, by number.
        share: whether rows may branch; otherwise a row is one sequence, extended only by longer ones of itself.
        limit: tokens of a row that holds several sequences.
        width: the model's hidden size, from which the cost of attention between strangers is weighed.
    """
    return list(_rows(requests, share=share, limit=limit, width=width))


def _rows(requests: Mapping[int, ScoreRequest], *, share: bool, limit: int, width: int) -> Iterator[PackedRow]:
    row = _OpenRow()
    for index in sorted(requests, key=lambda index: requests[index].tokens):
        tokens = np.frombuffer(requests[index].tokens, dtype=np.int32)
        shared = row.shared_with(tokens[:-1])
        if row.length and not row.welcomes(shared, len(tokens) - 1 - shared, share=share, limit=limit, width=width):
            yield row.close()
            row, shared = _OpenRow(), 0
        row.add(index, tokens, requests[index].boundary, shared)
    if row.length:
        yield row.close()


@dataclass(slots=True)
class _OpenRow:
    """A row being filled; `path[d]` is the place of token d of the sequence added last."""

    length: int = 0
    path: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    last: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    tokens: list[NDArray[np.int32]] = field(default_factory=list)
    parents: list[NDArray[np.int32]] = field(default_factory=list)
    scored: list[NDArray[np.int32]] = field(default_factory=list)
    targets: list[NDArray[np.int32]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    def shared_with(self, inputs: NDArray[np.int32]) -> int:
        size = min(len(self.last), len(inputs))
        different = np.flatnonzero(self.last[:size] != inputs[:size])
        return int(different[0]) if len(different) else size

    def welcomes(self, shared: int, new: int, *, share: bool, limit: int, width: int) -> bool:
        """Whether to continue this row rather than compute the shared prefix again in the next one."""
        if not share:
            return shared == len(self.last)
        if self.length + new > limit:
            return False
        attended_in_vain = new * (2 * self.length - shared)
        return self.length + new <= SMALL_ROW or shared * PAIRS_PER_TOKEN * width >= attended_in_vain

    def add(self, request: int, tokens: NDArray[np.int32], boundary: int, shared: int) -> None:
        inputs = tokens[:-1]
        new = np.arange(self.length, self.length + len(inputs) - shared, dtype=np.int32)
        if len(new):
            before = self.path[shared - 1] if shared else -1
            self.tokens.append(inputs[shared:])
            self.parents.append(np.concatenate([[before], new[:-1]]).astype(np.int32))
        self.path = np.concatenate([self.path[:shared], new])
        self.last, self.length = inputs, self.length + len(new)
        start = self.spans[-1].stop if self.spans else 0
        self.spans.append(Span(request, start, start + len(tokens) - boundary))
        self.scored.append(self.path[boundary - 1 :])
        self.targets.append(tokens[boundary:])

    def close(self) -> PackedRow:
        join = np.concatenate
        row = Row(join(self.tokens), join(self.parents), join(self.scored), join(self.targets))
        return PackedRow(row, tuple(self.spans))
