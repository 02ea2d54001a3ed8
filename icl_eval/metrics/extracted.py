"""Metrics of what rules take out of generated texts: `exact_match@strict` is `exact_match` of the answers that `strict`
finds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_eval.metrics.prediction import Kind, TextPrediction
from icl_eval.metrics.statistics import Checked, Metric, Signed, Statistics
from icl_eval.tasks.extraction import Rule, extract

MARK = "@"


@lru_cache(maxsize=100_000)
def _answer(text: str, rules: tuple[Rule, ...]) -> str | None:
    return extract(text, rules)


@dataclass(frozen=True)
class Extracted:
    """A metric of texts, taken of what rules find in them; a text in which they find nothing counts as empty."""

    metric: Metric[TextPrediction]
    rules: tuple[Rule, ...]
    name: str

    of: Kind = "text"

    @property
    def bounds(self) -> tuple[float, float]:
        """Those of the metric."""
        return self.metric.bounds

    @property
    def proportion(self) -> bool:
        """As the metric."""
        return self.metric.proportion

    def check(self, predictions: Sequence[TextPrediction]) -> None:
        """Raise `MetricError` where the metric cannot measure answers to these examples."""
        if isinstance(self.metric, Checked):
            self.metric.check(predictions)
        else:
            self.metric.statistics(predictions)

    def statistics(self, predictions: Sequence[TextPrediction]) -> Statistics:
        """Those of the metric.

        Raises:
            MetricError: the metric cannot measure them, or a pattern takes too long.
        """
        return self.metric.statistics(
            [replace(each, text=_answer(each.text, self.rules) or "") for each in predictions]
        )

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """That of the metric; shape (..., d) -> (...)."""
        return self.metric.value(totals)

    def signature(self, predictions: Sequence[TextPrediction]) -> str:
        """That of the metric, and a digest of the rules."""
        own = self.metric.signature(predictions) if isinstance(self.metric, Signed) else ""
        rules = json.dumps([rule.model_dump(exclude_unset=True) for rule in self.rules])
        name = self.name.partition(MARK)[2]
        return "|".join(filter(None, (own, f"{name}#{hashlib.sha256(rules.encode()).hexdigest()[:8]}")))

    def failures(self, predictions: Sequence[Any]) -> int:
        """In how many texts the rules find nothing."""
        return sum(_answer(each.text, self.rules) is None for each in predictions)
