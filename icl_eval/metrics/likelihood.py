"""Metrics of the probability a model gives to a text: perplexities and bits per byte."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from icl_eval.metrics.prediction import Kind, LikelihoodPrediction
from icl_eval.metrics.statistics import Statistics


@dataclass(frozen=True)
class Perplexity:
    """exp of the negative log-likelihood of all texts together, per unit; a row is (nats, units).

    Over documents it is a ratio of sums: a long one counts for more than a short one.
    """

    name: str
    units_of: Callable[[LikelihoodPrediction], int]
    """How many units the text has: its words, tokens or bytes, or 1."""
    bounds: tuple[float, float] = (1.0, math.inf)
    proportion: bool = False
    of: Kind = "likelihood"
    refuse: Callable[[Sequence[LikelihoodPrediction]], None] = lambda _: None
    """Raises `MetricError` for texts whose units it cannot count."""

    def check(self, predictions: Sequence[LikelihoodPrediction]) -> None:
        """Raise `MetricError` where it cannot count the units of the texts."""
        self.refuse(predictions)

    def statistics(self, predictions: Sequence[LikelihoodPrediction]) -> Statistics:
        """One unit per text; raises `MetricError` as `check` does."""
        self.check(predictions)
        return _nats_and_units(predictions, self.units_of)

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (..., 2) -> (...); infinite where it is greater than a float can be."""
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(totals[..., 0] / totals[..., 1]))


@dataclass(frozen=True)
class BitsPerByte:
    """Negative log-likelihood of all texts together in bits, over their bytes of UTF-8; a row is (nats, bytes)."""

    name: str = "bits_per_byte"
    bounds: tuple[float, float] = (0.0, math.inf)
    proportion: bool = False
    of: Kind = "likelihood"

    def statistics(self, predictions: Sequence[LikelihoodPrediction]) -> Statistics:
        """One unit per text."""
        return _nats_and_units(predictions, lambda prediction: prediction.bytes)

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (..., 2) -> (...)."""
        return np.asarray(totals[..., 0] / totals[..., 1] / math.log(2))


def is_greedy(prediction: LikelihoodPrediction) -> float:
    """Whether every token of the text was the most likely one: LAMBADA's accuracy (Radford et al. 2019, 3.3)."""
    return float(prediction.greedy)


def _nats_and_units(
    predictions: Sequence[LikelihoodPrediction], units_of: Callable[[LikelihoodPrediction], int]
) -> Statistics:
    rows = np.array([(-prediction.logprob, units_of(prediction)) for prediction in predictions], dtype=np.float64)
    return Statistics.of_examples(predictions, rows)
