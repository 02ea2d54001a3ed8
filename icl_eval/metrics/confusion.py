"""Metrics of the confusion of classes, which are option indices: macro F1, F1 of index 1, Matthews correlation.

A row has three parts with one column per class: whether the example has this class and was right, whether it has this
class, and whether this class was chosen. `totals` are the counts of hits, of gold and of chosen classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from icl_eval.errors import MetricError
from icl_eval.metrics.prediction import Kind, Prediction
from icl_eval.metrics.statistics import Statistics


@dataclass(frozen=True)
class _OfConfusion:
    """The statistics and properties of all metrics of confusion counts."""

    name: str
    bounds: tuple[float, float] = (0.0, 1.0)
    of: Kind = "choice"
    proportion: bool = False

    def statistics(self, predictions: Sequence[Prediction]) -> Statistics:
        """A row per example, with as many classes as the longest list of options.

        Raises:
            MetricError: an example does not have exactly one right option.
        """
        classes = max(2, *(len(prediction.options) for prediction in predictions))
        rows = np.zeros((len(predictions), 3, classes))
        for row, prediction in zip(rows, predictions, strict=True):
            if len(prediction.gold) != 1:
                count = len(prediction.gold)
                raise MetricError(f"{self.name} needs one right option; example {prediction.id!r} has {count}")
            (gold,) = prediction.gold
            row[0, gold] = prediction.chosen == gold
            row[1, gold] = row[2, prediction.chosen] = 1
        return Statistics.of_examples(predictions, rows.reshape(len(predictions), 3 * classes))


@dataclass(frozen=True)
class MacroF1(_OfConfusion):
    """Unweighted mean of the F1 of all classes (F1 of CB; Wang et al. 2019, SuperGLUE, section 3.2).

    As in scikit-learn's `f1_score(average="macro")`, a class that is neither right nor chosen in any example does not
    count.
    """

    name: str = "macro_f1"

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (..., 3 * classes) -> (...)."""
        hits, gold, chosen = np.split(totals, 3, axis=-1)  # (..., classes) each
        occurrences = gold + chosen
        return np.asarray(_quotient(2 * hits, occurrences).sum(axis=-1) / (occurrences > 0).sum(axis=-1))


@dataclass(frozen=True)
class PositiveF1(_OfConfusion):
    """F1 of the option with index 1 over all examples: F1a of MultiRC, where each answer option is an example.

    Wang et al. 2019, section 3.2. The value is 0 if index 1 is never right and never chosen. For more than two options,
    it equals scikit-learn's `f1_score(labels=[1], average=None)`.
    """

    name: str = "f1a"

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (..., 3 * classes) -> (...)."""
        hits, gold, chosen = (part[..., 1] for part in np.split(totals, 3, axis=-1))
        return _quotient(2 * hits, gold + chosen)


@dataclass(frozen=True)
class MatthewsCorrelation(_OfConfusion):
    """Correlation of chosen and gold indices (AX-b; Wang et al. 2019, section 3.4); 0 if either is constant.

    For any number of classes this is R_K of Gorodkin 2004, as in scikit-learn's `matthews_corrcoef`.
    """

    name: str = "matthews_correlation"
    bounds: tuple[float, float] = (-1.0, 1.0)

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (..., 3 * classes) -> (...)."""
        hits, gold, chosen = np.split(totals, 3, axis=-1)  # (..., classes) each
        all_gold, all_chosen = gold.sum(axis=-1), chosen.sum(axis=-1)
        covariance = hits.sum(axis=-1) * all_gold - (gold * chosen).sum(axis=-1)
        varied = (all_gold**2 - (gold**2).sum(axis=-1)) * (all_chosen**2 - (chosen**2).sum(axis=-1))
        return _quotient(covariance, np.sqrt(np.maximum(varied, 0.0)))


def _quotient(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """The quotient, or 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)
