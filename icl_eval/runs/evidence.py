"""What is kept of an answered example: all that any score needs, so that scores can be taken again without a model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from icl_eval.engine import Engine
from icl_eval.errors import RunError
from icl_eval.metrics import Prediction
from icl_eval.models import ScoreAnswer
from icl_eval.runs.cells import Cell
from icl_eval.runs.questions import Question
from icl_eval.scoring import OptionEvidence, Ranking, rank, score
from icl_eval.tasks import Normalization

WINDOW_TOKENS = 2**20  # tokens of questions held at once: what can share a prefix, and what memory it takes


@dataclass(frozen=True, slots=True)
class Evidence:
    """One answered example of one cell; a line of `examples.jsonl`."""

    cell: Cell
    id: str
    cluster: str
    group: str
    gold: tuple[int, ...]
    names: tuple[str, ...]  # the options themselves
    options: tuple[OptionEvidence, ...]  # what was scored for each
    shots: int  # effective
    truncated: int
    demonstrations: tuple[str, ...]

    def rank(self, normalization: Normalization) -> Ranking:
        """Which option wins under a normalisation."""
        return rank([score(option, normalization) for option in self.options])

    def prediction(self, chosen: int) -> Prediction:
        """What metrics see when `chosen` wins."""
        return Prediction(self.id, self.names, self.gold, chosen, self.cluster, self.group)

    def line(self) -> str:
        """The JSON line of `examples.jsonl`."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def parse(cls, line: str | bytes) -> Evidence:
        """An `examples.jsonl` line."""
        entry = json.loads(line)
        options = tuple(
            OptionEvidence(option["text"], tuple(option["logprobs"]), tuple(option["unconditional"]))
            for option in entry.pop("options")
        )
        rest: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in entry.items()}
        return cls(cell=Cell(**rest.pop("cell")), options=options, **rest)


def gather(questions: Iterable[Question], engine: Engine) -> Iterator[Evidence]:
    """Ask the engine, some questions at a time, and keep what it answers."""
    for window in windows(questions):
        answers = iter(engine.answer([request for question in window for request in question.requests]))
        for question in window:
            conditional = [next(answers) for _ in question.conditional]
            unconditional = [next(answers) for _ in question.unconditional]
            yield _evidence(question, conditional, unconditional)


def read_evidence(path: Path) -> Iterator[Evidence]:
    """The lines of an `examples.jsonl`.

    Raises:
        RunError: the file is missing or a line is damaged.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    evidence = Evidence.parse(line)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise RunError("this line is damaged; the same run again writes it anew", path, number) from error
                yield evidence
    except OSError as error:
        raise RunError(f"cannot be read: {error.strerror}; was the run finished?", path) from error


def _evidence(question: Question, conditional: Sequence[ScoreAnswer], unconditional: Sequence[ScoreAnswer]) -> Evidence:
    example = question.example
    return Evidence(
        cell=question.cell,
        id=example.id,
        cluster=example.cluster,
        group=example.group,
        gold=example.gold,
        names=example.options,
        options=tuple(
            OptionEvidence(text, after.logprobs, alone.logprobs)
            for text, after, alone in zip(question.text.answers, conditional, unconditional, strict=True)
        ),
        shots=question.fitted.shots,
        truncated=question.fitted.truncated,
        demonstrations=question.demonstrations,
    )


def windows(questions: Iterable[Question]) -> Iterator[list[Question]]:
    """Questions in their order, as many at a time as the engine gets to see."""
    window: list[Question] = []
    tokens = 0
    for question in questions:
        if window and tokens + question.tokens > WINDOW_TOKENS:
            yield window
            window, tokens = [], 0
        window.append(question)
        tokens += question.tokens
    if window:
        yield window
