"""An answer as a line of the journal, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from icl_eval.models import Answer, GenerateAnswer, ScoreAnswer


def to_line(key: str, answer: Answer) -> str:
    """One line of JSON, its break included."""
    entry: dict[str, Any] = {"key": key}
    if isinstance(answer, ScoreAnswer):
        entry |= {"logprobs": answer.logprobs, "greedy": answer.greedy}
    else:
        entry |= {name: getattr(answer, name) for name in ("texts", "tokens", "finished", "scores")}
    return json.dumps(entry, separators=(",", ":")) + "\n"


def from_line(line: bytes) -> tuple[str, Answer]:
    """The key and the answer of a line.

    Raises:
        ValueError, KeyError, TypeError: the line is damaged.
    """
    entry = json.loads(line)
    return str(entry["key"]), _written(entry) if "texts" in entry else _scored(entry)


def _scored(entry: Mapping[str, Any]) -> ScoreAnswer:
    return ScoreAnswer(_numbers(entry["logprobs"]), bool(entry["greedy"]))


def _written(entry: Mapping[str, Any]) -> GenerateAnswer:
    texts, finished = tuple(entry["texts"]), tuple(entry["finished"])
    tokens, scores = tuple(map(int, entry["tokens"])), _numbers(entry["scores"])
    if not len(texts) == len(finished) == len(tokens) == len(scores):
        raise ValueError("a text lacks something")
    if not all(isinstance(word, str) for word in (*texts, *finished)):
        raise TypeError("a text is none")
    return GenerateAnswer(texts, tokens, finished, scores)


def _numbers(values: Iterable[Any]) -> tuple[float, ...]:
    numbers = tuple(map(float, values))
    if not numbers or not all(math.isfinite(value) for value in numbers):
        raise ValueError("a log-probability is not a number")
    return numbers
