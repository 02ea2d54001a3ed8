"""Answers as they come, in an append-only file keyed by content: what stands in it is never computed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import BinaryIO, Protocol

from icl_eval.engine.lines import from_line, to_line
from icl_eval.errors import RunError
from icl_eval.models import Answer


class AnswerStore(Protocol):
    """Where the engine looks an answer up before it computes, and puts it after."""

    def get(self, key: str) -> Answer | None:
        """The answer to a request, if it is known."""
        ...

    def put(self, answers: Mapping[str, Answer]) -> None:
        """Remember answers."""
        ...


class MemoryJournal:
    """Answers in memory."""

    def __init__(self) -> None:
        self._known: dict[str, Answer] = {}

    def get(self, key: str) -> Answer | None:
        """The answer to a request, if it is known."""
        return self._known.get(key)

    def put(self, answers: Mapping[str, Answer]) -> None:
        """Remember answers."""
        self._known.update(answers)


class Journal:
    """`answers.jsonl`: one line per answer, written before anything else is computed.

    Only the place of each line is held in memory.

    Args:
        path: the file; it is created if missing. A last line that a kill tore is cut off and its answer computed again.

    Raises:
        RunError: the file cannot be read or written, or another line than the last is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.torn = path, False
        self._places: dict[bytes, int] = {}  # key -> where its line begins
        self._end = 0
        with ExitStack() as unless_loaded:
            try:
                self._file: BinaryIO = unless_loaded.enter_context(path.open("a+b"))
                self._load()
            except OSError as error:
                raise RunError(f"the journal cannot be opened: {error.strerror}", path) from error
            unless_loaded.pop_all()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: str) -> Answer | None:
        """The answer to a request, if it is known."""
        place = self._places.get(key.encode())
        if place is None:
            return None
        try:
            self._file.seek(place)
            return from_line(self._file.readline())[1]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError("the journal was changed while it was in use", self.path) from error

    def put(self, answers: Mapping[str, Answer]) -> None:
        """Write and remember answers; they survive the process from here on."""
        lines = {key.encode(): to_line(key, answer).encode() for key, answer in answers.items()}
        try:
            self._file.write(b"".join(lines.values()))
            self._file.flush()
        except OSError as error:
            raise RunError(f"an answer cannot be written: {error.strerror}", self.path) from error
        for key, line in lines.items():
            self._places[key] = self._end
            self._end += len(line)

    def _load(self) -> None:
        self._file.seek(0)
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                self.torn = True
                break
            try:
                key, _ = from_line(line)
            except (ValueError, KeyError, TypeError) as error:
                raise RunError(
                    "this line of the journal is damaged; delete it to compute its answer again", self.path, number
                ) from error
            self._places[key.encode()] = self._end
            self._end += len(line)
        if self.torn:
            self._file.truncate(self._end)


@contextmanager
def scratch_journal() -> Iterator[Journal]:
    """A journal for as long as it is needed: answers of a run that leaves no folder need not all be in memory."""
    with TemporaryDirectory(prefix="icl-eval-") as folder, Journal(Path(folder) / "answers.jsonl") as journal:
        yield journal
