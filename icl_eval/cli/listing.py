"""`icl-eval list`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icl_eval.cli import options
from icl_eval.cli.terminal import complain, write
from icl_eval.config import RESULTS, Option
from icl_eval.errors import IclEvalError, counted

if TYPE_CHECKING:
    from icl_eval.tasks import Library


@options.takes()
def list_names(
    match: Annotated[
        str, typer.Argument(metavar="MATCH", help="Only names that contain this; of a suite also its tasks.")
    ] = "",
    *,
    include: list[Path] | None,
    reference: Annotated[
        str | None,
        Option(
            "Published numbers: `gpt3` lists its rows and their tasks, `gpt3:LAMBADA` one row.", RESULTS, "PAPER[:ROW]"
        ),
    ] = None,
) -> None:
    """List tasks, suites and prompts, or published numbers."""
    from icl_eval.tasks import Library

    library = Library(include or [])
    if reference is not None:
        if match:
            raise IclEvalError(f"--reference takes no MATCH; it was given {match!r}")
        _print_reference(reference, library)
        return
    members = _members(library, match)
    names = [name for name in library.names() if match in name or name in members]
    if not names:
        raise IclEvalError(f"no task or suite has {match!r} in its name")
    width = max(map(len, names))
    broken = []
    for name in names:
        try:
            write(f"{name:{width}}  {_describe(library, name)}")
        except IclEvalError as error:
            broken.append(error)
    _complain(broken)


def _members(library: Library, name: str) -> set[str]:
    """The tasks of a suite and of the suites in it; none of what is no suite or has a broken file, which is named."""
    from icl_eval.tasks import tasks_of

    try:
        suites = library.nested(name) if name in library.names() and library.is_suite(name) else {}
    except IclEvalError:
        return set()
    return set(tasks_of(suites[name], suites)) if suites else set()


def _print_reference(reference: str, library: Library) -> None:
    from icl_eval.cli.coverage import coverage, figures

    lines, broken = (figures(reference), []) if ":" in reference else coverage(reference, library)
    write("\n".join(lines))
    _complain(broken)


def _complain(broken: Sequence[IclEvalError]) -> None:
    for problem in broken:
        complain(problem)
    if broken:
        raise typer.Exit(2)


def _describe(library: Library, name: str) -> str:
    if library.is_suite(name):
        suite = library.suite(name)
        return f"suite of {len(suite.tasks)}: {suite.about}"
    task = library.task(name)
    found = task.definition
    metrics, prompts = ", ".join(found.metrics), ", ".join(found.prompts)
    return f"{found.about} [{counted(found.own_shots, 'shot')}; {metrics}; prompts {prompts}]"
