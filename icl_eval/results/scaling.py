"""One line of a scaling fit: a score of several models as a function of their size."""

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
    """The ends of a 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True)
class HeldOut:
    """The largest model, and what the law of the smaller ones predicts for it.

    Attributes:
        model: its label.
        predicted, measured: its score, in the metric's own unit.
        interval: of the prediction, over examples; None if it is not known.
    """

    model: str
    predicted: float
    measured: float
    interval: Interval | None


@dataclass(frozen=True)
class ScalingFit:
    """The law of one score over the sizes of models.

    Attributes:
        task, prompt, metric, normalization, shots: of which score.
        by: what the size of a model is.
        models, sizes, values, errors: the label, the size, the score and its standard error of each model, smallest
            first.
        law: the fitted curve; of a perplexity, that of its logarithm.
        is_log: whether it is.
        exponent: the 95 % interval of the exponent of size, over examples; None if it is not known.
        residual: root mean square of score less law, in the unit of the law.
        held_out: the largest model; None if there are too few others.
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
        """The score that the law gives models of some sizes, in the metric's own unit."""
        found = self.law.at(sizes)
        return np.exp(found) if self.is_log else found

    def stored(self) -> dict[str, Any]:
        """The entry in JSON, CSV and a data frame; a figure that is not finite is None."""
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
