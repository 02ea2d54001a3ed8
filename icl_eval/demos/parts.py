"""The parts of a pool: candidates with the same value of a field, among which a query's demonstrations are drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from icl_eval.demos.ranks import folded
from icl_eval.errors import DataError, UnknownName
from icl_eval.tasks.example import Example
from icl_eval.tasks.records import ids_of


def with_ids(task: str, candidates: Sequence[Example], ids: Sequence[str] | None) -> Sequence[Example]:
    """The candidates with these ids, in the order of the ids; all candidates if `ids` is None.

    Raises:
        UnknownName: no candidate has one of the ids.
    """
    if ids is None:
        return candidates
    index_of = {id: index for index, id in enumerate(ids_of(candidates))}
    for id in ids:
        if id not in index_of:
            raise UnknownName(f"demonstration of {task}", id, index_of)
    return [candidates[index_of[id]] for id in ids]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The groups of candidates among which a query's demonstrations are drawn, sorted by hash or as in the data.

    Attributes:
        indices: the indices of the groups among all groups.
        folded: hashes of their names, after the first step of `ranks`, which does not depend on the query.
        sufficient: by number of shots, whether the first few groups are known to be enough for any query.
    """

    indices: NDArray[np.intp]
    folded: NDArray[np.uint64]
    sufficient: dict[int, bool] = field(default_factory=dict)


EMPTY = Part(np.empty(0, dtype=np.intp), np.empty(0, dtype=np.uint64))


def partition(
    keys: NDArray[np.uint64], example_of: Callable[[int], Example], *, within: str | None, in_order: bool
) -> dict[str, Part]:
    """The part of a pool for each value of a field.

    Args:
        keys: hashes of the names of all groups.
        example_of: returns an example of the group with this index.
        within: the name of the field; None for a single part.
        in_order: whether the groups stay in the order of the data.
    """
    order = np.arange(len(keys)) if in_order else np.argsort(keys, kind="stable")
    if within is None:
        return {"": Part(order, folded(keys[order]))}
    parts: defaultdict[str, list[int]] = defaultdict(list)
    for index in order.tolist():
        parts[value_of(example_of(index), within)].append(index)
    return {value: Part(np.array(indices), folded(keys[indices])) for value, indices in parts.items()}


def value_of(example: Example, within: str | None) -> str:
    """The value of an example's field, which says in which part it is; empty if `within` is None.

    Raises:
        DataError: the example has no such field.
    """
    if within is None:
        return ""
    if within not in example.fields:
        raise DataError(f"`protocol.within` names {within!r}, which is not a field of the example {example.id!r}")
    return str(example.fields[within])
