"""HellaSwag, whose WikiHow half has markers of the page's layout in its text; some editions are without them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from icl_eval.tasks.files import Record

MARKER = re.compile(r"\[(header|title|step|substeps)\]")
UNFINISHED = re.compile(r"([.!?][\"')]* )([a-z])(?=[^.!?]*$)")  # the first letter of a sentence that does not end


def hellaswag(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Texts without markers; the sentence to be completed, lower case in the release, begins with a capital."""
    for raw in records:
        yield {
            "activity": _plain(raw["activity_label"]),
            "context": UNFINISHED.sub(lambda found: found[1] + found[2].upper(), _plain(raw["ctx"])),
            "endings": [_plain(ending) for ending in raw["endings"]],
            "label": raw["label"],
        }


def _plain(text: str) -> str:
    """A title becomes a sentence, other markers vanish; a text without markers stays, but for repeated spaces."""
    return " ".join(MARKER.sub("", text.replace(" [title]", ". ")).split())
