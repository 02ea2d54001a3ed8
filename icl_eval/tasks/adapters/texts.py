"""Running text: LAMBADA passages, articles of WikiText, whole files, translations and news topics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from icl_eval.tasks.files import Record

TITLE = re.compile(r"= (?!=)(?!.* = =$).* =")  # of an article; titles of sections have several signs on each side


def last_word(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """The passage without its last word, the white space before this word, and the word."""
    for raw in records:
        text = raw["text"].strip()
        found = re.fullmatch(r"(.*\S)(\s+)(\S+)", text, re.DOTALL)
        if found is None:
            raise ValueError(f"{text!r} is not a passage of several words")
        yield {"context": found[1], "space": found[2], "word": found[3]}


def articles(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Articles of WikiText, each from its title to the next; the Hub has articles, and the release has lines."""
    lines: list[str] = []
    for raw in records:
        if "page" in raw:
            yield {"document": raw["page"]}
            continue
        if TITLE.fullmatch(raw["text"].strip()):
            yield from _document(lines)
            lines = []
        lines.append(raw["text"])
    yield from _document(lines)


def one_document(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """All lines of a file as one text."""
    yield from _document([raw["text"] for raw in records])


def translation(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """A sentence in each language, by language code."""
    for raw in records:
        yield dict(raw.get("translation", raw))


def _document(lines: list[str]) -> Iterator[dict[str, str]]:
    text = "\n".join(lines)
    if text.strip():
        yield {"document": text}


def agnews(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Title and description as one text, as on the Hub, and the label counted from 0."""
    for raw in records:
        if "text" in raw:
            yield {"text": raw["text"], "label": raw["label"]}
        else:
            yield {"text": f"{raw['Title']} {raw['Description']}", "label": int(raw["Class Index"]) - 1}


def flores(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """A sentence in all languages by code, such as `eng_Latn`; the release has a file for each language."""
    sentences: dict[str, list[str]] = {}
    for raw in records:
        if "language" in raw:
            sentences.setdefault(raw["language"], []).append(raw["text"])
        else:
            yield {name.removeprefix("sentence_"): value for name, value in raw.items()}
    for row in zip(*sentences.values(), strict=True):
        yield dict(zip(sentences, row, strict=True))
