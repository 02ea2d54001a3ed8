"""The journal: an append-only file of answers, keyed by a hash of the request, so that no answer is computed twice.

Each answer is a line of JSON, which ends with the checksum of the text before it.
"""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol
from zlib import crc32

from icl_eval.errors import RunError
from icl_eval.models import Answer, GenerateAnswer, ScoreAnswer


class AnswerStore(Protocol):
    """Where the engine looks up answers before it computes them, and stores them afterwards."""

    def get(self, key: str) -> Answer | None:
        """The answer to the request with this key; None if it is not known."""
        ...

    def entry(self, key: str) -> tuple[Answer, str] | None:
        """An answer, and the id of the call that computed it, which may be empty; None if it is not known."""
        ...

    def put(self, answers: Mapping[str, Answer], call: str = "") -> None:
        """Store answers by key, with the id of the call that computed them."""
        ...


class MemoryJournal:
    """An `AnswerStore` in memory."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Answer, str]] = {}

    def get(self, key: str) -> Answer | None:
        """The answer to the request with this key; None if it is not known."""
        return answer_of(self.entry(key))

    def entry(self, key: str) -> tuple[Answer, str] | None:
        """An answer, and the id of the call that computed it, which may be empty; None if it is not known."""
        return self._known.get(key)

    def put(self, answers: Mapping[str, Answer], call: str = "") -> None:
        """Store answers by key, with the id of the call that computed them."""
        self._known.update({key: (answer, call) for key, answer in answers.items()})


class LineIndex:
    """The byte offsets of answers in the file of a journal; the answers themselves are not kept in memory.

    Attributes:
        path: the file.
        end: number of bytes that have been read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.end = path, 0
        self._offsets: dict[bytes, int] = {}  # key -> offset of its line

    def __len__(self) -> int:
        return len(self._offsets)

    def __contains__(self, key: bytes) -> bool:
        return key in self._offsets

    def add(self, key: bytes, line: bytes) -> None:
        """Add the line at `end`, and move `end` behind it."""
        self._offsets[key] = self.end
        self.end += len(line)

    def read_on(self, file: BinaryIO, stop: int | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Add the lines from `end` to byte `stop`, or to an incomplete line; yield the key and text of each.

        Raises:
            RunError: lines are damaged, or contain different answers to one request; the message lists all of them.
        """
        damaged: set[int] = set()  # offsets of lines
        file.seek(self.end)
        while (stop is None or self.end < stop) and (line := file.readline()).endswith(b"\n"):
            try:
                key = from_line(line)[0].encode()
            except (ValueError, KeyError, TypeError):
                damaged.add(self.end)
                self.end += len(line)
                continue
            if (earlier := self._offsets.get(key)) is None:
                self.add(key, line)
                yield key, line
            else:
                file.seek(earlier)
                damaged |= {earlier, self.end} if file.readline() != line else set()
                self.end += len(line)
                file.seek(self.end)
        if damaged:
            raise self._damage(file, damaged)

    def _damage(self, file: BinaryIO, offsets: Container[int]) -> RunError:
        """The error that lists the damaged lines at these offsets, and a command that removes them."""
        file.seek(0)
        offset, numbers = 0, []
        for number, line in enumerate(file, start=1):
            numbers += [number] if offset in offsets else []
            offset += len(line)
        spans = _spans(numbers)
        script = ";".join(f"{first},{last}d" if last > first else f"{first}d" for first, last in spans)
        listed = ", ".join(f"{first} to {last}" if last > first else str(first) for first, last in spans)
        what = "this line of the journal is" if len(numbers) == 1 else f"the lines {listed} of the journal are"
        command = f"sed -i.bak '{script}' {shlex.quote(str(self.path))}"
        message = f"{what} damaged; `{command}` removes the damage, and the same run then recomputes these answers"
        return RunError(message, self.path, numbers[0])

    def entry(self, file: BinaryIO, key: str) -> tuple[Answer, str] | None:
        """An answer, and the id of the call that computed it, which may be empty; None if it is not in the file.

        Raises:
            RunError: the file was changed, so that the line is no longer at its offset.
        """
        offset = self._offsets.get(key.encode())
        if offset is None:
            return None
        try:
            file.seek(offset)
            _, answer, call = from_line(file.readline())
            return answer, call
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError("the journal was changed while it was in use", self.path) from error


class Journal:
    """An `AnswerStore` in the file `answers.jsonl`, with one line per answer.

    Only the offsets of the lines are kept in memory.

    Args:
        path: the file, which is created if it does not exist. An incomplete last line, left by a killed process, is
            cut off.

    Attributes:
        torn: whether an incomplete last line was cut off.

    Raises:
        RunError: the file cannot be read or written, or lines before the last one are damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.torn = path, False
        self._index = LineIndex(path)
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
        return len(self._index)

    @property
    def end(self) -> int:
        """Size of the file in bytes."""
        return self._index.end

    def get(self, key: str) -> Answer | None:
        """The answer to the request with this key; None if it is not known."""
        return answer_of(self.entry(key))

    def entry(self, key: str) -> tuple[Answer, str] | None:
        """An answer, and the id of the call that computed it, which may be empty; None if it is not known."""
        return self._index.entry(self._file, key)

    def put(self, answers: Mapping[str, Answer], call: str = "") -> None:
        """Write answers to the file, with the id of the call that computed them."""
        self._append({key.encode(): to_line(key, answer, call) for key, answer in answers.items()})

    def settle(self) -> None:
        """Flush the file to disk, so that answers survive a crash of the machine and other machines can read them.

        Raises:
            RunError: the file cannot be written.
        """
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise RunError(f"answers cannot be written: {error.strerror}", self.path) from error

    def absorb(self, path: Path) -> None:
        """Add the answers of another journal, and delete its file; an incomplete last line is ignored.

        Raises:
            RunError: the file cannot be read or deleted, or a line before the last one is damaged.
        """
        try:
            with path.open("rb") as file:
                for key, line in LineIndex(path).read_on(file):
                    if key not in self._index:
                        self._append({key: line})
            self.settle()
            path.unlink()
        except OSError as error:
            raise RunError(f"the journal of an earlier run cannot be reused: {error.strerror}", path) from error

    def _append(self, lines: Mapping[bytes, bytes]) -> None:
        try:
            self._file.write(b"".join(lines.values()))
            self._file.flush()
        except OSError as error:
            raise RunError(f"an answer cannot be written: {error.strerror}", self.path) from error
        for key, line in lines.items():
            self._index.add(key, line)

    def _load(self) -> None:
        for _ in self._index.read_on(self._file):
            pass
        self._file.seek(0, os.SEEK_END)
        self.torn = self._file.tell() > self.end
        if self.torn:
            self._file.truncate(self.end)


def answer_of(entry: tuple[Answer, str] | None) -> Answer | None:
    """The answer of an entry; None if there is no entry."""
    return None if entry is None else entry[0]


def _spans(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """The first and last number of each range of consecutive numbers."""
    spans: list[tuple[int, int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number, number))
    return spans


ENDINGS = ("stop", "end", "length")


def to_line(key: str, answer: Answer, call: str = "") -> bytes:
    """The line of an answer in the journal, including its line break."""
    entry: dict[str, Any] = {"key": key, "call": call} if call else {"key": key}
    if isinstance(answer, ScoreAnswer):
        entry |= {"logprobs": answer.logprobs, "greedy": answer.greedy}
        entry |= {"means": answer.means, "sds": answer.sds} if answer.means else {}
    else:
        entry |= {name: getattr(answer, name) for name in ("texts", "tokens", "finished", "scores")}
    body = json.dumps(entry, separators=(",", ":"))[:-1].encode()
    return body + _seal(body)


def from_line(line: bytes) -> tuple[str, Answer, str]:
    """The key and answer of a line, and the id of the call that computed it, which may be empty.

    Raises:
        ValueError, KeyError, TypeError: the line is damaged.
    """
    body = line[: -len(_seal(b""))]
    if line != body + _seal(body):
        raise ValueError("the checksum does not match")
    try:
        entry = json.loads(body + b"}")
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    answer = _generated(entry) if "texts" in entry else _scored(entry)
    return _string(entry["key"]), answer, _string(entry.get("call", ""))


def _seal(body: bytes) -> bytes:
    return b',"crc32":"%08x"}\n' % crc32(body)


def _scored(entry: Mapping[str, Any]) -> ScoreAnswer:
    if not isinstance(entry["greedy"], bool):
        raise TypeError("greedy is not a boolean")
    logprobs = _logprobs(entry["logprobs"])
    if "means" not in entry:
        return ScoreAnswer(logprobs, entry["greedy"])
    return ScoreAnswer(logprobs, entry["greedy"], _logprobs(entry["means"]), _numbers(entry["sds"]))


def _generated(entry: Mapping[str, Any]) -> GenerateAnswer:
    texts, finished = tuple(map(_string, _list(entry["texts"]))), tuple(_list(entry["finished"]))
    tokens, scores = tuple(_list(entry["tokens"])), _logprobs(entry["scores"])
    if not len(texts) == len(finished) == len(tokens) == len(scores):
        raise ValueError("the lists have different lengths")
    if not all(type(count) is int and count >= 0 for count in tokens) or not set(finished) <= set(ENDINGS):
        raise ValueError("a count is negative, or an ending is unknown")
    return GenerateAnswer(texts, tokens, finished, scores)


def _logprobs(values: Any) -> tuple[float, ...]:
    numbers = _numbers(values)
    if not numbers or max(numbers) > 0:
        raise ValueError("a log-probability is missing or positive")
    return numbers


def _numbers(values: Any) -> tuple[float, ...]:
    if not all(type(value) in (float, int) for value in _list(values)):
        raise TypeError("not a number")
    try:
        numbers = tuple(map(float, values))
    except OverflowError as error:  # an integer with hundreds of digits
        raise ValueError("a number is not finite") from error
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a number is not finite")
    return numbers


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    value.encode()  # half of a surrogate pair is not text
    return value
