"""RACE, from the release's one object per article or the Hub's one row per question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from icl_eval.tasks.files import Record


def race(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """One record per question, with the article's earlier questions and their right answers as its history."""
    for name, article in _articles(records).items():
        history: list[dict[str, str]] = []
        for number, (question, options, answer) in enumerate(article["questions"]):
            options, label = [option.strip() for option in options], "ABCD".index(answer)
            right = options[label]
            yield {
                "id": f"{name}-{number}",
                "source": name,
                "article": article["text"].strip(),
                "history": list(history),
                "question": question.strip(),
                "options": options,
                "label": label,
            }
            history.append({"question": question.strip(), "answer": right})


def _articles(records: Iterable[Record]) -> dict[str, dict[str, Any]]:
    """Articles by their file's name, with the (question, options, answer) of each question."""
    found: dict[str, dict[str, Any]] = {}
    for raw in records:
        rows = (
            zip(raw["questions"], raw["options"], raw["answers"], strict=True)
            if "questions" in raw
            else [(raw["question"], raw["options"], raw["answer"])]
        )
        name = raw["id"] if "questions" in raw else raw["example_id"]
        found.setdefault(name, {"text": raw["article"], "questions": []})["questions"] += rows
    return found
