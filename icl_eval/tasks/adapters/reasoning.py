"""Answers with reasoning: solutions of MATH, and published demonstrations of BIG-Bench Hard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from icl_eval.tasks.extraction import boxed
from icl_eval.tasks.files import Record

STEPS = "\nA: Let's think step by step."
CONCLUSION = "the answer is "


def math(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Problems with solutions, whose last box is the answer; MATH-500 also has it as a field."""
    for raw in records:
        answer = raw["answer"] if "answer" in raw else boxed(raw["solution"])
        if not answer:
            raise ValueError("the solution has no \\boxed{} answer")
        subject = raw["subject"] if "subject" in raw else raw["type"]
        yield {
            "problem": raw["problem"],
            "solution": raw["solution"],
            "answer": answer,
            "level": str(raw["level"]).removeprefix("Level "),
            "subject": subject,
        }


def bbh(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Questions with their targets, or the worked questions of a published prompt, which is read line by line."""
    lines = []
    for raw in records:
        if "input" in raw:
            yield {"input": raw["input"], "target": raw["target"], "reasoning": ""}
        else:
            lines.append(raw["text"])
    _, *questions = "\n".join(lines).split("\n\nQ: ")
    if lines and not questions:
        raise ValueError("a prompt of worked questions must have paragraphs that start with `Q:`")
    for each in questions:
        question, steps, reasoning = each.partition(STEPS)
        answer = reasoning.strip().rpartition(CONCLUSION)[2].removesuffix(".")
        if not steps or not answer:
            raise ValueError(
                f"{question[:40]!r} has no reasoning that starts with {STEPS.strip()!r} and ends with an answer"
            )
        yield {"input": question, "target": answer, "reasoning": reasoning.strip()}
