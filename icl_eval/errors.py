"""Every error a user can cause, as one tree; each message says what is wrong, where, and what to do.

IclEvalError
├── UnknownName     a task, prompt, metric, option ... that does not exist; names the nearest ones that do
├── TaskError       a task or suite definition is wrong
├── PromptError     a prompt template is wrong
├── DataError       a data file or record is missing or wrong
│   └── MissingData the files of a split are not there
├── WindowError     a query does not fit the context length
├── ModelError      a model cannot be loaded or run
├── MetricError     a metric cannot be computed from these predictions
└── RunError        a run folder, journal or baseline cannot be read or written
    ├── RankError   one process of the run failed where the others did not
    └── WorkerError another process of the run failed; that one reports why

The command line prints one of these as a single sentence and exits with 2; anything else is a bug with a traceback.
`counted` puts numbers into sentences.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path


class IclEvalError(Exception):
    """A mistake that the user can correct; `str` is one sentence, led by `file:line:` where a file is at fault."""

    def __init__(self, message: str, path: Path | str | None = None, line: int | None = None) -> None:
        self.message, self.path, self.line = message, path, line
        location = "" if path is None else f"{path}:{line}: " if line is not None else f"{path}: "
        super().__init__(location + message)


class TaskError(IclEvalError):
    """A task or suite definition is wrong."""


class PromptError(IclEvalError):
    """A prompt template is wrong."""


class DataError(IclEvalError):
    """A data file or record is missing or wrong."""


class MissingData(DataError):  # noqa: N818 - it reads as what it says
    """The files of a split are not there."""


class WindowError(IclEvalError):
    """A query does not fit the model's context length even without demonstrations."""


class ModelError(IclEvalError):
    """A model cannot be loaded or run."""


class MetricError(IclEvalError):
    """A metric cannot be computed from these predictions."""


class RunError(IclEvalError):
    """A run folder, journal or baseline cannot be read or written."""


class ProcessError(RunError):
    """One of the processes of a run failed; the sentence names it.

    Attributes:
        kind: the class of the error there.
    """

    def __init__(self, sentence: str, kind: type[IclEvalError] = RunError) -> None:
        super().__init__(sentence)
        self.kind = kind


class RankError(ProcessError):
    """This process of the run failed where the first one did not."""


class WorkerError(ProcessError):
    """Another process of the run failed; that one reports why, so the command line prints nothing."""


class UnknownName(IclEvalError):  # noqa: N818 - it reads as what it says
    """A name that does not exist, with the nearest ones that do."""

    def __init__(
        self,
        kind: str,
        name: str,
        known: Iterable[str],
        path: Path | str | None = None,
        line: int | None = None,
        *,
        hint: str = "",
    ) -> None:
        self.kind, self.name = kind, name
        suggestion = _suggestion(name, sorted(known)) or (f"; {hint}" if hint else "")
        super().__init__(f"no {kind} is named {name!r}{suggestion}", path, line)


def _suggestion(name: str, known: list[str]) -> str:
    """`; did you mean ...?`, or all the names when they are few, or nothing."""
    last = _last(name)
    same = sorted((candidate for candidate in known if _last(candidate) == last), key=len)
    near = list(dict.fromkeys([*same, *_nearest(name.lower(), known, str.lower)])) or _nearest(last, known, _last)
    if near:
        return f"; did you mean {' or '.join(near[:3])}?"
    return f"; choose from {', '.join(known)}" if 0 < len(known) <= 12 else ""


def _nearest(name: str, known: list[str], read_as: Callable[[str], str]) -> list[str]:
    """The names that nearly read like this one."""
    read = {read_as(candidate): candidate for candidate in known}
    return [read[match] for match in difflib.get_close_matches(name, read, n=3, cutoff=0.6)]


def _last(name: str) -> str:
    """What a name ends with: a task is often called by that alone."""
    return name.lower().split("/")[-1]


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number and its noun, such as `1 shot` and `2 shots`."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
