"""Run a part of a plan by itself on the same cached prefixes, bit by bit, as within the whole plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from icl_eval.engine.partition import WorkItem
from icl_eval.engine.plan import Batch
from icl_eval.models import Row, common_prefix


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
