"""A part of a plan as it is computed apart: on the same kept states, bit by bit, as within the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from icl_eval.engine.dealing import Unit
from icl_eval.engine.plan import Batch
from icl_eval.models import Row, common_prefix


@dataclass(frozen=True, slots=True)
class Step:
    """One batch of a part.

    Attributes:
        batch: what is computed.
        anew: whether the states that are kept are not those that the batch goes on from.
        first: rows whose stems give these, after nothing.
    """

    batch: Batch
    anew: bool = False
    first: tuple[Row, ...] = ()


def units(batches: Sequence[Batch]) -> list[Unit]:
    """Batches as what is dealt out."""
    return [
        Unit(batch.computed, _prefix_length(batch) - batch.new_prefix if _prefix_length(batch) else None)
        for batch in batches
    ]


def steps(batches: Sequence[Batch], places: Sequence[int]) -> Iterator[Step]:
    """The batches at these places of a plan, in order; nothing is kept before the first."""
    after_prefixes = [place for place, batch in enumerate(batches) if _prefix_length(batch)]
    order = {place: number for number, place in enumerate(after_prefixes)}
    done = 0  # of the batches on stems, as far as the states that are kept tell
    for place in places:
        number = order.get(place)
        if number is None or number == done:
            yield Step(batches[place])
        else:
            rows = [batches[each].rows[0].row for each in after_prefixes[:number]]
            yield Step(batches[place], True, tuple(_opening(row) for row in lineage(rows)))
        done = done if number is None else number + 1


def lineage(rows: Sequence[Row]) -> list[Row]:
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


def _opening(row: Row) -> Row:
    """A row's cached prefix and one more token, the least that can be computed after it."""
    size = row.prefix_length
    indices: NDArray[np.int32] = np.arange(size + 1, dtype=np.int32)
    return Row(row.tokens[: size + 1], indices - 1, indices[-1:], row.tokens[:1], size)


def _prefix_length(batch: Batch) -> int:
    return batch.rows[0].row.prefix_length
