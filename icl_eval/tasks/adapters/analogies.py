"""SAT analogies, from Turney's text file: blocks of lines parted by blank ones, comments after `#`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from icl_eval.tasks.files import Record

LINES = 8  # of a block: where it is from, the pair asked about, five pairs to choose from, the letter of the right one


def sat(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """The pair asked about, and the pairs to choose from as they complete the sentence."""
    lines = (record["text"].strip() for record in records)
    for filled, group in groupby((line for line in lines if not line.startswith("#")), key=bool):
        if not filled:
            continue
        block = list(group)
        if len(block) != LINES or block[-1].lower() not in tuple("abcde"):
            raise ValueError(f"a question has {LINES} lines, the last one a letter from a to e; this one: {block}")
        stem, *choices = (line.split()[:2] for line in block[1:-1])
        yield {
            "first": stem[0],
            "second": stem[1],
            "choices": [f"{first} is to {second}" for first, second in choices],
            "label": "abcde".index(block[-1].lower()),
        }
