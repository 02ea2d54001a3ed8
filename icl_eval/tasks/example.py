"""Examples: records of a data set in a form that does not depend on its layout."""

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
    """A record in the form that prompts, demonstrations and metrics use."""

    id: str
    fields: Mapping[str, Any]
    options: tuple[str, ...]
    gold: tuple[int, ...]  # indices of the right options; empty if the references are wrong answers
    cluster: str  # examples of a cluster are not independent; by default, the group
    group: str  # unit of grouped metrics and of --limit; by default, the id
    fingerprint: str = ""  # hash of the exact question without its answer
    grades: tuple[float, ...] = ()  # grades of the options between 0 and 1, if they are not just right or wrong
    category: str = ""  # categories are scored separately; empty if the task has none

    def __post_init__(self) -> None:
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", fingerprint(self.fields, self.options))


def are_grades(values: Iterable[Any]) -> bool:
    """Whether all values are numbers between 0 (wrong) and 1 (right)."""
    return all(isinstance(each, int | float) and 0 <= each <= 1 for each in values)


def fingerprint(fields: Mapping[str, Any], options: tuple[str, ...]) -> str:
    """A hash of the exact question of an example."""
    return hashlib.blake2b("".join(_ENCODE([fields, options], 0)).encode(), digest_size=8).hexdigest()


def question_key(values: Iterable[Any]) -> str:
    """A hash of a question that does not depend on how it is written.

    Fields and options are a bag of texts, so their order does not matter, nor do letter case, white space and
    compatible Unicode forms. Questions with swapped texts, such as premise and hypothesis, have the same key.
    """
    texts = sorted(_bare(text) for value in values for text in _leaves(value))
    return hashlib.blake2b("\x1f".join(texts).encode(), digest_size=16).hexdigest()


def _leaves(value: Any) -> Iterator[str]:
    """All texts in a field, including those in lists and mappings."""
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
    """A value of a columnar file or of numpy in a form that JSON can represent; others raise `TypeError`."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, date | time | timedelta | Decimal | UUID):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot be part of a question")


# The encoder that `JSONEncoder(sort_keys=True, ensure_ascii=False, default=_plain)` creates for each call.
_ENCODE = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
    None, _plain, json.encoder.encode_basestring, None, ": ", ", ", True, False, True
)
