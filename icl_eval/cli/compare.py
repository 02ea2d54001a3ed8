"""`icl-eval compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from icl_eval.cli import options
from icl_eval.cli.terminal import write_table


@options.takes("normalizations", "metrics", "trust_remote_code")
def compare(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a run.")],
    others: Annotated[
        list[Path], typer.Argument(metavar="OTHER...", help="Folders of other runs on the same examples.")
    ],
    *,
    format: options.Format,
    columns: list[str] | None,
    categories: bool,
    signatures: bool,
    no_report: bool,
    **scoring_options: Any,
) -> None:
    """Compute paired differences between finished runs.

    Differences are OTHER minus FOLDER. Scores that only one run has are listed below the table. No model is loaded.
    """
    from icl_eval.analysis.compare import compare_with_first

    found = compare_with_first([folder, *others], **options.read(scoring_options))
    write_table(found.table(format, **options.table_options(columns, categories, signatures)), format)
    if not no_report:
        from icl_eval.cli.report import write_comparison

        for each, other in zip(found, others, strict=True):
            write_comparison(each, folder, other)
