"""`icl-eval run`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icl_eval.cli import options
from icl_eval.cli.terminal import remark, write, write_table
from icl_eval.config import DEVICES, EVALUATION, MODELS, RESULTS, Option

if TYPE_CHECKING:
    from icl_eval.results.records import Failure
    from icl_eval.results.result import Result, Sweep

DEMO_NOTE = "no --model was given, so the bundled tiny GPT-2 was evaluated"
MODEL_HELP = f"{options.COMMAND_OPTIONS['model'][1].help} Default: `tiny` on the sample."
INTERRUPTED = 130


@options.takes(*(name for name in options.RUN_OPTIONS if name != "revision"))
def run(
    tasks: list[str] | None,
    task: list[str] | None,
    model: Annotated[
        list[str] | None,
        Option(MODEL_HELP, EVALUATION, "MODEL,...", flags=("--model", "-m")),
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
    explain: Annotated[bool, Option("Print the plan of the run without computing anything.", RESULTS)] = False,
    revision: Annotated[
        list[str] | None,
        Option(
            "Revisions of the models' repositories on the Hub, separated by commas or repeated.", MODELS, "NAME,..."
        ),
    ] = None,
    processes: Annotated[
        int,
        Option("Processes that share the work, each on its own GPU or CPU cores.", DEVICES, "N", minimum=1),
    ] = 1,
    **run_options: Any,
) -> None:
    """Evaluate one or several models on tasks.

    All answers are stored in the run folder. Repeating the command computes only the missing ones.
    """
    with _resumable():
        run_options = options.read(run_options)
        models, revisions = options.models(model), options.words(revision)
        from icl_eval.cli.processes import start, stop_with_launcher
        from icl_eval.cli.progress import progress_bar

        stop_with_launcher()
        if processes > 1 and not explain:
            raise typer.Exit(start(processes, run_options["device"]))
        names, library = options.library_for(options.task_names(tasks, task), include)
        arguments: dict[str, Any] = {
            **run_options,
            "data": options.data_of(data, data_dir, default=options.default_data(model)),
            "keep": True,
            "note": None if model else DEMO_NOTE,
            "library": library,
        }
        if explain:
            _explain(models, revisions, names, arguments)
            return
        is_bounded = run_options["until"] is not None or run_options["budget"] is not None
        with progress_bar(shown=options.is_first(), at_most=is_bounded) as progress:
            result = _evaluation(models, revisions)(names, progress=progress, **arguments)
    _print(result, format, options.table_options(columns, categories, signatures), has_report=not no_report)


def _is_sweep(models: list[str], revisions: list[str]) -> bool:
    return len(models) * max(len(revisions), 1) > 1


def _explain(models: list[str], revisions: list[str], names: list[str], arguments: dict[str, Any]) -> None:
    """Print the plan of each model, in the first process only. Exit with code 1 if a task cannot be evaluated."""
    from icl_eval.runs.plan import explain
    from icl_eval.runs.sweep import explain_sweep

    if not options.is_first():
        return
    if _is_sweep(models, revisions):
        plans = explain_sweep(models, names, revisions=revisions, **arguments)
    else:
        plans = iter([("", explain(models[0], names, revision=next(iter(revisions), None), **arguments))])
    failures: list[Failure] = []
    for name, plan in plans:
        write(f"{name}\n{plan}" if name else str(plan), end="\n" if name else "")
        failures += plan.failures
    options.exit_if_incomplete(failures)


def _evaluation(models: list[str], revisions: list[str]) -> Callable[..., Result | Sweep]:
    """`evaluate` for one model, or `sweep` for several models or revisions."""
    from icl_eval.runs.evaluate import evaluate
    from icl_eval.runs.sweep import sweep

    if _is_sweep(models, revisions):
        return partial(sweep, models, revisions=revisions)
    return partial(evaluate, models[0], revision=next(iter(revisions), None))


def _print(result: Result | Sweep, format: options.Format, seen: dict[str, Any], *, has_report: bool) -> None:
    """Print the table, in the first process only. Exit with code 1 if scores are missing."""
    first = options.is_first()
    if first:
        write_table(result.table(format, **seen), format)
        if has_report:
            from icl_eval.cli.report import write_into_folder

            write_into_folder(result)
        remark(f"stored in {result.folder}")
    options.exit_if_incomplete(result.missing, shown=first)


@contextmanager
def _resumable() -> Iterator[None]:
    """On an interrupt, print the command that continues the run; with several processes, their launcher prints it."""
    try:
        yield
    except KeyboardInterrupt as error:
        from icl_eval.engine import rank_and_world_size

        if rank_and_world_size()[1] > 1:
            raise typer.Exit(INTERRUPTED) from error
        command = shlex.join(["icl-eval", *sys.argv[1:]])
        remark(f"\ninterrupted; all answers are stored, and this command continues the run:\n  {command}")
        raise typer.Exit(INTERRUPTED) from error
