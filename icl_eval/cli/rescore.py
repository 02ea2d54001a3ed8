"""`icl-eval rescore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from icl_eval.cli import options
from icl_eval.cli.terminal import write
from icl_eval.config import RESULTS


@options.takes("normalizations", "trust_remote_code")
def rescore(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A run folder, or that of a sweep.")],
    *,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metrics",
            metavar="NAME,...",
            rich_help_panel=RESULTS,
            help="Metrics to score by, of the tasks that they fit. Default: their own.",
        ),
    ] = None,
    extract: Annotated[
        Path | None,
        typer.Option(
            "--extract",
            metavar="FILE",
            rich_help_panel=RESULTS,
            help="Task file whose `extract` takes answers out of the stored texts. Default: the run's own rules.",
        ),
    ] = None,
    format: options.Format,
    **scoring_options: Any,
) -> None:
    """Take the scores of a finished run again, without its model.

    Other normalisations and metrics than the run's may be asked for: all that they need is stored. Tasks and models
    without scores are named, and the exit code is then 1.
    """
    from icl_eval.results.members import is_sweep
    from icl_eval.runs.rescore import rescore as again
    from icl_eval.runs.rescore import rescore_sweep, rules_in

    taken = rescore_sweep if is_sweep(folder) else again
    rules = None if extract is None else rules_in(extract)
    result = taken(folder, metrics=options.words(metrics), extract=rules, **options.read(scoring_options))
    write(result.table(format), end="")
    options.exit_if_incomplete(result.missing, shown=True)
