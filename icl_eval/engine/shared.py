"""The journals of a run's processes, one file each, which every one of them reads."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from icl_eval.engine.journal import Journal, Places
from icl_eval.engine.ranks import Ranks, Word
from icl_eval.errors import RunError
from icl_eval.models import Answer

PATIENCE = 60.0  # seconds that a shared file system may lag behind
PAUSE = 0.05  # seconds between two looks


def journal_path(folder: Path, rank: int) -> Path:
    """Where a process writes: the first one into the run's own journal."""
    return folder / (f"answers.{rank}.jsonl" if rank else "answers.jsonl")


def absorb_others(own: Journal, folder: Path) -> None:
    """Take over what other processes than the first have written, in this run or in one that was killed.

    Raises:
        RunError: a journal cannot be read or removed, or another line than its last is damaged.
    """
    for path in sorted(folder.glob("answers.*.jsonl")):
        if path.suffixes[0].removeprefix(".").isdecimal():
            own.absorb(path)


class SharedJournal:
    """What this process has answered, and what the others had when all met last.

    So all of them know the same answers, and plan the same from there.

    Args:
        own: this process's journal.
        folder: where those of the others are.
        ranks: the processes, which all come here.

    Raises:
        RunError: a journal does not come to be what its process says.
        PeerError: another process failed.
    """

    def __init__(self, own: Journal, folder: Path, ranks: Ranks) -> None:
        self.ranks, self._own, self._folder = ranks, own, folder
        self._others = {rank: _Reader(journal_path(folder, rank)) for rank in range(ranks.size) if rank != ranks.rank}
        with ExitStack() as unless_met:
            unless_met.callback(self._leave_others)
            self.meet(None)
            unless_met.pop_all()

    def __enter__(self) -> SharedJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave_others()
        self._own.__exit__(kind, error, trace)

    def get(self, key: str) -> Answer | None:
        """The answer to a request, if it is known to all or to this process."""
        found = self._own.get(key)
        for other in self._others.values():
            found = found or other.get(key)
        return found

    def put(self, answers: Mapping[str, Answer]) -> None:
        """Write and remember answers."""
        self._own.put(answers)

    def meet(self, word: Word) -> list[Word]:
        """Wait for the others, and learn what they have answered; gives what each of them says."""
        self._own.settle()
        words = self.ranks.gather((self._own.end, word))
        for rank, other in self._others.items():
            other.read_to(words[rank][0])
        return [each for _, each in words]

    def merge(self) -> None:
        """Let the first process take over what all have answered; nothing can be looked up after."""
        self._leave_others()
        if self.ranks.rank:
            self._own.__exit__(None, None, None)
        self.ranks.gather(None)
        if not self.ranks.rank:
            absorb_others(self._own, self._folder)

    def _leave_others(self) -> None:
        for other in self._others.values():
            other.close()


class _Reader:
    """Reads a journal that another process writes."""

    def __init__(self, path: Path) -> None:
        self._places = Places(path)
        self._file: BinaryIO | None = None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None

    def get(self, key: str) -> Answer | None:
        return None if self._file is None else self._places.get(self._file, key)

    def read_to(self, end: int) -> None:
        """Read all lines up to byte `end`, for which a file system that lags gets some time.

        Raises:
            RunError: they do not come, or are damaged.
        """
        until = time.monotonic() + PATIENCE
        while self._places.end < end:
            self._read(end)
            if self._places.end < end and time.monotonic() > until:
                raise RunError(
                    f"{end - self._places.end} bytes of what another process answered cannot be seen here; "
                    "do all processes have the same run folder?",
                    self._places.path,
                )
            if self._places.end < end:
                time.sleep(PAUSE)

    def _read(self, end: int) -> None:
        """Open the file anew, as a network's file systems need to show what is new, and read on."""
        self.close()
        try:
            self._file = self._places.path.open("rb")
            for _ in self._places.read_on(self._file, end):
                pass
        except FileNotFoundError:
            self.close()
        except OSError as error:
            raise RunError(f"the journal cannot be read: {error.strerror}", self._places.path) from error
