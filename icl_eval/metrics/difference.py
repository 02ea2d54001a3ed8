"""How far two scores on the same examples lie apart: the paired difference (Miller 2024, arXiv 2411.00640)."""

from __future__ import annotations

from dataclasses import dataclass

from icl_eval.errors import MetricError
from icl_eval.metrics.estimate import Estimate
from icl_eval.metrics.influence import clustered_error
from icl_eval.metrics.interval import normal


@dataclass(frozen=True)
class Difference:
    """A second estimate less a first one, with the uncertainty over the examples that they share."""

    value: float
    standard_error: float
    """Over examples (clustered); nan where there is one cluster."""
    low: float
    high: float
    """Ends of the 95 % interval by Student's t."""
    interval: str
    """normal; bounds, all possible differences, where nothing is known of the spread."""


def difference(one: Estimate, other: Estimate) -> Difference:
    """`other` less `one`, paired cluster by cluster.

    A cluster moves the difference by the difference of its influences, so what moves both scores alike cancels: for
    means it is the standard error of the differences of the examples, sqrt(sum of (d - mean d)² / (n (n - 1))).
    Raises `MetricError` unless both have the same clusters.
    """
    if one.influence.keys() != other.influence.keys():
        raise MetricError("the two scores have other clusters of examples, so nothing can be paired")
    error = clustered_error([other.influence[name] - each for name, each in one.influence.items()])
    bounds = other.bounds[0] - one.bounds[1], other.bounds[1] - one.bounds[0]
    value = other.value - one.value
    ends = normal(value, error, bounds, min(one.freedom, other.freedom))
    return Difference(value, error, ends.low, ends.high, ends.method)
