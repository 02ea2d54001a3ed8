"""All errors that a user can cause. Each message says what is wrong, where, and what to do.

IclEvalError
├── UnknownName     there is no task, prompt, metric, option ... of this name; suggests the nearest names
├── TaskError       a task or suite definition is wrong
├── PromptError     a prompt template is wrong
├── DataError       a data file or record is missing or wrong
│   └── MissingData the files of a split are not there
├── WindowError     a query does not fit the context length, even without demonstrations
├── ModelError      a model cannot be loaded or run
├── MetricError     a metric cannot be computed from these predictions
└── RunError        a run folder, journal or baseline cannot be read or written
    ├── RankError   this process of a run failed, and is not the first one
    └── WorkerError another process of a run failed, which reports why

The command line prints these errors as one sentence and exits with 2; any other error is a bug and has a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path


class IclEvalError(Exception):
    """A mistake that the user can correct. Its text is one sentence, after `file:line:` if the mistake is in a file.

    Attributes:
        message: the sentence alone.
        path, line: the file and the line, if any.
    """

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
    """A query does not fit the context length of the model, even without demonstrations."""


class ModelError(IclEvalError):
    """A model cannot be loaded or run."""


class MetricError(IclEvalError):
    """A metric cannot be computed from these predictions."""


class RunError(IclEvalError):
    """A run folder, journal or baseline cannot be read or written."""


class ProcessError(RunError):
    """One of the processes of a run failed; the message names it.

    Attributes:
        kind: the class of the error in that process.
    """

    def __init__(self, message: str, kind: type[IclEvalError] = RunError) -> None:
        super().__init__(message)
        self.kind = kind


class RankError(ProcessError):
    """This process of a run failed, and it is not the first one."""


class WorkerError(ProcessError):
    """Another process of a run failed and reports why, so the command line of this one prints nothing."""


class UnknownName(IclEvalError):  # noqa: N818 - it reads as what it says
    """There is nothing of this name; the message suggests the nearest names.

    Args:
        kind: what is named, such as `task`.
        name: the unknown name.
        known: the names that exist.
        path, line: where the name was read.
        hint: what to say if there are no names to suggest.
    """

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
    """`; did you mean ...?` with the nearest names, else all names if they are few, else nothing."""
    last = _last(name)
    shown = [each if each and each == each.strip() else repr(each) for each in known]  # makes white space visible
    same = sorted((candidate for candidate in known if _last(candidate) == last), key=len)
    near = list(dict.fromkeys([*same, *_nearest(name.lower(), known, str.lower)])) or _nearest(last, known, _last)
    if near:
        return f"; did you mean {' or '.join(shown[known.index(each)] for each in near[:3])}?"
    return f"; choose from {', '.join(shown)}" if 0 < len(known) <= 12 else ""


def _nearest(name: str, known: list[str], read_as: Callable[[str], str]) -> list[str]:
    """Up to three names that are similar to this one, compared after `read_as`."""
    read = {read_as(candidate): candidate for candidate in known}
    return [read[match] for match in difflib.get_close_matches(name, read, n=3, cutoff=0.6)]


def _last(name: str) -> str:
    """The last part of a name, by which tasks are often called."""
    return name.lower().split("/")[-1]


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, such as `1 shot` or `2 shots`."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
