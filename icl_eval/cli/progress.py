"""Progress and remaining time on stderr: a bar in a terminal, otherwise a line per minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from icl_eval.cli.terminal import remark

Progress = Callable[[int], Callable[[int], None]]  # the total -> a function that is called with how many more are done
INTERVAL = 60.0  # seconds between lines
AT_MOST = "at most "


@contextmanager
def progress_bar(
    *, shown: bool = True, noun: str = "answers", at_most: bool = False, interval: float = INTERVAL
) -> Iterator[Progress]:
    """A context with the function `progress` that `evaluate` takes.

    Args:
        shown: whether anything is printed.
        noun: what is counted, in the plural.
        at_most: whether the total is an upper bound, because the run may stop earlier.
        interval: seconds between lines if there is no bar.
    """
    if not shown:
        yield lambda _: lambda _: None
    elif sys.stderr.isatty():
        with _bar(noun, AT_MOST if at_most else "") as start:
            yield start
    else:
        yield lambda total: _Lines(total, time.monotonic, noun, interval, at_most=at_most).tick


@contextmanager
def _bar(noun: str, bound: str) -> Iterator[Progress]:
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
        MofNCompleteColumn(separator=f" of {bound}" if bound else "/"),
        TimeElapsedColumn(),
        TextColumn(f"left {bound}".strip()),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:

        def start(total: int) -> Callable[[int], None]:
            task = bar.add_task(noun, total=total)
            return lambda answered: bar.advance(task, answered)

        yield start


class _Lines:
    """Prints a line per interval, with the remaining time at the average speed so far.

    Args:
        total: number of requests.
        clock: returns the time in seconds.
        noun: what is counted, in the plural.
        interval: seconds between lines.
        at_most: whether the total is an upper bound.
    """

    def __init__(
        self,
        total: int,
        clock: Callable[[], float],
        noun: str = "answers",
        interval: float = INTERVAL,
        *,
        at_most: bool = False,
    ) -> None:
        self._total, self._clock, self._noun, self._interval = total, clock, noun, interval
        self._bound, self._about = (AT_MOST, AT_MOST) if at_most else ("", "about ")
        self._done = 0
        self._started = self._printed = clock()

    def tick(self, answered: int) -> None:
        """Count more answers, and print a line if the interval since the last line is over."""
        self._done += answered
        now = self._clock()
        if now - self._printed >= self._interval and self._done < self._total:
            self._printed = now
            left = (now - self._started) * (self._total - self._done) / max(self._done, 1)
            done = f"{self._done:,} of {self._bound}{self._total:,} {self._noun}"
            remark(f"{done}, {self._about}{duration(left)} left")


def duration(seconds: float) -> str:
    """A time in words, such as `40 s`, `12 min` and `3 h 5 min`."""
    if seconds < 59.5:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h" + (f" {rest} min" if rest else "")
