"""`icl-eval list`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icl_eval.cli import options
from icl_eval.cli.terminal import print_error, write
from icl_eval.config import RESULTS, Option
from icl_eval.errors import IclEvalError, counted

if TYPE_CHECKING:
    from icl_eval.tasks import Library


@options.takes()
def list_names(
    match: Annotated[
        str,
        typer.Argument(
            metavar="MATCH", help="Only names that contain this text, and the tasks of a suite of this name."
        ),
    ] = "",
    *,
    include: list[Path] | None,
    reference: Annotated[
        str | None,
        Option(
            "Published numbers: `gpt3` lists all rows and their tasks, `gpt3:LAMBADA` the numbers of one row.",
            RESULTS,
            "PAPER[:ROW]",
        ),
    ] = None,
) -> None:
    """List tasks, suites and prompts, or published numbers."""
    from icl_eval.tasks import Library

    library = Library(include or [])
    if reference is not None:
        if match:
            raise IclEvalError(f"--reference takes no MATCH, but {match!r} is given")
        _print_reference(reference, library)
        return
    members = _members(library, match)
    names = [name for name in library.names() if match in name or name in members]
    if not names:
        raise IclEvalError(f"no task or suite has {match!r} in its name")
    width = max(map(len, names))
    errors = []
    for name in names:
        try:
            write(f"{name:{width}}  {_describe(library, name)}")
        except IclEvalError as error:
            errors.append(error)
    _print_errors(errors)


def _members(library: Library, name: str) -> set[str]:
    """The tasks of a suite and of the suites in it; empty if it is not a suite or its file is invalid."""
    from icl_eval.tasks import tasks_of

    try:
        suites = library.nested(name) if name in library.names() and library.is_suite(name) else {}
    except IclEvalError:
        return set()
    return set(tasks_of(suites[name], suites)) if suites else set()


def _print_reference(reference: str, library: Library) -> None:
    from icl_eval.cli.coverage import coverage, published_numbers

    lines, errors = (published_numbers(reference), []) if ":" in reference else coverage(reference, library)
    write("\n".join(lines))
    _print_errors(errors)


def _describe(library: Library, name: str) -> str:
    if library.is_suite(name):
        suite = library.suite(name)
        return f"suite of {len(suite.tasks)}: {suite.about}"
    task = library.task(name)
    definition = task.definition
    metrics, prompts = ", ".join(definition.metrics), ", ".join(definition.prompts)
    return f"{definition.about} [{counted(definition.own_shots, 'shot')}; {metrics}; prompts {prompts}]"


def _print_errors(errors: Sequence[IclEvalError]) -> None:
    for error in errors:
        print_error(error)
    if errors:
        raise typer.Exit(2)
