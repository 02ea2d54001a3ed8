"""Metrics of the confusion matrix of option indices: macro F1, F1 over answer options, Matthews correlation.

A row is the flattened matrix of one example, gold index times classes + chosen index, so `totals` is the matrix itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from icl_eval.errors import MetricError
from icl_eval.metrics.prediction import Kind, Prediction
from icl_eval.metrics.statistics import Statistics


@dataclass(frozen=True)
class MacroF1:
    """Unweighted mean of the F1 of each class that occurs among gold or chosen options (CB's F1).

    Wang et al. 2019 (SuperGLUE), section 3.2. The label rule is that of scikit-learn's `f1_score(average="macro")`: a
    class that occurs on neither side does not count.
    """

    name: str = "macro_f1"
    of: Kind = "choice"
    bounds: tuple[float, float] = (0.0, 1.0)
    proportion: bool = False

    def statistics(self, predictions: Sequence[Prediction]) -> Statistics:
        """One unit per example, as many classes as the longest list of options."""
        return _confusion(self.name, predictions, classes=max(len(prediction.options) for prediction in predictions))

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (..., classes * classes) -> (...)."""
        classes = isqrt(totals.shape[-1])
        matrix = totals.reshape(*totals.shape[:-1], classes, classes)
        hits = np.diagonal(matrix, axis1=-2, axis2=-1)  # (..., classes)
        occurrences = matrix.sum(axis=-1) + matrix.sum(axis=-2)  # gold + chosen
        return np.asarray(_quotient(2 * hits, occurrences).sum(axis=-1) / (occurrences > 0).sum(axis=-1))


@dataclass(frozen=True)
class PositiveF1:
    """F1 of the option of index 1, over all examples: MultiRC's F1a, where each answer option is an example.

    Wang et al. 2019, section 3.2; 0 when index 1 is neither right nor chosen anywhere.
    """

    name: str = "f1a"
    of: Kind = "choice"
    bounds: tuple[float, float] = (0.0, 1.0)
    proportion: bool = False

    def statistics(self, predictions: Sequence[Prediction]) -> Statistics:
        """One unit per example of two options."""
        return _binary_confusion(self.name, predictions)

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (..., 4) -> (...)."""
        false_positive, false_negative, true_positive = (totals[..., cell] for cell in (1, 2, 3))
        return _quotient(2 * true_positive, 2 * true_positive + false_positive + false_negative)


@dataclass(frozen=True)
class MatthewsCorrelation:
    """Correlation of chosen and gold index (AX-b: Wang et al. 2019, section 3.4); 0 when either never varies."""

    name: str = "matthews_correlation"
    of: Kind = "choice"
    bounds: tuple[float, float] = (-1.0, 1.0)
    proportion: bool = False

    def statistics(self, predictions: Sequence[Prediction]) -> Statistics:
        """One unit per example of two options."""
        return _binary_confusion(self.name, predictions)

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (..., 4) -> (...)."""
        matrix = totals.reshape(*totals.shape[:-1], 2, 2)
        determinant = matrix[..., 0, 0] * matrix[..., 1, 1] - matrix[..., 0, 1] * matrix[..., 1, 0]
        gold, chosen = matrix.sum(axis=-1).prod(axis=-1), matrix.sum(axis=-2).prod(axis=-1)
        return _quotient(determinant, np.sqrt(gold * chosen))


def _binary_confusion(name: str, predictions: Sequence[Prediction]) -> Statistics:
    for prediction in predictions:
        if len(prediction.options) != 2:
            raise MetricError(f"{name} needs two options; example {prediction.id!r} has {len(prediction.options)}")
    return _confusion(name, predictions, classes=2)


def _confusion(name: str, predictions: Sequence[Prediction], classes: int) -> Statistics:
    rows = np.zeros((len(predictions), classes * classes))
    for row, prediction in zip(rows, predictions, strict=True):
        if len(prediction.gold) != 1:
            raise MetricError(f"{name} needs one right option; example {prediction.id!r} has {len(prediction.gold)}")
        row[prediction.gold[0] * classes + prediction.chosen] = 1
    return Statistics.of_examples(predictions, rows)


def _quotient(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numerator over denominator, and 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)
