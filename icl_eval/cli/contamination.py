"""`icl-eval contamination`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from icl_eval.cli import options
from icl_eval.cli.terminal import remark, terminal_width, write
from icl_eval.config import EVALUATION, RESULTS, Option
from icl_eval.errors import counted

if TYPE_CHECKING:
    from icl_eval.results.contamination import Contamination

MEGABYTE = 10**6


@options.takes("split")
def contamination(
    task: list[str],
    text: Annotated[
        list[Path],
        Option(
            "File or folder with plain text or JSON lines, compressed or not; may be repeated.",
            EVALUATION,
            "FILE|FOLDER",
        ),
    ],
    text_field: Annotated[str, Option("Field of JSON lines that contains the text.", EVALUATION, "NAME")] = "text",
    ngram: Annotated[
        int | None,
        Option(
            "Words of an n-gram. Default: the 5th percentile of the examples' lengths, between 8 and 13.",
            EVALUATION,
            "N",
            minimum=1,
        ),
    ] = None,
    out: Annotated[Path, Option("File to write, with a line for each dirty example.", RESULTS, "FILE")] = Path(
        "contamination.jsonl"
    ),
    *,
    data: Annotated[
        str | None, Option("Data of the Hub, or the bundled sample. Default: the sample.", EVALUATION, "hub|sample")
    ] = None,
    data_dir: Path | None,
    include: list[Path] | None,
    split: str | None,
) -> None:
    """Find examples that overlap with text files.

    An example is dirty if one of its n-grams occurs in the texts, as in the GPT-3 paper. `rescore --contamination FILE`
    scores clean and dirty examples separately.
    """
    from icl_eval.cli.progress import progress_bar
    from icl_eval.runs.contamination import contamination as search

    names, library = options.library_for(options.words(task), include)
    source = options.data_for(None, data, data_dir)
    with progress_bar(noun="bytes") as progress:
        found = search(
            names,
            text,
            library=library,
            data=source,
            split=split,
            ngram=ngram,
            text_field=text_field,
            progress=progress,
        )
    found.write(out)
    write("\n".join(_table(found)))
    remark(f"{out}: {counted(len(found.overlaps), 'dirty example')}")
    options.exit_if_incomplete(found.failures, shown=True)


def _table(found: Contamination) -> list[str]:
    from icl_eval.reports.layout import draw

    names = ("task", "n-gram", "examples", "dirty", "dirty %")
    rows = [
        (each.task, str(each.ngram), f"{each.examples:,}", f"{each.dirty:,}", f"{100 * each.dirty / each.examples:.1f}")
        for each in found.tasks
    ]
    return draw(names, rows, names[1:], terminal_width())
