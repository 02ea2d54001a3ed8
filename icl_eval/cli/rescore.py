"""`icl-eval rescore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from icl_eval.cli import options
from icl_eval.cli.terminal import write_table
from icl_eval.config import RESULTS, Option


@options.takes("normalizations", "metrics", "trust_remote_code")
def rescore(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a run or of a sweep.")],
    *,
    extract: Annotated[
        Path | None,
        Option(
            "Task file with `extract` rules to apply to the stored texts. Default: the rules of the run.",
            RESULTS,
            "FILE",
        ),
    ] = None,
    reasoning_end: Annotated[
        str | None,
        Option(
            "Text that ends the reasoning in stored texts, such as </think>. Default: each task's own.", RESULTS, "MARK"
        ),
    ] = None,
    contamination: Annotated[
        Path | None,
        Option("Score clean and dirty examples separately; `icl-eval contamination` writes FILE.", RESULTS, "FILE"),
    ] = None,
    format: options.Format,
    columns: list[str] | None,
    categories: bool,
    signatures: bool,
    no_report: bool,
    **scoring_options: Any,
) -> None:
    """Recompute scores from a finished run without the model.

    You can choose other normalisations, and other metrics that fit the answers. Tasks or models without scores are
    listed, and the exit code is then 1.
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
    write_table(result.table(format, **options.table_options(columns, categories, signatures)), format)
    if not no_report:
        from icl_eval.cli.report import write_into_folder

        write_into_folder(result)
    options.exit_if_incomplete(result.missing, shown=True)
