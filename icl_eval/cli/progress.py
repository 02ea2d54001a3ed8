"""The progress bar: on stderr, with the time left; silent when nobody is watching."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(*, shown: bool = True) -> Iterator[Callable[[int], Callable[[int], None]]]:
    """Give `evaluate` something to tell the number of requests to, and then every answer."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    silent = not (shown and sys.stderr.isatty())
    with Progress(*columns, console=Console(stderr=True), disable=silent, transient=True) as bar:

        def start(total: int) -> Callable[[int], None]:
            task = bar.add_task("answers", total=total)
            return lambda answered: bar.advance(task, answered)

        yield start
