"""How uncertain a value is: standard errors from influences of clusters or from resampling, and intervals.

Influences (delta method). The influence of a cluster is the gradient of the metric at the totals, times the sum of the
cluster's rows, less the mean of that over the clusters: a resample draws as many clusters as there are, so one counts
more only where another counts less. That mean is zero for a metric which does not change when all totals are multiplied
by one number (Euler); smoothed BLEU does. For a mean it gives the clustered standard error of Miller 2024 (arXiv
2411.00640) with the small-sample factor C / (C - 1) of the CR1 estimator; without clusters, the familiar sd / sqrt(n).

Resampling. Clusters are drawn whole, with replacement; all seeds see the same draws, because they answer the same
examples. The spread of the resampled values is the standard error itself: it is never divided by the number of
resamples.

Intervals are of 95 %, all a function of the value and its standard error: Wilson, log-normal, or normal, by the bounds.
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

# Relative step of the four-point difference, where its errors balance: curvature 4 STEP ** 4, rounding 1e-16 / STEP.
STEP = 2.0**-11
ROUNDING = 1e-11  # what numerical derivatives and sums leave of a spread that is zero


def influence(metric: Metric[Any], cluster_sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Influence of each cluster on the value, adding up to zero; shape (clusters, d) -> (clusters,)."""
    used = np.flatnonzero(cluster_sums.any(axis=0))  # a statistic that is zero everywhere moves nothing
    moved = cluster_sums[:, used] @ _gradient(metric, cluster_sums.sum(axis=0), used)
    return np.asarray(moved - moved.mean())


def clustered_error(influences: Collection[float]) -> float:
    """Standard error sqrt(C / (C - 1) * sum of squared influences) over C clusters; nan for a single one."""
    error = math.sqrt(correction(len(influences)) * math.fsum(each * each for each in influences))
    return 0.0 if error < ROUNDING else error


def correction(clusters: int) -> float:
    """The small-sample factor C / (C - 1); nan for a single cluster, whose spread is unknown."""
    return clusters / (clusters - 1) if clusters > 1 else math.nan


def _gradient(metric: Metric[Any], totals: NDArray[np.float64], used: NDArray[np.intp]) -> NDArray[np.float64]:
    """Derivative of the value with respect to the used totals, by four-point central differences; shape (used,)."""
    steps = STEP * np.maximum(np.abs(totals), 1.0)  # a total below one count keeps the step of one
    shifts = np.diag(steps)[used]
    near = metric.value(totals + shifts) - metric.value(totals - shifts)
    far = metric.value(totals + 2 * shifts) - metric.value(totals - 2 * shifts)
    return np.asarray((8 * near - far) / (12 * steps[used]))


# Counts of each cluster in each resample -> value of each resample; shape (resamples, clusters) -> (resamples,).
Resampled = Callable[[NDArray[np.int64]], NDArray[np.float64]]


def of_predictions(metric: CorpusMetric[P], seeds: Sequence[Sequence[P]]) -> Resampled:
    """Mean over seeds of the metric of resampled predictions; one call of `score` per resample and seed."""
    clusters = [_members(predictions) for predictions in seeds]

    def values(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([np.mean([metric.score(_repeat(members, row)) for members in clusters]) for row in counts])

    return values


def bootstrap(resampled: Resampled, clusters: int, resamples: int) -> NDArray[np.float64]:
    """Values of `resamples` draws of as many clusters as there are; the same draws at each call."""
    generator = np.random.Generator(np.random.PCG64(0))
    return resampled(generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples))


def jackknife(resampled: Resampled, clusters: int) -> NDArray[np.float64]:
    """Influence of each cluster: how far the value falls when it is left out (Efron & Stein 1981); shape (clusters,).

    Scaled so that sqrt(C / (C - 1) * sum of squares) is the jackknife standard error, as for every other influence.
    """
    without = resampled(1 - np.eye(clusters, dtype=np.int64))
    return np.asarray((clusters - 1) / clusters * (without.mean() - without))


def _members(predictions: Sequence[P]) -> list[list[P]]:
    """The predictions of each cluster, clusters sorted by name."""
    members: dict[str, list[P]] = {}
    for prediction in predictions:
        members.setdefault(prediction.cluster, []).append(prediction)
    return [members[name] for name in sorted(members)]


def _repeat(members: Sequence[Sequence[P]], counts: NDArray[np.int64]) -> list[P]:
    return [prediction for each, count in zip(members, counts, strict=True) for prediction in [*each] * int(count)]


Z = 1.959963984540054  # 97.5 % quantile of the standard normal


@dataclass(frozen=True, slots=True)
class Interval:
    """Two ends and the method that gave them: wilson, normal, log-normal, or bounds where nothing is known."""

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
    """The 95 % interval of a value that lies within bounds; the bounds if the standard error is unknown.

    A value between two finite bounds has Wilson's interval on the scale from bound to bound, one without an upper
    bound the log-normal interval, any other the normal one.

    Args:
        value: the estimate.
        standard_error: of the value.
        bounds: its least and its greatest possible value.
        freedom: degrees of freedom of the standard error: one less than the number of clusters.
        units: how many there are in the clusters; Wilson's interval is meant for as many that are independent.
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
    """Whether a standard error is an estimate of the sampling error.

    It is not for a single cluster (nan), nor if all clusters are alike (0): such a sample does not show how rare other
    clusters are, and an interval without width would claim certainty.
    """
    return standard_error > 0


def normal(value: float, standard_error: float, bounds: tuple[float, float], freedom: float = math.inf) -> Interval:
    """Value ± t standard errors, cut at the bounds; the bounds themselves if the standard error is unknown."""
    if not is_known(standard_error):
        return Interval(*bounds, "bounds")
    half = t_quantile(freedom) * standard_error
    return _cut(value - half, value + half, bounds, "normal")


def log_normal(value: float, standard_error: float, bounds: tuple[float, float], freedom: float = math.inf) -> Interval:
    """The normal interval of the logarithm, for values above 0 without an upper end; else the bounds, as in `normal`.

    By the delta method the standard error of the logarithm is the relative one.
    """
    if not is_known(standard_error) or value <= 0:
        return Interval(*bounds, "bounds")
    factor = math.exp(min(t_quantile(freedom) * standard_error / value, 700))  # exp(710) is more than a float holds
    return _cut(value / factor, value * factor, bounds, "log-normal")


def wilson(proportion: float, n: float) -> Interval:
    """Wilson's score interval (Wilson 1927) of a proportion of `n` independent units, which need not be whole."""
    centre = (proportion + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(proportion * (1 - proportion) / n + Z**2 / (4 * n**2))
    return _cut(min(centre - half, proportion), max(centre + half, proportion), (0.0, 1.0), "wilson")


def effective_units(
    proportion: float, standard_error: float, freedom: float = math.inf, units: float = math.inf
) -> float:
    """The number of independent right-or-wrong units whose mean would be as well known (Korn & Graubard 1998).

    It solves standard_error² = p (1 - p) / (n - 1), the estimate for such units: n itself where they are such units,
    fewer where clusters are alike inside, more where each unit is a mean over seeds or has partial scores. A standard
    error of few clusters is itself uncertain, for which n is multiplied by the square of the ratio of the t quantiles
    of `units` independent units and of the clusters.
    """
    ratio = t_quantile(units - 1) / t_quantile(freedom)
    return (1 + proportion * (1 - proportion) / standard_error**2) * ratio**2


@cache
def t_quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t, by degrees of freedom, which need not be whole."""
    from scipy.special import stdtrit

    return Z if math.isinf(freedom) else float(stdtrit(freedom, 0.975))


def _cut(low: float, high: float, bounds: tuple[float, float], method: str) -> Interval:
    return Interval(max(low, bounds[0]), min(high, bounds[1]), method)
