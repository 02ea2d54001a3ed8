"""Scaling fits: scores of several models as functions of their size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from icl_eval.metrics.scaling import Floats, Law

By = Literal["parameters", "steps", "tokens", "compute"]
UNITS: dict[By, str] = {
    "parameters": "parameters",
    "steps": "training steps",
    "tokens": "training tokens",
    "compute": "PF-days of training",
}


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True)
class HeldOut:
    """The score of the largest model, and its prediction from the smaller models.

    Attributes:
        model: label of the largest model.
        predicted, measured: its score, in the unit of the metric.
        interval: of the prediction, over examples; None if unknown.
    """

    model: str
    predicted: float
    measured: float
    interval: Interval | None


@dataclass(frozen=True)
class ScalingFit:
    """The fit of one score over the sizes of models.

    Attributes:
        task, prompt, metric, normalization, shots: the fitted score.
        by: the measure of size.
        models, sizes, values, errors: label, size, score and standard error of each model, the smallest first.
        law: the fitted curve; for perplexities, of the logarithm.
        is_log: whether the logarithm of the score was fitted.
        exponent: 95 % interval of the exponent of size, over examples; None if unknown.
        residual: root mean square of the residuals, in the unit of the law.
        held_out: prediction for the largest model; None if there are too few other models.
    """

    task: str
    prompt: str
    metric: str
    normalization: str
    shots: int
    by: By
    models: tuple[str, ...]
    sizes: tuple[float, ...]
    values: tuple[float, ...]
    errors: tuple[float, ...]
    law: Law
    is_log: bool
    exponent: Interval | None
    residual: float
    held_out: HeldOut | None

    def at(self, sizes: Floats | float) -> Floats:
        """The fitted score at some sizes, in the unit of the metric."""
        values = self.law.at(sizes)
        return np.exp(values) if self.is_log else values

    def stored(self) -> dict[str, Any]:
        """The entry in JSON, CSV and a data frame; numbers that are not finite are None."""
        law, held_out = self.law.in_size, self.held_out
        entry = {
            **{name: getattr(self, name) for name in ("task", "prompt", "metric", "normalization", "shots", "by")},
            **{name: list(getattr(self, name)) for name in ("models", "sizes", "values", "errors")},
            "form": self.law.form,
            "exponent": law.exponent,
            "exponent_low": self.exponent and self.exponent.low,
            "exponent_high": self.exponent and self.exponent.high,
            "coefficient": law.coefficient,
            "irreducible": law.floor if law.form == "power law" else None,
            "link_exponent": self.law.exponent if self.law.loss else None,
            "link_coefficient": self.law.coefficient if self.law.loss else None,
            "floor": None if self.law.form == "power law" else self.law.floor,
            "ceiling": self.law.ceiling,
            "residual": self.residual,
            "held_out": held_out and held_out.model,
            "predicted": held_out and held_out.predicted,
            "predicted_low": held_out and held_out.interval and held_out.interval.low,
            "predicted_high": held_out and held_out.interval and held_out.interval.high,
            "measured": held_out and held_out.measured,
        }
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in entry.items()}
