"""How good: statistics per example, then aggregation, then uncertainty. Pure functions of predictions."""

from icl_eval.metrics.estimate import Estimate, average, estimate, independent_average
from icl_eval.metrics.prediction import Prediction
from icl_eval.metrics.registry import METRICS, metric
from icl_eval.metrics.statistics import CorpusMetric, Metric, Statistics

__all__ = [
    "METRICS",
    "CorpusMetric",
    "Estimate",
    "Metric",
    "Prediction",
    "Statistics",
    "average",
    "estimate",
    "independent_average",
    "metric",
]
