"""Answers as they come, in an append-only file keyed by content: what stands in it is never computed again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, TextIO

from icl_eval.errors import RunError
from icl_eval.models import ScoreAnswer


class AnswerStore(Protocol):
    """Where the engine looks an answer up before it computes, and puts it after."""

    def get(self, key: str) -> ScoreAnswer | None:
        """The answer to a request, if it is known."""
        ...

    def put(self, answers: Mapping[str, ScoreAnswer]) -> None:
        """Remember answers."""
        ...


class MemoryJournal:
    """Answers of a run that leaves no folder."""

    def __init__(self) -> None:
        self._known: dict[str, ScoreAnswer] = {}

    def get(self, key: str) -> ScoreAnswer | None:
        """The answer to a request, if it is known."""
        return self._known.get(key)

    def put(self, answers: Mapping[str, ScoreAnswer]) -> None:
        """Remember answers."""
        self._known.update(answers)


class Journal(MemoryJournal):
    """`answers.jsonl`: one line per answer, written before anything else is computed.

    Args:
        path: the file; it is created if missing. A last line that a kill tore is cut off and its answer computed again.

    Raises:
        RunError: the file cannot be read or written, or another line than the last is damaged.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.torn = path, False
        try:
            path.touch()
            self._load()
            self._file: TextIO = path.open("a", encoding="utf-8")
        except OSError as error:
            raise RunError(f"the journal cannot be opened: {error.strerror}", path) from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._known)

    def put(self, answers: Mapping[str, ScoreAnswer]) -> None:
        """Write and remember answers; they survive the process from here on."""
        super().put(answers)
        try:
            self._file.writelines(_line(key, answer) for key, answer in answers.items())
            self._file.flush()
        except OSError as error:
            raise RunError(f"an answer cannot be written: {error.strerror}", self.path) from error

    def _load(self) -> None:
        whole = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    self.torn = True
                    break
                try:
                    key, answer = _parse(line)
                except (ValueError, KeyError, TypeError) as error:
                    raise RunError(
                        "this line of the journal is damaged; delete it to compute its answer again", self.path, number
                    ) from error
                self._known[key] = answer
                whole += len(line)
        if self.torn:
            with self.path.open("r+b") as file:
                file.truncate(whole)


def _line(key: str, answer: ScoreAnswer) -> str:
    return json.dumps({"key": key, "logprobs": answer.logprobs, "greedy": answer.greedy}, separators=(",", ":")) + "\n"


def _parse(line: bytes) -> tuple[str, ScoreAnswer]:
    entry = json.loads(line)
    logprobs = tuple(map(float, entry["logprobs"]))
    if not logprobs or not all(math.isfinite(value) for value in logprobs):
        raise ValueError("a log-probability is not a number")
    return str(entry["key"]), ScoreAnswer(logprobs, bool(entry["greedy"]))
