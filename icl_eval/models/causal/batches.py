"""Group rows into batches by token budget, longest first, and run a part of them as within the whole plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from icl_eval.models.causal.packing import PackedRow
from icl_eval.models.causal.rows import Row, depths
from icl_eval.models.protocol import WorkItem, attended_pairs, common_prefix


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are computed together."""

    rows: tuple[PackedRow, ...]
    new_prefix: int = 0  # tokens of their cached prefix that the batch before has not cached

    @property
    def tokens(self) -> int:
        """Tokens of the rows, including padding, without their cached prefix."""
        return len(self.rows) * max(len(packed.row.tokens) - packed.row.prefix_length for packed in self.rows)

    @property
    def computed(self) -> int:
        """Tokens that the model computes."""
        return self.tokens + self.new_prefix

    @property
    def targets(self) -> int:
        """Tokens to score."""
        return sum(len(packed.row.targets) for packed in self.rows)

    @property
    def attended(self) -> int:
        """Pairs of a computed token and one that it attends to, itself included."""
        rows = [packed.row for packed in self.rows]
        pairs = sum(int((depths(row.parents)[row.prefix_length :] + 1).sum()) for row in rows)
        return pairs + attended_pairs(rows[0].prefix_length - self.new_prefix, rows[0].prefix_length)


def batched(rows: Sequence[PackedRow], *, budget: int, targets: int, one_by_one: bool = False) -> list[Batch]:
    """Batches of at most `budget` tokens, including padding, and `targets` scored tokens, unless a row alone has more.

    Plain and branching rows go into separate batches, since one branching row would put a mask on all. Rows with a
    cached prefix come one by one, in the order of the trie, in which a prefix differs least from the one before; with
    `one_by_one`, all rows do.
    """
    if one_by_one:
        return _one_by_one(rows)
    after_prefixes = _one_by_one([packed for packed in rows if packed.row.prefix_length])
    others = [packed for packed in rows if not packed.row.prefix_length]
    ordered = sorted(others, key=lambda packed: (packed.row.is_linear, -len(packed.row.tokens)))
    batches: list[Batch] = []
    for _, alike in groupby(ordered, key=lambda packed: packed.row.is_linear):
        batches += _fill(list(alike), budget, targets)
    return batches + after_prefixes


def _one_by_one(rows: Sequence[PackedRow]) -> list[Batch]:
    batches: list[Batch] = []
    cached = np.empty(0, np.int32)
    for packed in rows:
        prefix = packed.row.tokens[: packed.row.prefix_length]
        batches.append(Batch((packed,), len(prefix) - common_prefix(cached, prefix)))
        cached = prefix if len(prefix) else cached
    return batches


def _fill(rows: list[PackedRow], budget: int, most_targets: int) -> list[Batch]:
    batches: list[Batch] = []
    current: list[PackedRow] = []
    targets = 0
    for packed in rows:  # longest first, so the first row of a batch sets its length
        longest = len(current[0].row.tokens) if current else len(packed.row.tokens)
        targets += len(packed.row.targets)
        if current and ((len(current) + 1) * longest > budget or targets > most_targets):
            batches.append(Batch(tuple(current)))
            current, targets = [], len(packed.row.targets)
        current.append(packed)
    return [*batches, Batch(tuple(current))] if current else batches


@dataclass(frozen=True, slots=True)
class Step:
    """One batch of a part.

    Attributes:
        batch: what is computed.
        clears: whether to clear the prefix cache first, because it holds other states than the batch continues.
        replay: rows to run after that; their prefixes give the states that the batch continues.
    """

    batch: Batch
    clears: bool = False
    replay: tuple[Row, ...] = ()

    @property
    def size(self) -> int:
        """Tokens of the batch, including padding, without its cached prefix."""
        return self.batch.tokens

    @property
    def divisible(self) -> bool:
        """Whether it holds more than one sequence."""
        return len(self.batch.rows) > 1 or not self.batch.rows[0].row.is_linear


def work_items(batches: Sequence[Batch]) -> list[WorkItem]:
    """Batches as items of a partition."""
    return [
        WorkItem(batch.computed, _prefix_length(batch) - batch.new_prefix if _prefix_length(batch) else None)
        for batch in batches
    ]


def steps(batches: Sequence[Batch], indices: Sequence[int]) -> Iterator[Step]:
    """The batches of a plan at these indices, in order; the prefix cache is empty before the first."""
    after_prefixes = [index for index, batch in enumerate(batches) if _prefix_length(batch)]
    order = {index: number for number, index in enumerate(after_prefixes)}
    done = 0  # batches after prefixes whose states the cache holds, as if all had run in order
    for index in indices:
        number = order.get(index)
        if number is None or number == done:
            yield Step(batches[index])
        else:
            rows = [batches[each].rows[0].row for each in after_prefixes[:number]]
            yield Step(batches[index], True, tuple(_prefix_row(row) for row in replayed_rows(rows)))
        done = done if number is None else number + 1


def replayed_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows that computed what is cached after the last row; the states of all others were dropped again."""
    found: list[tuple[int, Row]] = []  # with the tokens that were cached before each
    cached = np.empty(0, np.int32)
    for row in rows:
        prefix = row.tokens[: row.prefix_length]
        if (shared := common_prefix(cached, prefix)) < len(prefix):
            while found and found[-1][0] >= shared:
                found.pop()
            found.append((shared, row))
            cached = prefix
    return [row for _, row in found]


def _prefix_row(row: Row) -> Row:
    """A row's cached prefix and one more token, the least that can be computed after it."""
    size = row.prefix_length
    indices: NDArray[np.int32] = np.arange(size + 1, dtype=np.int32)
    return Row(row.tokens[: size + 1], indices - 1, indices[-1:], row.tokens[:1], size)


def _prefix_length(batch: Batch) -> int:
    return batch.rows[0].row.prefix_length
