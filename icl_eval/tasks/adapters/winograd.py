"""Winograd schemas, as texts parted at the pronoun or blank, with the nouns as they would stand there.

Schemas come in pairs that differ in a word and have opposite answers, so the twin of a query gives its answer away:
neighbours that are about the same nouns are one cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from icl_eval.tasks.files import Record

SCHEMAS = 273  # the first of the collection, which grew later
ARTICLES = ("a", "an", "the", "her", "his", "its", "my", "our", "their", "your")
POSSESSIVE = ("her", "his", "its", "my", "our", "their", "your")  # `her` is never an object among the 273


def winograd(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """WSC273, from the collection's XML or the Hub's texts with the place of the pronoun."""
    yield from _clustered(map(_schema, islice(records, SCHEMAS)))


def winogrande(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Sentences parted at the blank."""
    yield from _clustered(map(_blank, records))


def _schema(raw: Record) -> dict[str, Any]:
    if isinstance(raw["text"], Mapping):
        before, pronoun, after = (_words(raw["text"][part]) for part in ("txt1", "pron", "txt2"))
        names, letter = raw["answers"]["answer"], raw["correctAnswer"].strip().rstrip(".")
        label = "AB".index(letter)
    else:
        start, label, names = raw["pronoun_loc"], raw["label"], raw["options"]
        end = start + len(raw["pronoun"])
        before, pronoun, after = (_words(part) for part in (raw["text"][:start], raw["pronoun"], raw["text"][end:]))
    return {
        "before": f"{before} " if before else "",
        "pronoun": pronoun,
        "after": after if after.startswith((".", ",", ";", "!", "?")) else f" {after}",
        "nouns": [_in_place_of(pronoun, _words(name)) for name in names],
        "label": label,
    }


def _in_place_of(pronoun: str, noun: str) -> str:
    """The noun as it would stand for the pronoun: in the genitive, in lower case within a sentence."""
    first = noun.split()[0]
    if pronoun[0].islower() and first.lower() in ARTICLES:
        noun = noun[0].lower() + noun[1:]
    return f"{noun}'s" if pronoun.lower() in POSSESSIVE else noun


def _blank(raw: Record) -> dict[str, Any]:
    before, blank, after = raw["sentence"].partition("_")
    if not blank:
        raise ValueError(f"the sentence {raw['sentence']!r} has no blank")
    return {"before": before, "after": after, "nouns": [raw["option1"], raw["option2"]], "answer": raw["answer"]}


def _clustered(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Records with a cluster, which is that of the record before if they have a noun in common."""
    number, before = 0, set[str]()
    for record in records:
        nouns = _known(record["nouns"])
        number += not nouns & before
        before = nouns
        yield {**record, "cluster": str(number)}


def _known(nouns: Sequence[str]) -> set[str]:
    return {noun.lower().removesuffix("'s") for noun in nouns}


def _words(text: str) -> str:
    return " ".join(text.split())
