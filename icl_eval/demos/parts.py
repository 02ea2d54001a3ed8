"""What a pool holds, and its parts: the candidates that queries with one value of a field share."""

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


def listed(task: str, candidates: Sequence[Example], ids: Sequence[str] | None) -> Sequence[Example]:
    """The candidates with these ids, in their order; all, if there are none.

    Raises:
        UnknownName: an id is that of no candidate.
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
    """The groups among which a query's demonstrations are drawn, in the order of their keys, or that of the data.

    Attributes:
        indices: among all groups.
        folded: hashes of their names, after the first step of `ranks`, which does not depend on a query.
        sufficient: by a number of shots, whether a few of them hold enough for any query.
    """

    indices: NDArray[np.intp]
    folded: NDArray[np.uint64]
    sufficient: dict[int, bool] = field(default_factory=dict)


EMPTY = Part(np.empty(0, dtype=np.intp), np.empty(0, dtype=np.uint64))


def partition(
    keys: NDArray[np.uint64], example_of: Callable[[int], Example], *, within: str | None, in_order: bool
) -> dict[str, Part]:
    """The part of each value of a field.

    Args:
        keys: hashes of the names of all groups.
        example_of: an example of a group.
        within: the field; None for a single part.
        in_order: whether the groups keep the order of the data.
    """
    order = np.arange(len(keys)) if in_order else np.argsort(keys, kind="stable")
    if within is None:
        return {"": Part(order, folded(keys[order]))}
    parts: defaultdict[str, list[int]] = defaultdict(list)
    for index in order.tolist():
        parts[value_of(example_of(index), within)].append(index)
    return {value: Part(np.array(indices), folded(keys[indices])) for value, indices in parts.items()}


def value_of(example: Example, within: str | None) -> str:
    """The value that says in which part an example is.

    Raises:
        DataError: it has no such field.
    """
    if within is None:
        return ""
    if within not in example.fields:
        raise DataError(f"`protocol.within` names {within!r}, which is not a field of the example {example.id!r}")
    return str(example.fields[within])
