"""Worked answers: MATH's boxed ones, and the published demonstrations of BIG-Bench Hard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from icl_eval.tasks.extraction import boxed
from icl_eval.tasks.files import Record

STEPS = "\nA: Let's think step by step."
CONCLUSION = "the answer is "


def math(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Problems with their solutions, whose last box is the answer; MATH-500 has it as a field, too."""
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
    """Questions with their targets; of a published prompt, which is read line by line, its worked questions."""
    lines = []
    for raw in records:
        if "input" in raw:
            yield {"input": raw["input"], "target": raw["target"], "reasoning": ""}
        else:
            lines.append(raw["text"])
    _, *questions = "\n".join(lines).split("\n\nQ: ")
    if lines and not questions:
        raise ValueError("a prompt of worked questions has paragraphs that begin with `Q:`")
    for each in questions:
        question, steps, reasoning = each.partition(STEPS)
        answer = reasoning.strip().rpartition(CONCLUSION)[2].removesuffix(".")
        if not steps or not answer:
            raise ValueError(f"{question[:40]!r} has no answer that begins with {STEPS.strip()!r} and ends with one")
        yield {"input": question, "target": answer, "reasoning": reasoning.strip()}
