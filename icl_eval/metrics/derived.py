"""Metrics derived from other metrics of texts.

`exact_match@strict` scores the answers that the rules `strict` extract. `exact_match:vote=majority` scores the most
frequent answer among all samples. `exact_match:pass_at=5` is the probability that one of five samples is right.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_eval.errors import MetricError, UnknownName
from icl_eval.metrics.means import ExampleMean
from icl_eval.metrics.prediction import Kind, TextPrediction
from icl_eval.metrics.statistics import Checked, Metric, Signed, Statistics
from icl_eval.tasks.extraction import Rule, extract

MARK = "@"
VOTE, PASS_AT = "vote", "pass_at"  # settings of every metric that is a mean over texts


@lru_cache(maxsize=100_000)
def _answer(text: str, rules: tuple[Rule, ...]) -> str | None:
    return extract(text, rules)


@dataclass(frozen=True)
class Extracted:
    """A metric of the answers that rules extract from texts; a text without such an answer counts as empty."""

    metric: Metric[TextPrediction]
    rules: tuple[Rule, ...]
    name: str

    of: Kind = "text"

    @property
    def bounds(self) -> tuple[float, float]:
        """The bounds of the metric."""
        return self.metric.bounds

    @property
    def proportion(self) -> bool:
        """Whether the metric has this property."""
        return self.metric.proportion

    @property
    def of_samples(self) -> bool:
        """Whether the metric has this property."""
        return measures_samples(self.metric)

    def check(self, predictions: Sequence[TextPrediction]) -> None:
        """Raise `MetricError` if the metric cannot score answers to these examples."""
        if isinstance(self.metric, Checked):
            self.metric.check(predictions)
        else:
            self.metric.statistics(predictions)

    def statistics(self, predictions: Sequence[TextPrediction]) -> Statistics:
        """The statistics of the metric for the extracted answers.

        Raises:
            MetricError: the metric cannot score them, or a pattern takes too long.
        """
        return self.metric.statistics([self._extracted(each) for each in predictions])

    def _extracted(self, prediction: TextPrediction) -> TextPrediction:
        text = _answer(prediction.text, self.rules) or ""
        if not self.of_samples:
            return replace(prediction, text=text)
        return replace(prediction, text=text, samples=tuple(_answer(t, self.rules) or "" for t in prediction.texts))

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """The value of the metric; shape (..., d) -> (...)."""
        return self.metric.value(totals)

    def signature(self, predictions: Sequence[TextPrediction]) -> str:
        """The words of the metric, with the name and a digest of the rules."""
        inner = self.metric.signature(predictions) if isinstance(self.metric, Signed) else ""
        rules = json.dumps([rule.model_dump(exclude_unset=True) for rule in self.rules])
        name = self.name.partition(MARK)[2]
        return "|".join(filter(None, (inner, f"{name}#{hashlib.sha256(rules.encode()).hexdigest()[:8]}")))

    def ties(self, predictions: Sequence[TextPrediction]) -> int:
        """The number of examples with several most frequent answers."""
        count = getattr(self.metric, "ties", None)
        return 0 if count is None else int(count([self._extracted(each) for each in predictions]))

    def failures(self, predictions: Sequence[Any]) -> int:
        """The number of texts in which the rules find no answer."""
        return sum(_answer(each.text, self.rules) is None for each in predictions)


def measures_samples(metric: object) -> bool:
    """Whether a metric scores all samples of an example together, not each by itself."""
    return bool(getattr(metric, "of_samples", False))


def over_samples(
    metric: object, settings: Mapping[str, str], name: str, path: Path | None = None, line: int | None = None
) -> ExampleMean[TextPrediction]:
    """A metric of the majority answer (`vote: majority`), or pass@k (`pass_at: K`).

    Args:
        metric: the metric of one text.
        settings: either `vote` or `pass_at`.
        name: full name of the derived metric.
        path, line: position in a task file, for errors.

    Raises:
        MetricError: the metric is not a mean over texts, or the settings are not valid.
        UnknownName: `vote` has an unknown value.
    """
    if not isinstance(metric, ExampleMean) or metric.of != "text":
        raise MetricError(
            f"`{VOTE}` and `{PASS_AT}` need a metric that scores each text, which {name} does not", path, line
        )
    if len(settings) > 1:
        raise MetricError(f"{name}: give either `{VOTE}` or `{PASS_AT}`", path, line)
    ((setting, value),) = settings.items()
    rule = "|".join(filter(None, (metric.rule, f"{setting}={value}")))
    if setting == VOTE:
        if value != "majority":
            raise UnknownName(f"value of `{VOTE}`", value, ["majority"], path, line)
        voted, is_tied = partial(_voted, metric), partial(_is_tied, metric)
        return replace(metric, name=name, of_example=voted, rule=rule, of_samples=True, is_tied=is_tied)
    if not value.isdecimal() or not 1 <= len(value) <= 6 or int(value) < 1:
        raise MetricError(f"{name}: `{PASS_AT}` must be a number of samples of at least 1, not {value!r}", path, line)
    passed, refuse = partial(_passed, metric, int(value)), partial(_refuse_few, metric, int(value))
    return replace(metric, name=name, of_example=passed, rule=rule, of_samples=True, refuse=refuse)


def _voted(metric: ExampleMean[TextPrediction], prediction: TextPrediction) -> float:
    """The score of the most frequent answer (Wang et al. 2023, arXiv 2203.11171, section 2).

    Empty answers do not vote. Among equally frequent answers, the one that was sampled first wins.
    """
    answers = _voters(prediction)
    votes = Counter(map(metric.form, answers))
    winner = max(answers, key=lambda text: votes[metric.form(text)])
    return metric.of_example(replace(prediction, text=winner))


def _is_tied(metric: ExampleMean[TextPrediction], prediction: TextPrediction) -> bool:
    """Whether there are several most frequent answers."""
    first, *others = Counter(map(metric.form, _voters(prediction))).most_common(2)
    return any(votes == first[1] for _, votes in others)


def _voters(prediction: TextPrediction) -> list[str]:
    """The samples that are not empty."""
    return [text for text in prediction.texts if text.strip()] or [""]


def _passed(metric: ExampleMean[TextPrediction], k: int, prediction: TextPrediction) -> float:
    """The unbiased estimate of the probability that at least one of k samples is right.

    It is 1 - C(n - c, k) / C(n, k) for c right samples among n (Chen et al. 2021, arXiv 2107.03374, section 2.1).

    Raises:
        MetricError: a score is neither 0 nor 1.
    """
    scores = [metric.of_example(replace(prediction, text=text)) for text in prediction.texts]
    if partly := next((score for score in scores if score not in (0, 1)), None):
        raise MetricError(
            f"pass@{k} counts right samples, but {metric.name} scores one of example {prediction.id!r} {partly:g}"
        )
    wrong = scores.count(0)
    return 1 - comb(wrong, k) / comb(len(scores), k)


def _refuse_few(metric: ExampleMean[TextPrediction], k: int, predictions: Sequence[TextPrediction]) -> None:
    """Raise `MetricError` if there are fewer than k samples, or the metric cannot score them."""
    metric.check(predictions)
    if few := next((each for each in predictions if len(each.texts) < k), None):
        raise MetricError(f"pass@{k} needs at least {k} samples of each example; `decode.samples` is {len(few.texts)}")
