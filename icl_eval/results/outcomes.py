"""Outcomes of examples: the chosen or generated answer, whether it is right, its margin and its loss."""

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

Key = tuple[str, int, int, str]  # task, shots, seed, id of the example


@dataclass(frozen=True)
class OptionOutcome:
    """An option of an example.

    Attributes:
        name: text of the option.
        is_gold: whether it is right.
        scores: in nats (per unit of length), by normalisation, and by the calibrations that do not depend on other
            examples, if the run collected what they need. The option with the highest score is chosen.
        probabilities: softmax of the scores over the options, by normalisation and calibration.
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
        extracted: the answer that each list of rules finds, by name; None if it finds none.
    """

    text: str
    finished: str
    extracted: Mapping[str, str | None]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one example in one cell.

    Attributes:
        example: the stored result.
        normalization: the normalisation by which the task ranks options.
        correct: whether the chosen option is right, the generated text has the best possible value of the task's first
            metric, or every token of a given text is the most likely one. None if the metric is not defined for a
            single example.
        value: value of the task's first metric for a generated answer; None if it is not defined, and for other kinds.
        margin: score of the best right option minus that of the best wrong one, in nats; None without options, or if
            all options are right or all are wrong.
        loss: negative log-probability in nats of the right option among all options, or of the given or generated text.
        options: the options of a choice.
        texts: the generated texts, one per sample.
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
        """Identifies the same example in another run: task, shots, seed and id."""
        cell = self.example.cell
        return cell.task, cell.shots, cell.seed, self.example.id

    @property
    def chosen(self) -> int | None:
        """The index of the chosen option; None without options."""
        return self.example.rank(self.normalization).chosen if self.options else None

    @property
    def answer(self) -> str:
        """The chosen option, or the generated text; the first of several samples."""
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
        """The row in a data frame."""
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
    for example in read_examples(path / "examples.jsonl", manifest.tasks, manifest.examples_digest):
        yield judges[example.cell.task_prompt].outcome(example)


def flips(here: Iterable[Outcome], there: Iterable[Outcome], other: Path) -> list[Outcome]:
    """The examples that are wrong in one run and right in another, with the same task, shots and seed.

    Examples are matched by prompt, too, unless each run has only one prompt of the task.

    Args:
        here: outcomes of the run in which the examples are wrong.
        there: outcomes of the run in which they are right.
        other: folder of the latter run, for messages.

    Raises:
        RunError: the runs have no example in common, or examples with the same id differ.
    """
    ours, theirs = _by_prompt(here), _by_prompt(there)
    common = [
        (each, next(iter(partners.values())) if len(prompts) == len(partners) == 1 else partners[prompt])
        for key, prompts in ours.items()
        for prompt, each in prompts.items()
        if (partners := theirs.get(key, {})) and (prompt in partners or len(prompts) == len(partners) == 1)
    ]
    if not common:
        raise RunError("the runs have no example with the same task, shots and seed in common", other)
    for one, another in common:
        if one.example.question != another.example.question:
            task, _, _, id = one.key
            raise RunError(f"example {id!r} of {task} is not the same in both runs", other)
    return [one for one, another in common if one.correct is False and another.correct]


def _by_prompt(outcomes: Iterable[Outcome]) -> dict[Key, dict[str, Outcome]]:
    """For each example, its outcomes by prompt."""
    found: dict[Key, dict[str, Outcome]] = {}
    for each in outcomes:
        found.setdefault(each.key, {})[each.example.cell.prompt] = each
    return found


class Judge:
    """Determines the outcomes of the examples of one task and prompt."""

    def __init__(self, record: TaskRecord) -> None:
        self._normalization = record.normalization
        self._rules = record.extract
        self._metric: Any = None
        for name in record.metrics[:1] if record.answer == "text" else ():
            try:
                found = metric(name, record.extract)
            except IclEvalError:  # it runs code that is not trusted here
                continue
            self._metric = None if isinstance(found, CorpusMetric) else found

    def outcome(self, example: ExampleResult) -> Outcome:
        """The outcome of an example."""
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
        values, log = scores[self._normalization], logs[self._normalization]
        right = [values[index] for index in example.gold]
        wrong = [value for index, value in enumerate(values) if index not in example.gold]
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
        """The value of the task's first metric, averaged over samples; None if it is not defined."""
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
