"""Baselines of guessing: a random option, or always the most frequent one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from icl_eval.errors import MetricError
from icl_eval.metrics import AnyMetric, AnyPrediction, CorpusMetric, Prediction
from icl_eval.metrics.means import ExampleMean

DRAWS = 100  # random guesses of all examples


def random_baseline(metric: AnyMetric, predictions: Sequence[AnyPrediction]) -> float | None:
    """The expected value of a metric if every option is chosen with equal probability.

    The value is exact for means over examples. Other metrics are averaged over `DRAWS` guesses of all examples, which
    are the same at each call.

    Args:
        metric: the metric.
        predictions: of the evaluated examples; the chosen options are ignored.

    Returns:
        The expected value; None without options, and if it is infinite, as for a loss.

    Raises:
        MetricError: there are no examples.
    """
    choices = _choices(predictions)
    if not choices:
        return None
    answers = [_answers(prediction) for prediction in choices]
    if isinstance(metric, ExampleMean):
        return _finite(_mean([_mean([metric.of_example(answer) for answer in each]) for each in answers]))
    options = [len(each) for each in answers]
    guesses = np.random.Generator(np.random.PCG64(0)).integers(0, options, size=(DRAWS, len(answers)))
    return _finite(_mean([_value(metric, _choosing(answers, guess.tolist())) for guess in guesses]))


def majority_baseline(metric: AnyMetric, predictions: Sequence[AnyPrediction]) -> float | None:
    """The value of a metric if the option that is right most often is always chosen (the first of several).

    Args:
        metric: the metric.
        predictions: of the evaluated examples; the chosen options are ignored.

    Returns:
        The value; None if examples have different options or none, and if it is infinite.

    Raises:
        MetricError: there are no examples.
    """
    choices = _choices(predictions)
    if len({prediction.options for prediction in choices}) != 1:
        return None
    counts = Counter(index for prediction in choices for index in set(prediction.gold))
    usual = min(counts, key=lambda index: (-counts[index], index))
    return _finite(_value(metric, [prediction.certain(usual) for prediction in choices]))


def _choices(predictions: Sequence[AnyPrediction]) -> list[Prediction]:
    """The predictions that are choices, sorted by id, so that guesses do not depend on the order of examples."""
    if not predictions:
        raise MetricError("nothing was evaluated; a baseline needs at least one example")
    choices = [prediction for prediction in predictions if isinstance(prediction, Prediction)]
    return sorted(choices, key=lambda prediction: prediction.id)


def _answers(prediction: Prediction) -> list[Prediction]:
    """The possible answers to an example; answer i gives option i probability 1."""
    return [prediction.certain(index) for index in range(len(prediction.options))]


def _choosing(answers: Sequence[Sequence[Prediction]], chosen: Iterable[int]) -> list[Prediction]:
    return [each[index] for each, index in zip(answers, chosen, strict=True)]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _value(metric: AnyMetric, predictions: Sequence[Prediction]) -> float:
    if isinstance(metric, CorpusMetric):
        return metric.score(predictions)
    return float(metric.value(metric.statistics(predictions).rows.sum(axis=0)))
