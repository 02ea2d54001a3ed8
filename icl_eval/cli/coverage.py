"""`icl-eval list --reference`: published numbers, and the tasks that can be compared with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from icl_eval.errors import IclEvalError, counted
from icl_eval.references import Published, published, published_metrics, reference_names

if TYPE_CHECKING:
    from icl_eval.tasks import Library


def coverage(paper: str, library: Library) -> tuple[list[str], list[IclEvalError]]:
    """A line for each row of a paper with the tasks and suites that reference it, and the errors of invalid files.

    Raises:
        UnknownName: there are no numbers from this paper.
    """
    rows = reference_names(paper)
    users: dict[str, list[str]] = {row: [] for row in rows}
    errors = []
    for name in library.names():
        try:
            reference = _reference(library, name)
        except IclEvalError as error:
            errors.append(error)
        else:
            users.get(reference or "", []).append(name)
    lines = [
        (row.removeprefix(f"{paper}:"), ", ".join(_paper_metrics(row)), ", ".join(users[row]) or "no task")
        for row in rows
    ]
    covered = sum(map(bool, users.values()))
    return [*_aligned(lines), f"{covered} of {len(rows)} rows have a task"], errors


def published_numbers(reference: str) -> list[str]:
    """A line for each published number of a row, grouped by metric.

    Raises:
        UnknownName: the row does not exist.
    """
    lines = []
    for metric in published_metrics(reference):
        lines += [f"{reference} {metric}", *_aligned([_cells(each) for each in published(reference, metric)]), ""]
    return lines[:-1] or [f"{reference} has no numbers"]


def _reference(library: Library, name: str) -> str | None:
    return library.suite(name).reference if library.is_suite(name) else library.task(name).definition.reference


def _paper_metrics(row: str) -> list[str]:
    """The metrics of the numbers that the paper itself reports."""
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
