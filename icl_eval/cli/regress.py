"""`icl-eval regress`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icl_eval.cli import options
from icl_eval.cli.terminal import remark, write
from icl_eval.config import EVALUATION, RESULTS, Option
from icl_eval.errors import counted

if TYPE_CHECKING:
    from icl_eval.runs.regress import Regression

CHANGED = 1


@options.takes("device", "trust_remote_code", "allow_pickle")
def regress(
    baseline: Annotated[Path, typer.Argument(metavar="BASELINE", help="A baseline file.")],
    *,
    update: Annotated[
        Path | None, Option("Write the baseline from this finished run, instead of running it.", RESULTS, "FOLDER")
    ] = None,
    model: Annotated[
        str | None,
        Option(
            "Another path to the same model. Default: the model of the baseline.",
            EVALUATION,
            "MODEL",
            flags=("--model", "-m"),
        ),
    ] = None,
    data: Annotated[
        str | None,
        Option("Data of the Hub, or the bundled sample. Default: the data of the baseline.", EVALUATION, "hub|sample"),
    ] = None,
    data_dir: Path | None,
    include: list[Path] | None,
    **model_options: Any,
) -> None:
    """Run a baseline again and print every number that changed.

    The exit code is 1 if a log-probability or a score changed. `--update` writes a baseline from a run folder.
    """
    from icl_eval.cli.progress import progress_bar
    from icl_eval.runs import regress as runs
    from icl_eval.tasks import Library

    model_options = options.read(model_options)
    if update is not None:
        new = runs.make_baseline(update, trust_remote_code=model_options["trust_remote_code"])
        runs.write_baseline(new, baseline)
        write(f"{baseline}: {counted(len(new.examples), 'answered example')}, {counted(len(new.scores), 'score')}")
        return
    expected = runs.read_baseline(baseline)
    is_bounded = expected.config.until is not None or expected.config.budget is not None
    with progress_bar(at_most=is_bounded) as progress:
        found = runs.regress(
            expected,
            model,
            data=options.data_of(data, data_dir, default=expected.config.data),
            library=Library(include or []),
            progress=progress,
            **model_options,
        )
    _print(found, baseline)
    if found:
        raise typer.Exit(CHANGED)


def _print(found: Regression, baseline: Path) -> None:
    """Print what changed, and a summary; the summary is printed to stderr if anything changed."""
    if found and found.other_model:
        write(
            "this is not the baseline's model: its weights, tokenizer or arithmetic differ, "
            "so the differences are counted and not listed"
        )
    for sentence in () if found.other_model else found.changes:
        write(sentence)
    summary = (
        f"{baseline}: {counted(len(found.changes), 'difference')} in {counted(found.examples, 'answered example')} and "
        f"{counted(found.scores, 'score')}; "
        f"the largest of a log-probability is {found.largest:.1e} nats"
    )
    (remark if found else write)(summary)
