"""Uncertainty over examples: standard errors from influences or resampling, and 95 % intervals.

Influences (delta method). The influence of a cluster is the product of the gradient of the metric at the totals and the
sum of the cluster's rows, minus the mean of these products over clusters. The mean is subtracted because a resample has
a fixed number of clusters. It is zero for metrics that do not change if all totals are multiplied by a number (Euler),
but not for smoothed BLEU. For a mean this gives the clustered standard error of Miller 2024 (arXiv 2411.00640) with the
small-sample factor C / (C - 1) of the CR1 estimator, and without clusters sd / sqrt(n).

Resampling. Whole clusters are drawn with replacement. All seeds have the same resamples, because they answer the same
examples. The standard deviation of the resampled values is the standard error; it is not divided by anything.

Intervals are functions of the value and its standard error: Wilson, log-normal or normal, depending on the bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_eval.metrics.prediction import P
from icl_eval.metrics.statistics import CorpusMetric, Metric

# Relative step of four-point differences. It balances the errors of curvature, 4 STEP ** 4, and rounding, 1e-16 / STEP.
STEP = 2.0**-11
ROUNDING = 1e-11  # rounding error of a spread that is zero


def influence(metric: Metric[Any], cluster_sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The influence of each cluster on the value; influences sum to 0. Shape (clusters, d) -> (clusters,)."""
    used = np.flatnonzero(cluster_sums.any(axis=0))  # statistics that are zero everywhere have no effect
    moved = cluster_sums[:, used] @ _gradient(metric, cluster_sums.sum(axis=0), used)
    return np.asarray(moved - moved.mean())


def clustered_error(influences: Collection[float]) -> float:
    """The standard error sqrt(C / (C - 1) * sum of squared influences) of C clusters; nan for a single cluster."""
    error = math.sqrt(correction(len(influences)) * math.fsum(each * each for each in influences))
    return 0.0 if error < ROUNDING else error


def correction(clusters: int) -> float:
    """The small-sample factor C / (C - 1); nan for a single cluster."""
    return clusters / (clusters - 1) if clusters > 1 else math.nan


def _gradient(metric: Metric[Any], totals: NDArray[np.float64], used: NDArray[np.intp]) -> NDArray[np.float64]:
    """The derivatives of the value with respect to the used totals, by four-point differences; shape (used,)."""
    steps = STEP * np.maximum(np.abs(totals), 1.0)  # totals below 1 have the step of 1
    shifts = np.diag(steps)[used]
    near = metric.value(totals + shifts) - metric.value(totals - shifts)
    far = metric.value(totals + 2 * shifts) - metric.value(totals - 2 * shifts)
    return np.asarray((8 * near - far) / (12 * steps[used]))


# How often each cluster is in each resample -> value of each resample; (resamples, clusters) -> (resamples,).
Resampled = Callable[[NDArray[np.int64]], NDArray[np.float64]]


def of_predictions(metric: CorpusMetric[P], seeds: Sequence[Sequence[P]]) -> Resampled:
    """A function that computes the metric of resampled predictions, averaged over seeds."""
    clusters = [_members(predictions) for predictions in seeds]

    def values(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([np.mean([metric.score(_repeat(members, row)) for members in clusters]) for row in counts])

    return values


def bootstrap(resampled: Resampled, clusters: int, resamples: int) -> NDArray[np.float64]:
    """The values of bootstrap resamples of the clusters, which are the same at each call; shape (resamples,)."""
    generator = np.random.Generator(np.random.PCG64(0))
    return resampled(generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples))


def jackknife(resampled: Resampled, clusters: int) -> NDArray[np.float64]:
    """The influence of each cluster by leaving it out (Efron & Stein 1981); shape (clusters,).

    Influences are scaled so that sqrt(C / (C - 1) * sum of squares) is the standard error, as for the delta method.
    """
    without = resampled(1 - np.eye(clusters, dtype=np.int64))
    return np.asarray((clusters - 1) / clusters * (without.mean() - without))


def _members(predictions: Sequence[P]) -> list[list[P]]:
    """The predictions of each cluster; clusters are sorted by name."""
    members: dict[str, list[P]] = {}
    for prediction in predictions:
        members.setdefault(prediction.cluster, []).append(prediction)
    return [members[name] for name in sorted(members)]


def _repeat(members: Sequence[Sequence[P]], counts: NDArray[np.int64]) -> list[P]:
    return [prediction for each, count in zip(members, counts, strict=True) for prediction in [*each] * int(count)]


Z = 1.959963984540054  # 97.5 % quantile of the standard normal


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval and its method: `wilson`, `normal`, `log-normal`, or `bounds` if the standard error is unknown."""

    low: float
    high: float
    method: str


def interval(
    value: float,
    standard_error: float,
    bounds: tuple[float, float],
    freedom: float = math.inf,
    units: float = math.inf,
) -> Interval:
    """The 95 % interval of a value; the bounds if the standard error is unknown.

    With two finite bounds, it is Wilson's interval on the scale between the bounds. With only a lower bound, it is the
    log-normal interval, otherwise the normal interval.

    Args:
        value: the estimate.
        standard_error: of the value.
        bounds: the lowest and the highest possible value.
        freedom: degrees of freedom of the standard error: the number of clusters minus 1.
        units: number of units in all clusters.
    """
    if not is_known(standard_error):
        return Interval(*bounds, "bounds")
    if math.isfinite(bounds[1] - bounds[0]):
        width = bounds[1] - bounds[0]
        share = min(max((value - bounds[0]) / width, 0.0), 1.0)
        found = wilson(share, effective_units(share, standard_error / width, freedom, units))
        return _cut(bounds[0] + found.low * width, bounds[0] + found.high * width, bounds, found.method)
    return (log_normal if math.isfinite(bounds[0]) else normal)(value, standard_error, bounds, freedom)


def is_known(standard_error: float) -> bool:
    """Whether a standard error estimates the sampling error.

    It does not for a single cluster (nan), or if all clusters are equal (0): such a sample does not show how often
    other clusters occur, and an interval of width 0 would claim certainty.
    """
    return standard_error > 0


def normal(value: float, standard_error: float, bounds: tuple[float, float], freedom: float = math.inf) -> Interval:
    """Value ± t standard errors, limited to the bounds; the bounds if the standard error is unknown."""
    if not is_known(standard_error):
        return Interval(*bounds, "bounds")
    half = t_quantile(freedom) * standard_error
    return _cut(value - half, value + half, bounds, "normal")


def log_normal(value: float, standard_error: float, bounds: tuple[float, float], freedom: float = math.inf) -> Interval:
    """The normal interval of the logarithm of a positive value; the bounds if the standard error is unknown.

    By the delta method, the standard error of the logarithm is the relative standard error.
    """
    if not is_known(standard_error) or value <= 0:
        return Interval(*bounds, "bounds")
    factor = math.exp(min(t_quantile(freedom) * standard_error / value, 700))  # exp(710) is too large for a float
    return _cut(value / factor, value * factor, bounds, "log-normal")


def wilson(proportion: float, n: float) -> Interval:
    """Wilson's score interval (Wilson 1927) of a proportion of `n` independent units; `n` may be fractional."""
    centre = (proportion + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(proportion * (1 - proportion) / n + Z**2 / (4 * n**2))
    return _cut(min(centre - half, proportion), max(centre + half, proportion), (0.0, 1.0), "wilson")


def effective_units(
    proportion: float, standard_error: float, freedom: float = math.inf, units: float = math.inf
) -> float:
    """The number n of independent binary units whose mean has the same standard error (Korn & Graubard 1998).

    It solves standard_error² = p (1 - p) / (n - 1). It is smaller than the number of units if units of a cluster are
    similar, and larger if each unit is a mean over seeds or has partial scores. Because the standard error of few
    clusters is uncertain, n is multiplied by the squared ratio of the t quantiles for `units` independent units and for
    the clusters.
    """
    ratio = t_quantile(units - 1) / t_quantile(freedom)
    return (1 + proportion * (1 - proportion) / standard_error**2) * ratio**2


@cache
def t_quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t distribution; the degrees of freedom may be fractional."""
    from scipy.special import stdtrit

    return Z if math.isinf(freedom) else float(stdtrit(freedom, 0.975))


def _cut(low: float, high: float, bounds: tuple[float, float], method: str) -> Interval:
    return Interval(max(low, bounds[0]), min(high, bounds[1]), method)
