"""ARC and OpenBookQA, whose release nests what the Hub has in columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from icl_eval.tasks.files import Record


def arc(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """The question, its choices in order, and the place among them of the answer, which is named A to E or 1 to 5."""
    for raw in records:
        question = raw["question"] if "question" in raw else raw["question_stem"]
        if isinstance(question, Mapping):
            labels, texts = zip(*((each["label"], each["text"]) for each in question["choices"]), strict=True)
            question = question["stem"]
        else:
            labels, texts = raw["choices"]["label"], raw["choices"]["text"]
        if raw["answerKey"] not in labels:
            raise ValueError(f"the answer {raw['answerKey']!r} of {raw['id']} is not among {', '.join(labels)}")
        yield {
            "id": raw["id"],
            "question": question,
            "choices": list(texts),
            "label": list(labels).index(raw["answerKey"]),
        }
