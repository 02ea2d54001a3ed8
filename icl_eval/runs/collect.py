"""The first pass over a grid: windows of questions to the engine, its answers kept as evaluated examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from icl_eval.engine import Engine
from icl_eval.metrics import is_unspaced
from icl_eval.models import Answer
from icl_eval.results.examples import ChoiceResult, ExampleResult, LikelihoodResult, TextResult
from icl_eval.runs.questions import EncodedQuery
from icl_eval.scoring import OptionResult

WINDOW_TOKENS = 2**20  # tokens of questions held at once: what can share a prefix, and what memory it takes


def collect(windows: Iterable[Sequence[EncodedQuery]], engine: Engine) -> Iterator[ExampleResult]:
    """Ask the engine, a window of questions at a time, and keep what it answers."""
    for window in windows:
        answers = iter(engine.answer([request for question in window for request in question.requests]))
        for question in window:
            yield _result(question, [next(answers) for _ in question.requests])


def windows(questions: Iterable[EncodedQuery]) -> Iterator[list[EncodedQuery]]:
    """Questions in their order, as many at a time as the engine gets to see."""
    window: list[EncodedQuery] = []
    tokens = 0
    for question in questions:
        if window and tokens + question.tokens > WINDOW_TOKENS:
            yield window
            window, tokens = [], 0
        window.append(question)
        tokens += question.tokens
    if window:
        yield window


def _result(question: EncodedQuery, answers: Sequence[Answer]) -> ExampleResult:
    example = question.example
    common: dict[str, Any] = {
        "cell": question.cell,
        "id": example.id,
        "cluster": example.cluster,
        "group": example.group,
        "shots": question.fitted.shots,
        "truncated": question.fitted.truncated,
        "demonstrations": question.demonstrations,
    }
    given: Any = answers  # of the kind that was asked for
    if question.kind == "text":
        (text,) = given
        return TextResult(
            **common,
            references=example.options,
            written=text.texts,
            finished=text.finished,
            scores=text.scores,
            right=bool(example.gold),
        )
    if question.kind == "likelihood":
        return LikelihoodResult(
            **common,
            parts=tuple(answer.logprobs for answer in given),
            greedy=all(answer.greedy for answer in given),
            words=len(example.options[0].split()),
            bytes=len(example.options[0].encode()),
            unspaced=is_unspaced(example.options[0]),
        )
    after, alone = given[: len(example.options)], given[len(example.options) :]
    options = tuple(
        OptionResult(text, conditional.logprobs, unconditional.logprobs)
        for text, conditional, unconditional in zip(question.text.answers, after, alone, strict=True)
    )
    return ChoiceResult(**common, gold=example.gold, names=example.options, options=options)
