"""One record of a data set in canonical form."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Example:
    """A record as prompts, demonstrations and metrics see it, whatever its layout in the data."""

    id: str
    fields: Mapping[str, Any]
    options: tuple[str, ...]
    gold: tuple[int, ...]  # indices of the right options; none where the reference is known to be wrong
    cluster: str  # examples of one cluster are not independent; the group where there is none
    group: str  # the unit of grouped metrics and of --limit; the id where there is none
    fingerprint: str = ""  # of the exact question, without its answer; `question_key` compares questions
    grades: tuple[float, ...] = ()  # of the options, from 0 to 1, if they are not just right or wrong
    category: str = ""  # examples of one category have a score of their own; empty where the task has none

    def __post_init__(self) -> None:
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", fingerprint(self.fields, self.options))


def are_grades(values: Iterable[Any]) -> bool:
    """Whether all values are numbers from 0 (wrong) to 1 (right)."""
    return all(isinstance(each, int | float) and 0 <= each <= 1 for each in values)


def fingerprint(fields: Mapping[str, Any], options: tuple[str, ...]) -> str:
    """Hash of an example's question."""
    return hashlib.blake2b("".join(_ENCODE([fields, options], 0)).encode(), digest_size=8).hexdigest()


def question_key(values: Iterable[Any]) -> str:
    """A hash of a question, equal for every way to write the same question.

    Fields and options count as one bag of texts: their order, letter case, white space and compatible Unicode forms
    make no difference. Different questions may share a key where they swap texts, such as a premise and a hypothesis.
    """
    texts = sorted(_bare(text) for value in values for text in _leaves(value))
    return hashlib.blake2b("\x1f".join(texts).encode(), digest_size=16).hexdigest()


def _leaves(value: Any) -> Iterator[str]:
    """The texts in a field: of lists and mappings, those of all their values."""
    if isinstance(value, str):
        yield value
        return
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from _leaves(each)
    elif hasattr(value, "tolist"):
        yield from _leaves(value.tolist())
    else:
        yield str(value)


def _bare(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _plain(value: Any) -> Any:
    """A value of a columnar file or of numpy as JSON; others may print differently in every process."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, date | time | timedelta | Decimal | UUID):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot be part of a question")


# What `JSONEncoder(sort_keys=True, ensure_ascii=False, default=_plain)` creates again for every value.
_ENCODE = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
    None, _plain, json.encoder.encode_basestring, None, ": ", ", ", True, False, True
)
