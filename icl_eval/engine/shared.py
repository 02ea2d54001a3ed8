"""The journals of several processes: each process writes its own file and reads those of the others."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from icl_eval.engine.journal import Journal, LineIndex, answer_of
from icl_eval.engine.ranks import Ranks, Value
from icl_eval.errors import RunError
from icl_eval.models import Answer

PAUSE = 0.05  # seconds between attempts to read


def journal_path(folder: Path, rank: int) -> Path:
    """The path of the journal of a process; that of rank 0 is the journal of the run."""
    return folder / (f"answers.{rank}.jsonl" if rank else "answers.jsonl")


def absorb_others(journal: Journal, folder: Path) -> None:
    """Add the answers of all other processes to the journal of rank 0, and delete their files.

    The files may be from an earlier run of this folder that was killed.

    Raises:
        RunError: a journal cannot be read or deleted, or a line before its last one is damaged.
    """
    for path in sorted(folder.glob("answers.*.jsonl")):
        if path.suffixes[0].removeprefix(".").isdecimal():
            journal.absorb(path)


class SharedJournal:
    """An `AnswerStore` with the answers of this process, and those of the others up to the last `sync`.

    After a `sync`, all processes know the same answers, so they plan the same work.

    Args:
        journal: the journal of this process.
        folder: the folder with the journals of the other processes.
        ranks: the processes, all of which must create a `SharedJournal`.
        patience: seconds to wait for a file system that shows new lines late.

    Raises:
        RunError: the journal of another process remains shorter than that process reports.
        WorkerError: another process failed.
    """

    def __init__(self, journal: Journal, folder: Path, ranks: Ranks, *, patience: float = 60.0) -> None:
        self.ranks, self._journal, self._folder, self._patience = ranks, journal, folder, patience
        self._others = {rank: _Reader(journal_path(folder, rank)) for rank in range(ranks.size) if rank != ranks.rank}
        with ExitStack() as on_failure:
            on_failure.callback(self._close_others)
            self.sync(None)
            on_failure.pop_all()

    def __enter__(self) -> SharedJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_others()
        self._journal.__exit__(kind, error, trace)

    def get(self, key: str) -> Answer | None:
        """The answer to the request with this key; None if it is not known."""
        return answer_of(self.entry(key))

    def entry(self, key: str) -> tuple[Answer, str] | None:
        """An answer, and the id of the call that computed it, which may be empty; None if it is not known."""
        found = self._journal.entry(key)
        for other in self._others.values():
            found = found or other.entry(key)
        return found

    def put(self, answers: Mapping[str, Answer], call: str = "") -> None:
        """Write answers to the journal of this process, with the id of the call that computed them."""
        self._journal.put(answers, call)

    def sync(self, value: Value) -> list[Value]:
        """Wait for all processes and read the answers of the others; return the values of all, by rank."""
        self._journal.settle()
        values = self.ranks.gather((self._journal.end, value))
        for rank, other in self._others.items():
            other.read_to(values[rank][0], self._patience)
        return [each for _, each in values]

    def merge(self) -> None:
        """Add the answers of all processes to the journal of rank 0. Nothing can be looked up afterwards."""
        self._close_others()
        if self.ranks.rank:
            self._journal.__exit__(None, None, None)
        self.ranks.gather(None)
        if not self.ranks.rank:
            absorb_others(self._journal, self._folder)

    def _close_others(self) -> None:
        for other in self._others.values():
            other.close()


class _Reader:
    """Reads a journal while another process writes to it."""

    def __init__(self, path: Path) -> None:
        self._index = LineIndex(path)
        self._file: BinaryIO | None = None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None

    def entry(self, key: str) -> tuple[Answer, str] | None:
        return None if self._file is None else self._index.entry(self._file, key)

    def read_to(self, end: int, patience: float) -> None:
        """Read all lines up to byte `end`; wait up to `patience` seconds for lines that are not visible yet.

        Raises:
            RunError: the lines do not appear, or they are damaged.
        """
        until = time.monotonic() + patience
        while self._index.end < end:
            self._read(end)
            if self._index.end < end and time.monotonic() > until:
                raise RunError(
                    f"the last {end - self._index.end} bytes of another process's answers cannot be read; "
                    "do all processes have the same run folder?",
                    self._index.path,
                )
            if self._index.end < end:
                time.sleep(PAUSE)

    def _read(self, end: int) -> None:
        """Reopen the file and read on; a network file system may hide new lines until a file is reopened."""
        self.close()
        try:
            self._file = self._index.path.open("rb")
            for _ in self._index.read_on(self._file, end):
                pass
        except FileNotFoundError:
            self.close()
        except OSError as error:
            raise RunError(f"the journal cannot be read: {error.strerror}", self._index.path) from error
