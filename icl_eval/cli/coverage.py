"""`icl-eval list --reference`: published numbers, and the tasks that can be compared with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from icl_eval.errors import IclEvalError, counted
from icl_eval.references import Published, published, published_metrics, reference_names

if TYPE_CHECKING:
    from icl_eval.tasks import Library


def coverage(paper: str, library: Library) -> tuple[list[str], list[IclEvalError]]:
    """A line for every row of a paper with the tasks and suites that carry it, and what is wrong with broken files.

    Raises:
        UnknownName: no numbers of this paper are known.
    """
    rows = reference_names(paper)
    carriers: dict[str, list[str]] = {row: [] for row in rows}
    broken = []
    for name in library.names():
        try:
            reference = _reference(library, name)
        except IclEvalError as error:
            broken.append(error)
        else:
            carriers.get(reference or "", []).append(name)
    lines = [
        (row.removeprefix(f"{paper}:"), ", ".join(_own_metrics(row)), ", ".join(carriers[row]) or "no task")
        for row in rows
    ]
    covered = sum(map(bool, carriers.values()))
    return [*_aligned(lines), f"{covered} of {len(rows)} rows have a task"], broken


def figures(reference: str) -> list[str]:
    """A line for every number of one row, metric by metric.

    Raises:
        UnknownName: there is no such row.
    """
    lines = []
    for metric in published_metrics(reference):
        lines += [f"{reference} {metric}", *_aligned([_cells(each) for each in published(reference, metric)]), ""]
    return lines[:-1] or [f"{reference} has no numbers"]


def _reference(library: Library, name: str) -> str | None:
    return library.suite(name).reference if library.is_suite(name) else library.task(name).definition.reference


def _own_metrics(row: str) -> list[str]:
    """The metrics of the paper itself."""
    return [
        metric for metric in published_metrics(row) if any(each.protocol is None for each in published(row, metric))
    ]


def _cells(figure: Published) -> tuple[str, ...]:
    shots = "" if figure.shots is None else counted(figure.shots, "shot")
    return figure.system, f"{figure.value:g}", shots, figure.split, figure.protocol or "", figure.source


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
