"""`icl-eval import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from icl_eval.cli import options
from icl_eval.cli.terminal import print_error, remark, write
from icl_eval.config import EVALUATION, RESULTS, Option
from icl_eval.errors import IclEvalError


@options.takes("trust_remote_code")
def import_tasks(
    harness: Annotated[
        Literal["lm-eval", "bigbench"],
        typer.Argument(metavar="lm-eval|bigbench", help="The harness that the files are from."),
    ],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="YAML files of lm-evaluation-harness, or BIG-bench JSON tasks."),
    ],
    *,
    folder: Annotated[Path, Option("Folder for `tasks`, `prompts` and `data`.", RESULTS, "FOLDER", flags=("--out",))],
    data: Annotated[
        str | None, Option("Read records from the Hub, to store or compare them.", EVALUATION, "hub")
    ] = None,
    data_dir: Annotated[
        Path | None,
        Option(
            "Read records from files in the layout of the Hub, such as lm-eval/TASK/test.jsonl.",
            EVALUATION,
            "FOLDER",
        ),
    ] = None,
    trust_remote_code: bool,
) -> None:
    """Convert tasks of another harness to task files.

    A report lists what was converted, changed or left out. Files that cannot be imported are reported; the exit code is
    1 if only some of them failed.
    """
    from icl_eval.importing.bigbench import import_bigbench
    from icl_eval.importing.lm_eval import LmEvalImport
    from icl_eval.runs.tasks import source_of

    location = options.data_of(data, data_dir, default="") or None
    source = None if location is None else source_of(location)
    importer = LmEvalImport(folder, source, trust_remote_code)
    failures: list[IclEvalError] = []
    for file in files:
        try:
            found = importer.file(file) if harness == "lm-eval" else [import_bigbench(file, folder)]
        except IclEvalError as error:
            if len(files) == 1:
                raise
            failures.append(error)
            print_error(error)
            continue
        for each in found:
            write(str(each))
    if failures and len(failures) == len(files):
        raise typer.Exit(2)
    remark(f"written to {folder}; run them with --include {folder}")
    options.exit_if_incomplete(failures)
