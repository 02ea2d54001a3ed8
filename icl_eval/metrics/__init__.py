"""Metrics: statistics of examples, values and their uncertainty, as pure functions of predictions."""

from icl_eval.metrics.close_calls import value_range
from icl_eval.metrics.estimate import (
    Difference,
    Estimate,
    average,
    average_of_parts,
    difference,
    difference_of_parts,
    estimate,
    independent_average,
)
from icl_eval.metrics.prediction import AnyPrediction, Kind, LikelihoodPrediction, Prediction, TextPrediction
from icl_eval.metrics.refusals import is_unspaced
from icl_eval.metrics.registry import (
    METRIC_NAMES,
    METRICS,
    MOMENT_METRIC,
    PER_SHOT_LOSS,
    check_examples,
    check_kind,
    check_labels,
    fitting,
    lower_is_better,
    metric,
    needs_moments,
    takes_any_example,
)
from icl_eval.metrics.statistics import AnyMetric, CorpusMetric, Metric, Signed, Statistics

__all__ = [
    "METRICS",
    "METRIC_NAMES",
    "MOMENT_METRIC",
    "PER_SHOT_LOSS",
    "AnyMetric",
    "AnyPrediction",
    "CorpusMetric",
    "Difference",
    "Estimate",
    "Kind",
    "LikelihoodPrediction",
    "Metric",
    "Prediction",
    "Signed",
    "Statistics",
    "TextPrediction",
    "average",
    "average_of_parts",
    "check_examples",
    "check_kind",
    "check_labels",
    "difference",
    "difference_of_parts",
    "estimate",
    "fitting",
    "independent_average",
    "is_unspaced",
    "lower_is_better",
    "metric",
    "needs_moments",
    "takes_any_example",
    "value_range",
]
