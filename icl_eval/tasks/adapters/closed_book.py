"""Questions without a passage, whose layouts name everything differently: TriviaQA and TruthfulQA."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from icl_eval.tasks.files import Record


def triviaqa(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """The question with its answer and the answer's aliases, from the release, the Hub, or prompts with aliases."""
    for raw in records:
        if "Answer" in raw:
            question, answer = raw["Question"], raw["Answer"]
            value, aliases = answer["Value"], answer["Aliases"]
        elif isinstance(raw["answer"], Mapping):
            question, value, aliases = raw["question"], raw["answer"]["value"], raw["answer"]["aliases"]
        else:
            question = raw["context"].removeprefix("Question: ").removesuffix("\nAnswer:")
            value, aliases = raw["answer"], raw["aliases"]
        answers = [text for text in dict.fromkeys([value, *aliases]) if text.strip()]
        yield {"question": question.strip(), "answers": answers}


def truthfulqa(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """The question, and its answers as mappings to 1 (true) and 0, which the Hub has as two lists."""
    for raw in records:
        yield {"question": raw["question"], **{name: _marks(raw[name]) for name in ("mc1_targets", "mc2_targets")}}


def _marks(targets: Mapping[str, Any]) -> dict[str, int]:
    if "choices" not in targets:
        return dict(targets)
    return dict(zip(targets["choices"], targets["labels"], strict=True))
