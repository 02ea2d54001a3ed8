"""Convert answers to lines of the journal and back; a line ends with the checksum of what comes before it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any
from zlib import crc32

from icl_eval.models import Answer, GenerateAnswer, ScoreAnswer

ENDINGS = ("stop", "end", "length")


def to_line(key: str, answer: Answer) -> bytes:
    """One line of JSON, including its line break."""
    entry: dict[str, Any] = {"key": key}
    if isinstance(answer, ScoreAnswer):
        entry |= {"logprobs": answer.logprobs, "greedy": answer.greedy}
    else:
        entry |= {name: getattr(answer, name) for name in ("texts", "tokens", "finished", "scores")}
    body = json.dumps(entry, separators=(",", ":"))[:-1].encode()
    return body + _seal(body)


def from_line(line: bytes) -> tuple[str, Answer]:
    """The key and the answer of a line.

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
    return _string(entry["key"]), _generated(entry) if "texts" in entry else _scored(entry)


def _seal(body: bytes) -> bytes:
    return b',"crc32":"%08x"}\n' % crc32(body)


def _scored(entry: Mapping[str, Any]) -> ScoreAnswer:
    if not isinstance(entry["greedy"], bool):
        raise TypeError("greedy is not a boolean")
    return ScoreAnswer(_logprobs(entry["logprobs"]), entry["greedy"])


def _generated(entry: Mapping[str, Any]) -> GenerateAnswer:
    texts, finished = tuple(map(_string, _list(entry["texts"]))), tuple(_list(entry["finished"]))
    tokens, scores = tuple(_list(entry["tokens"])), _logprobs(entry["scores"])
    if not len(texts) == len(finished) == len(tokens) == len(scores):
        raise ValueError("the lists have different lengths")
    if not all(type(count) is int and count >= 0 for count in tokens) or not set(finished) <= set(ENDINGS):
        raise ValueError("a count is negative, or an ending is unknown")
    return GenerateAnswer(texts, tokens, finished, scores)


def _logprobs(values: Any) -> tuple[float, ...]:
    if not all(type(value) in (float, int) for value in _list(values)):
        raise TypeError("a log-probability is not a number")
    try:
        numbers = tuple(map(float, values))
    except OverflowError as error:  # a whole number of hundreds of digits
        raise ValueError("a log-probability is not finite") from error
    if not numbers or not all(math.isfinite(value) and value <= 0 for value in numbers):
        raise ValueError("a log-probability is missing, positive or not finite")
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
