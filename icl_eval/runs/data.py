"""Where the records come from of tasks that have none of their own."""

from __future__ import annotations

from pathlib import Path

from icl_eval.config import HUB, SAMPLE
from icl_eval.tasks import HubSource, LocalSource, Source

SAMPLE_PATH = Path(__file__).resolve().parent.parent / "tiny" / "data"
SAMPLE_NOTE = "sample data of an invented world: these scores are not scores on the benchmarks they are named after"


def source_of(data: str | Path, *, unused: bool = False) -> Source:
    """The source that `hub`, `sample` or a directory stands for.

    Args:
        data: `hub`, `sample`, or a directory, which a `Path` always is.
        unused: whether all tasks have records of their own, so that it need not be there.
    """
    if unused or data == HUB:
        return HubSource()
    return LocalSource(SAMPLE_PATH, label=SAMPLE) if data == SAMPLE else LocalSource(Path(data))
