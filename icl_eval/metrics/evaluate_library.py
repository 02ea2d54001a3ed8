"""Metrics of the Hugging Face `evaluate` library, named `evaluate:NAME`, `evaluate:NAME#CONFIG` or `...:KEY`.

NAME is what `evaluate.load` takes: a name on the Hub or the path of a metric script. Predictions are the indices of the
chosen options and references those of the first right option, so a metric of texts does not suit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from icl_eval.errors import MetricError, UnknownName
from icl_eval.metrics.prediction import Kind, Prediction

PREFIX = "evaluate:"


@dataclass(frozen=True)
class EvaluateMetric:
    """One entry of what an `evaluate` metric computes; a `CorpusMetric` whose bounds are unknown."""

    name: str
    compute: Callable[..., Mapping[str, Any] | None]
    key: str | None
    """The entry of the result that is the metric; may be None where the result has one entry."""
    of: Kind = "choice"
    bounds: tuple[float, float] = (-math.inf, math.inf)

    def score(self, predictions: Sequence[Prediction]) -> float:
        """The metric of these predictions; raises `UnknownName` where the result has no entry `key`."""
        chosen = [prediction.chosen for prediction in predictions]
        if several := next((each.id for each in predictions if len(each.gold) > 1), None):
            raise MetricError(f"{self.name} takes one right option per example, but {several!r} has more")
        gold = [prediction.gold[0] for prediction in predictions]
        try:
            result = self.compute(predictions=chosen, references=gold)
        except (TypeError, ValueError) as error:
            raise MetricError(f"{self.name} cannot be computed from option indices: {error}") from error
        return self._entry(result or {})

    def _entry(self, result: Mapping[str, Any]) -> float:
        if self.key is None and len(result) != 1:
            raise MetricError(f"{self.name} computes {', '.join(result) or 'nothing'}; name one: {self.name}:KEY")
        key = next(iter(result)) if self.key is None else self.key
        if key not in result:
            raise UnknownName(f"result of {self.name}", key, result)
        try:
            return float(result[key])
        except (TypeError, ValueError) as error:
            raise MetricError(f"{self.name} computes {key!r} as {result[key]!r}, which is not a number") from error


def load(name: str, *, trust_remote_code: bool) -> EvaluateMetric:
    """The metric of this full name; raises `MetricError` where code is not trusted or the library cannot load it.

    Loading runs the script of the metric, and fetches it if it is named by its place on the Hub.
    """
    path, _, key = name.removeprefix(PREFIX).partition(":")
    path, _, config = path.partition("#")
    if not trust_remote_code:
        raise MetricError(f"{name} runs code that is not part of icl-eval; allow it with --trust-remote-code")
    try:
        import evaluate  # takes seconds, and only tasks that name such a metric need it

        module = evaluate.load(path, config or None, keep_in_memory=True)
    except (ImportError, OSError, ValueError, TypeError, KeyError) as error:
        raise MetricError(f"{name} cannot be loaded: {error}") from error
    return EvaluateMetric(name, module.compute, key or None)
