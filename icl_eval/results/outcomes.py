"""The outcome of each example of a run: what was chosen or generated, whether it is right, and by how much."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_eval.errors import IclEvalError, RunError
from icl_eval.metrics import CorpusMetric, metric
from icl_eval.results.examples import ChoiceResult, ExampleResult, LikelihoodResult, TextResult, read_examples
from icl_eval.results.manifest import Manifest
from icl_eval.results.records import TaskRecord
from icl_eval.scoring import NORMALIZATIONS, Scoring, option_scores
from icl_eval.tasks import Normalization
from icl_eval.tasks.extraction import extract

Key = tuple[str, int, int, str]


@dataclass(frozen=True)
class OptionOutcome:
    """An option of an example.

    Attributes:
        name: the option itself.
        is_gold: whether it is right.
        scores: in nats (per unit of length), by normalisation; the highest wins. Also by the calibrations that score
            each example by itself, if the run collected what they need.
        probabilities: the softmax of the scores over the options, likewise.
    """

    name: str
    is_gold: bool
    scores: Mapping[Scoring, float]
    probabilities: Mapping[Scoring, float]


@dataclass(frozen=True)
class TextOutcome:
    """A generated text.

    Attributes:
        text: the generated text.
        finished: why it ended: `stop`, `end` or `length`.
        extracted: what each list of rules finds in it, by the name of the list; None if nothing.
    """

    text: str
    finished: str
    extracted: Mapping[str, str | None]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one example in one cell.

    Attributes:
        example: its stored result.
        normalization: by which its task ranks options.
        correct: whether the chosen option is right, the text has the full score of the task's first metric, or every
            token of a likelihood was the most likely one; None if the metric cannot be taken of one example.
        value: that metric of this example alone; None likewise, and of choices and likelihoods.
        margin: nats from the best wrong option to the best right one, negative if the answer is wrong; None without
            options, or if there is no wrong or no right one.
        loss: minus the log-probability: of the right option among the options, of a text, or of a generated text.
        options: of a choice.
        texts: generated, one per sample.
    """

    example: ExampleResult
    normalization: Normalization
    correct: bool | None
    value: float | None
    margin: float | None
    loss: float
    options: tuple[OptionOutcome, ...] = ()
    texts: tuple[TextOutcome, ...] = ()

    @property
    def key(self) -> Key:
        """What identifies an example in another run: task, shots, seed and id."""
        cell = self.example.cell
        return cell.task, cell.shots, cell.seed, self.example.id

    @property
    def chosen(self) -> int | None:
        """The index of the chosen option; None without options."""
        return self.example.rank(self.normalization).chosen if self.options else None

    @property
    def answer(self) -> str:
        """What was chosen or generated; of several samples the first."""
        if self.chosen is not None:
            return self.options[self.chosen].name
        return self.texts[0].text if self.texts else ""

    @property
    def gold(self) -> tuple[str, ...]:
        """The right options, or the references."""
        if isinstance(self.example, TextResult):
            return self.example.references
        return tuple(option.name for option in self.options if option.is_gold)

    @property
    def _scorings(self) -> list[Scoring]:
        return [name for option in self.options[:1] for name in option.probabilities]

    def row(self) -> dict[str, Any]:
        """The row of a data frame."""
        cell, example = self.example.cell, self.example
        return {
            "task": cell.task,
            "prompt": cell.prompt,
            "shots": cell.shots,
            "seed": cell.seed,
            "id": example.id,
            "category": example.category,
            "effective_shots": example.shots,
            "truncated": example.truncated,
            "names": [option.name for option in self.options],
            "gold": list(self.gold),
            "chosen": self.answer,
            "correct": self.correct,
            "value": self.value,
            "margin": self.margin,
            "loss": self.loss,
            **{f"p_{name}": None for name in NORMALIZATIONS},
            **{f"p_{name}": [option.probabilities[name] for option in self.options] for name in self._scorings},
            "texts": [each.text for each in self.texts],
            "extracted": [dict(each.extracted) for each in self.texts],
        }


def outcomes(path: Path, manifest: Manifest) -> Iterator[Outcome]:
    """The outcome of every example of a finished run, in the order of `examples.jsonl`.

    Raises:
        RunError: a file is missing or damaged.
    """
    judges = {record.task_prompt: Judge(record) for record in manifest.tasks}
    for example in read_examples(path / "examples.jsonl", manifest.tasks):
        yield judges[example.cell.task_prompt].outcome(example)


def flips(here: Iterable[Outcome], there: Iterable[Outcome], other: Path) -> list[Outcome]:
    """The examples that are wrong here and right there, in the same task, shots and seed.

    They have the same prompt, too, unless each run has only one of the task.

    Raises:
        RunError: the runs have no example in common, or one that is not the same in both.
    """
    own, others = _by_prompt(here), _by_prompt(there)
    common = [
        (each, next(iter(partners.values())) if len(found) == len(partners) == 1 else partners[prompt])
        for key, found in own.items()
        for prompt, each in found.items()
        if (partners := others.get(key, {})) and (prompt in partners or len(found) == len(partners) == 1)
    ]
    if not common:
        raise RunError("the runs have no example in common (of the same task, shots and seed)", other)
    for one, another in common:
        if one.example.question != another.example.question:
            task, _, _, id = one.key
            raise RunError(f"example {id!r} of {task} is not the same in both runs", other)
    return [one for one, another in common if one.correct is False and another.correct]


def _by_prompt(outcomes: Iterable[Outcome]) -> dict[Key, dict[str, Outcome]]:
    """The outcomes of each example by prompt."""
    found: dict[Key, dict[str, Outcome]] = {}
    for each in outcomes:
        found.setdefault(each.key, {})[each.example.cell.prompt] = each
    return found


class Judge:
    """Judges the examples of one task and prompt."""

    def __init__(self, record: TaskRecord) -> None:
        self._normalization = record.normalization
        self._rules = record.extract
        self._metric: Any = None
        for name in record.metrics[:1] if record.answer == "text" else ():
            try:
                found = metric(name, record.extract)
            except IclEvalError:  # it runs code, which nobody has said to trust here
                continue
            self._metric = None if isinstance(found, CorpusMetric) else found

    def outcome(self, example: ExampleResult) -> Outcome:
        """How an example came out."""
        if isinstance(example, ChoiceResult):
            return self._of_choice(example)
        if isinstance(example, TextResult):
            return self._of_text(example)
        loss = -math.fsum(value for part in example.logprobs for value in part)
        greedy = example.greedy if isinstance(example, LikelihoodResult) else None
        return Outcome(example, self._normalization, greedy, None, None, loss)

    def _of_choice(self, example: ChoiceResult) -> Outcome:
        scores = option_scores(example.options)
        logs = {name: _log_softmax(values) for name, values in scores.items()}
        options = tuple(
            OptionOutcome(
                name,
                index in example.gold,
                {each: values[index] for each, values in scores.items()},
                {each: math.exp(values[index]) for each, values in logs.items()},
            )
            for index, name in enumerate(example.names)
        )
        own, log = scores[self._normalization], logs[self._normalization]
        right = [own[index] for index in example.gold]
        wrong = [value for index, value in enumerate(own) if index not in example.gold]
        correct = example.rank(self._normalization).chosen in example.gold
        margin = max(right) - max(wrong) if right and wrong else None
        loss = -max((log[index] for index in example.gold), default=-math.inf)
        return Outcome(example, self._normalization, correct, None, margin, loss, options)

    def _of_text(self, example: TextResult) -> Outcome:
        texts = tuple(
            TextOutcome(text, finished, {name: extract(text, rules) for name, rules in self._rules.items()})
            for text, finished in zip(example.generated, example.finished, strict=True)
        )
        value = self._value(example)
        correct = None if value is None else value >= self._metric.bounds[1]
        return Outcome(example, self._normalization, correct, value, None, -max(example.scores), (), texts)

    def _value(self, example: TextResult) -> float | None:
        """The mean over samples of the task's first metric."""
        if self._metric is None:
            return None
        predictions = example.predictions(example.rank(self._normalization))
        try:
            found = [self._metric.value(self._metric.statistics([each]).rows.sum(axis=0)) for each in predictions]
        except IclEvalError:
            return None
        return math.fsum(map(float, found)) / len(found)


def _log_softmax(scores: Sequence[float]) -> list[float]:
    best = max(scores)
    total = best + math.log(math.fsum(math.exp(value - best) for value in scores))
    return [value - total for value in scores]
