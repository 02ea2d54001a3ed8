"""`icl-eval list`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from icl_eval.cli import options
from icl_eval.errors import IclEvalError

if TYPE_CHECKING:
    from icl_eval.tasks import Library


def list_names(
    match: Annotated[str, typer.Argument(help="Only names that contain this.")] = "",
    include: options.Include = None,
) -> None:
    """List tasks, suites and prompts."""
    from icl_eval.tasks import Library

    library = Library(include or [])
    names = [name for name in library.names() if match in name]
    if not names:
        raise IclEvalError(f"no task or suite has {match!r} in its name")
    width = max(map(len, names))
    broken = []
    for name in names:
        try:
            print(f"{name:{width}}  {_describe(library, name)}")
        except IclEvalError as error:
            broken.append(error)
    for problem in broken:
        options.complain(problem)
    if broken:
        raise typer.Exit(2)


def _describe(library: Library, name: str) -> str:
    if library.is_suite(name):
        suite = library.suite(name)
        return f"suite of {len(suite.tasks)}: {suite.about}"
    task = library.task(name)
    said = task.definition
    return f"{said.about} [{said.protocol.shots} shots; {', '.join(said.metrics)}; prompts {', '.join(said.prompts)}]"
