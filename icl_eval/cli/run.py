"""`icl-eval run`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icl_eval.cli import options
from icl_eval.cli.terminal import remark, write
from icl_eval.config import DEVICES, EVALUATION, MODELS, RESULTS

if TYPE_CHECKING:
    from icl_eval.results.records import Failure
    from icl_eval.results.result import Result, Sweep

DEMONSTRATION = "no --model was given, so this is the demonstration: the bundled tiny GPT-2"
INTERRUPTED = 130


@options.takes(*(name for name in options.OF_RUNS if name != "revision"))
def run(
    tasks: list[str] | None,
    task: list[str] | None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL,...",
            help=f"{options.OF_COMMANDS['model'][1].help} Several are separated by commas. "
            "Default: a demonstration, the bundled `tiny` on the bundled sample.",
            rich_help_panel=EVALUATION,
        ),
    ] = None,
    *,
    data: str | None,
    data_dir: Path | None,
    include: list[Path] | None,
    format: options.Format,
    columns: list[str] | None,
    categories: bool,
    signatures: bool,
    no_report: bool,
    explain: Annotated[
        bool,
        typer.Option("--explain", rich_help_panel=RESULTS, help="Print the plan of the run, and compute nothing."),
    ] = False,
    revision: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,...",
            rich_help_panel=MODELS,
            help="Revisions of the models' repositories on the Hub, separated by commas or repeated.",
        ),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            rich_help_panel=DEVICES,
            help="Processes that share the work of each model, each with a GPU or its part of the cores.",
        ),
    ] = 1,
    **run_options: Any,
) -> None:
    """Evaluate one or several models on tasks.

    All answers are kept in the run folder; the same command computes only those that are missing.
    """
    with _resumable():
        run_options = options.read(run_options)
        models, revisions = options.models(model), options.words(revision)
        several = len(models) * max(len(revisions), 1) > 1
        from icl_eval.cli.processes import check_startable, end_with_launcher, start

        end_with_launcher()
        if processes > 1 and not explain:
            check_startable(processes, run_options["device"])
            raise typer.Exit(start(processes))
        from icl_eval.cli.progress import progress_bar
        from icl_eval.runs.evaluate import evaluate
        from icl_eval.runs.plan import explain as plan_of

        names, library = options.library_for(options.task_names(tasks, task), include)
        given: dict[str, Any] = {
            **run_options,
            "data": options.data_of(data, data_dir, otherwise=options.default_data(model)),
            "keep": True,
            "note": None if model else DEMONSTRATION,
            "library": library,
        }
        first, seen = options.is_first(), options.seen(columns, categories, signatures)
        if several:
            if explain:
                _explain_sweep(models, names, given | {"revisions": revisions})
                return
            from icl_eval.runs.sweep import sweep

            with progress_bar(shown=first) as progress:
                found: Result | Sweep = sweep(models, names, progress=progress, revisions=revisions, **given)
            _print(found, format, seen, has_report=not no_report)
            return
        given["revision"] = revisions[0] if revisions else None
        if explain:
            if first:
                plan = plan_of(models[0], names, **given)
                write(str(plan), end="")
                options.exit_if_incomplete(plan.failures)
            return
        with progress_bar(shown=first) as progress:
            found = evaluate(models[0], names, progress=progress, **given)
    _print(found, format, seen, has_report=not no_report)


def _print(found: Result | Sweep, format: options.Format, seen: dict[str, Any], *, has_report: bool) -> None:
    """Print the table in the first process; the exit code is 1 if scores are missing in it."""
    first = options.is_first()
    if first:
        write(found.table(format, **seen), end="")
        if has_report:
            from icl_eval.cli.report import write_beside

            write_beside(found)
        remark(f"kept in {found.folder}")
    options.exit_if_incomplete(found.missing, shown=first)


def _explain_sweep(models: list[str], names: list[str], given: dict[str, Any]) -> None:
    """Print the plans of several models, one after the other; the exit code is 1 if a task cannot be evaluated."""
    from icl_eval.runs.sweep import explain_sweep

    failures: list[Failure] = []
    for name, plan in explain_sweep(models, names, **given) if options.is_first() else ():
        write(f"{name}\n{plan}")
        failures += plan.failures
    options.exit_if_incomplete(failures)


@contextmanager
def _resumable() -> Iterator[None]:
    """Answer an interrupt with the command that continues the run; of several processes, their launcher prints it."""
    try:
        yield
    except KeyboardInterrupt as error:
        from icl_eval.engine import rank_and_world_size

        if rank_and_world_size()[1] > 1:
            raise typer.Exit(INTERRUPTED) from error
        command = shlex.join(["icl-eval", *sys.argv[1:]])
        remark(f"\ninterrupted; all answers are kept, and this command continues the run:\n  {command}")
        raise typer.Exit(INTERRUPTED) from error
