"""`icl-eval rescore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from icl_eval.cli import options
from icl_eval.cli.terminal import write
from icl_eval.config import RESULTS, Option


@options.takes("normalizations", "metrics", "trust_remote_code")
def rescore(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a run or of a sweep.")],
    *,
    extract: Annotated[
        Path | None,
        Option(
            "Task file whose `extract` rules extract answers from the stored texts. Default: the run's own rules.",
            RESULTS,
            "FILE",
        ),
    ] = None,
    reasoning_end: Annotated[
        str | None,
        Option("Text before the answer in stored texts, such as </think>. Default: the tasks' own.", RESULTS, "MARK"),
    ] = None,
    contamination: Annotated[
        Path | None,
        Option("Score clean and dirty examples separately; FILE is from `icl-eval contamination`.", RESULTS, "FILE"),
    ] = None,
    format: options.Format,
    columns: list[str] | None,
    categories: bool,
    signatures: bool,
    no_report: bool,
    **scoring_options: Any,
) -> None:
    """Recompute scores from a finished run without the model.

    Every normalisation and every metric that fits the answers can be computed. If tasks or models have no scores, they
    are named, and the exit code is 1.
    """
    from icl_eval.analysis.rescore import rescore as again
    from icl_eval.analysis.rescore import rescore_sweep, rules_in
    from icl_eval.results.members import is_sweep

    recompute = rescore_sweep if is_sweep(folder) else again
    rules = None if extract is None else rules_in(extract)
    result = recompute(
        folder,
        extract=rules,
        reasoning_end=reasoning_end,
        contamination=contamination,
        **options.read(scoring_options),
    )
    write(result.table(format, **options.seen(columns, categories, signatures)), end="")
    if not no_report:
        from icl_eval.cli.report import write_beside

        write_beside(result)
    options.exit_if_incomplete(result.missing, shown=True)
