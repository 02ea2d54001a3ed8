"""Estimates: values of metrics with two uncertainties, over examples and over draws of demonstrations.

The standard error and the interval describe how much the value would change with another sample of examples. The
standard deviation over seeds describes how much it would change with other demonstrations. The two are never pooled.
The difference of two estimates on the same examples is paired (Miller 2024, arXiv 2411.00640).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from icl_eval.errors import MetricError
from icl_eval.metrics.prediction import AnyPrediction, P, TextPrediction
from icl_eval.metrics.registry import check_kind, check_labels
from icl_eval.metrics.statistics import ClusterSums, CorpusMetric, Metric
from icl_eval.metrics.uncertainty import (
    ROUNDING,
    bootstrap,
    clustered_error,
    correction,
    influence,
    interval,
    jackknife,
    normal,
    of_predictions,
    wilson,
)

T = TypeVar("T")

CORPUS_RESAMPLES = 200  # each calls the metric once with all predictions; enough for a standard error


@dataclass(frozen=True)
class Estimate:
    """The value of a metric, with its uncertainty over examples and its spread over seeds."""

    value: float
    """Mean over seeds."""
    standard_error: float
    """Standard error of the mean over examples (clustered); nan for a single cluster."""
    low: float
    high: float
    """Ends of the 95 % interval."""
    interval: str
    """`wilson`, `log-normal` or `normal`; `bounds`, all possible values, if the standard error is unknown."""
    units: int
    clusters: int
    seed_values: tuple[float, ...]
    seed_sd: float | None
    """Sample standard deviation over seeds; None for one seed."""
    influence: Mapping[str, float]
    """The influence of each cluster on the value; influences sum to 0.

    sqrt(C / (C - 1) * sum of squares) over C clusters is `standard_error`. For a `CorpusMetric` it is the standard
    error of the jackknife, while `standard_error` is that of the bootstrap.
    """
    bounds: tuple[float, float] = (0.0, 1.0)
    freedom: float = math.inf
    """Degrees of freedom of the standard error: number of clusters minus 1; by Satterthwaite's formula for averages."""
    method: Literal["delta", "jackknife"] = "delta"
    """Method of the influences; `jackknife` for an average if any of its estimates uses it."""
    sums: ClusterSums | None = field(default=None, compare=False, repr=False)
    """The sums from which the value is computed; None for an average and for a `CorpusMetric`."""


def estimate(metric: Metric[P] | CorpusMetric[P], seeds: Sequence[Sequence[P]]) -> Estimate:
    """Estimate a metric from the predictions of each seed.

    The standard error of a `CorpusMetric` is computed by a bootstrap, and its influences by a jackknife, which calls
    the metric once per cluster and seed.

    Raises:
        MetricError: the seeds have different examples, the metric is for another kind of answer or cannot use wrong
            references, or its value is not finite.
    """
    ordered = _same_examples(seeds)
    for kind in sorted({prediction.kind for predictions in ordered for prediction in predictions}):
        check_kind(metric, kind)
    if any(isinstance(each, TextPrediction) and not each.right for each in ordered[0]):
        check_labels(metric)
    if isinstance(metric, CorpusMetric):
        return _of_predictions(metric, ordered)
    return _of_sums(metric, ordered)


def average(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of several metrics of one task on the same examples; `units` is the smallest number of any metric.

    Influences are averaged for each cluster, which accounts for the correlation of the metrics.

    Raises:
        MetricError: the estimates have different clusters or numbers of seeds.
    """
    names = _one_of({frozenset(each.influence) for each in estimates}, "metrics to average", "clusters")
    influences = {name: _mean([each.influence[name] for each in estimates]) for name in sorted(names)}
    units, freedom = min(each.units for each in estimates), len(names) - 1
    return _averaged(estimates, clustered_error(influences.values()), freedom, influences, units)


def independent_average(estimates: Sequence[Estimate], weights: Sequence[float] | None = None) -> Estimate:
    """The weighted mean of tasks with independent examples. Its squared standard error is the sum of weight² error².

    Clusters are named `position/cluster`, and their influences are scaled so that they give the same standard error.

    Args:
        estimates: one per task.
        weights: one per task, which sum to 1; equal by default.

    Raises:
        MetricError: the tasks have different numbers of seeds.
    """
    shares = weights or [1 / max(len(estimates), 1)] * len(estimates)
    weighted = list(zip(shares, estimates, strict=True))
    total = sum(each.clusters for each in estimates)
    error = math.sqrt(math.fsum((share * each.standard_error) ** 2 for share, each in weighted))
    influences = {
        f"{position}/{name}": value * math.sqrt(correction(each.clusters) / correction(total)) * share
        for position, (share, each) in enumerate(weighted)
        for name, value in each.influence.items()
    }
    freedom = _satterthwaite([(share * each.standard_error) ** 2 for share, each in weighted], estimates)
    return _averaged(estimates, error, freedom, influences, sum(each.units for each in estimates), shares)


def average_of_parts(estimates: Sequence[Estimate]) -> Estimate:
    """The unweighted mean of a metric over parts of a task's examples, such as categories.

    Parts without common clusters are independent. Otherwise the influences of a cluster on its parts are added, which
    accounts for their correlation; the standard error is then unknown if that of any part is unknown.
    """
    names = [name for each in estimates for name in each.influence]
    if len(set(names)) == len(names):
        found = independent_average(estimates)
        return replace(found, influence={name.partition("/")[2]: each for name, each in found.influence.items()})
    influences: dict[str, float] = dict.fromkeys(sorted(names), 0.0)
    for each in estimates:
        for name, value in each.influence.items():
            influences[name] += value / len(estimates)
    known = all(math.isfinite(each.standard_error) for each in estimates)
    error = clustered_error(influences.values()) if known else math.nan
    return _averaged(estimates, error, len(influences) - 1, influences, sum(each.units for each in estimates))


def difference_of_parts(one: Estimate, other: Estimate) -> Estimate:
    """The value of a metric on one part of a task's examples minus that on another part.

    Parts without common clusters are independent, so squared standard errors are added. Otherwise, the influence of a
    cluster on the difference is the difference of its influences on the parts.
    """
    names = sorted({*one.influence, *other.influence})
    influences = {name: one.influence.get(name, 0.0) - other.influence.get(name, 0.0) for name in names}
    error, freedom = math.hypot(one.standard_error, other.standard_error), float(len(names) - 1)
    if len(names) == one.clusters + other.clusters:
        freedom = _satterthwaite([one.standard_error**2, other.standard_error**2], (one, other))
    elif math.isfinite(error):
        error = clustered_error(influences.values())
    bounds = one.bounds[0] - other.bounds[1], one.bounds[1] - other.bounds[0]
    values = np.subtract(one.seed_values, other.seed_values)
    ends = normal(float(values.mean()), error, bounds, freedom)
    found = _assembled(values, error, freedom, one.units + other.units, influences, bounds)
    jackknife_used = "jackknife" in (one.method, other.method)
    return replace(
        found, low=ends.low, high=ends.high, interval=ends.method, method="jackknife" if jackknife_used else "delta"
    )


def _satterthwaite(variances: Sequence[float], estimates: Sequence[Estimate]) -> float:
    """The degrees of freedom of a sum of independent variances (Satterthwaite 1946)."""
    total = math.fsum(variances)
    if not total > 0:
        return math.inf
    parts = zip(variances, estimates, strict=True)
    return total**2 / math.fsum(variance**2 / each.freedom for variance, each in parts if variance)


def _of_sums(metric: Metric[P], seeds: Sequence[Sequence[P]]) -> Estimate:
    statistics = [metric.statistics(predictions) for predictions in seeds]
    names, units = statistics[0].cluster_names, len(statistics[0].units)
    sums = np.stack([each.cluster_sums for each in statistics])  # (seeds, clusters, d)
    values = _finite(metric.name, metric.value(sums.sum(axis=1)))
    influences = np.mean([influence(metric, each) for each in sums], axis=0)
    error = clustered_error(influences)
    found = _assembled(values, error, len(names) - 1, units, _by_name(names, influences), metric.bounds)
    found = replace(found, sums=ClusterSums(metric, sums))
    if not metric.proportion or error != 0:
        return found
    alike = wilson(found.value, len(names))  # all clusters are alike, so each counts as one unit
    return replace(found, low=alike.low, high=alike.high, interval=alike.method)


def _of_predictions(metric: CorpusMetric[P], seeds: Sequence[Sequence[P]]) -> Estimate:
    names = sorted({prediction.cluster for prediction in seeds[0]})
    values = _finite(metric.name, np.array([metric.score(predictions) for predictions in seeds]))
    if len(names) == 1:
        found = _assembled(values, math.nan, 0, len(seeds[0]), {names[0]: 0.0}, metric.bounds)
        return replace(found, method="jackknife")
    metric_of = of_predictions(metric, seeds)
    error = _spread(bootstrap(metric_of, len(names), CORPUS_RESAMPLES))
    influences = _by_name(names, jackknife(metric_of, len(names)))
    found = _assembled(values, error, len(names) - 1, len(seeds[0]), influences, metric.bounds)
    return replace(found, method="jackknife")


def _spread(resampled: NDArray[np.float64]) -> float:
    """Standard deviation; exactly 0 if all values are equal up to rounding."""
    return 0.0 if np.ptp(resampled) < ROUNDING else float(resampled.std(ddof=1))


def _averaged(
    estimates: Sequence[Estimate],
    error: float,
    freedom: float,
    influences: dict[str, float],
    units: int,
    weights: Sequence[float] | None = None,
) -> Estimate:
    _one_of({len(each.seed_values) for each in estimates}, "estimates to average", "numbers of seeds")
    values = np.average([each.seed_values for each in estimates], axis=0, weights=weights)
    low, high = (float(np.average(ends, weights=weights)) for ends in zip(*(e.bounds for e in estimates), strict=True))
    found = _assembled(values, error, freedom, units, influences, (low, high))
    return replace(found, method="jackknife" if any(each.method == "jackknife" for each in estimates) else "delta")


def _assembled(
    seed_values: NDArray[np.float64],
    error: float,
    freedom: float,
    units: int,
    influences: dict[str, float],
    bounds: tuple[float, float],
) -> Estimate:
    value = _mean(seed_values)
    ends = interval(value, error, bounds, freedom, units)
    return Estimate(
        value=value,
        standard_error=error,
        low=ends.low,
        high=ends.high,
        interval=ends.method,
        units=units,
        clusters=len(influences),
        seed_values=tuple(float(each) for each in seed_values),
        seed_sd=float(np.std(seed_values, ddof=1)) if len(seed_values) > 1 else None,
        influence=influences,
        bounds=bounds,
        freedom=freedom,
    )


def _finite(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    if not np.isfinite(values).all():
        raise MetricError(f"{name} of these predictions is not a finite number")
    return values


def _same_examples(seeds: Sequence[Sequence[P]]) -> list[list[P]]:
    """The predictions of each seed, sorted by id so that rounding does not depend on their order.

    Raises:
        MetricError: there are no predictions, an id is repeated, or the seeds have different examples.
    """
    if not seeds or not all(seeds):
        raise MetricError("nothing was evaluated; a metric needs at least one example from every seed")
    ordered = [sorted(predictions, key=lambda prediction: prediction.id) for predictions in seeds]
    for before, after in chain.from_iterable(pairwise(predictions) for predictions in ordered):
        if before.id == after.id:
            raise MetricError(f"example {after.id!r} was answered twice with one seed; ids must differ")
    first = {_identity(prediction) for prediction in ordered[0]}
    for predictions in ordered:
        if differing := first ^ {_identity(prediction) for prediction in predictions}:
            id = min(id for id, *_ in differing)
            raise MetricError(f"the examples differ between seeds: {id!r} is not the same in all of them")
    return ordered


def _identity(prediction: AnyPrediction) -> tuple[str, str, str, Hashable]:
    return prediction.id, prediction.cluster, prediction.group, prediction.question


def _one_of(found: Collection[T], where: str, what: str) -> T:
    """The only element; raises `MetricError` if there is none or there are several."""
    if not found:
        raise MetricError(f"there are no {where}")
    if len(found) > 1:
        raise MetricError(f"the {where} differ in their {what}; all must have the same")
    return next(iter(found))


def _by_name(names: Sequence[str], influences: NDArray[np.float64]) -> dict[str, float]:
    return {name: float(each) for name, each in zip(names, influences, strict=True)}


def _mean(values: Collection[float] | NDArray[np.float64]) -> float:
    return math.fsum(values) / len(values)


@dataclass(frozen=True)
class Difference:
    """A second estimate minus a first one, with its uncertainty over the common examples."""

    value: float
    standard_error: float
    """Standard error over examples (clustered); nan for a single cluster."""
    low: float
    high: float
    """Ends of the 95 % interval by Student's t."""
    interval: str
    """`normal`; `bounds`, all possible differences, if the standard error is unknown."""


def difference(one: Estimate, other: Estimate) -> Difference:
    """`other` minus `one`, paired by cluster.

    The influence of a cluster on the difference is the difference of its influences, so effects on both scores cancel.
    For means this is the standard error of the examples' differences d, sqrt(sum of (d - mean d)² / (n (n - 1))).

    Raises:
        MetricError: the estimates have different clusters.
    """
    if one.influence.keys() != other.influence.keys():
        raise MetricError("the two scores have different clusters of examples, so they cannot be paired")
    error = clustered_error([other.influence[name] - each for name, each in one.influence.items()])
    bounds = other.bounds[0] - one.bounds[1], other.bounds[1] - one.bounds[0]
    value = other.value - one.value
    ends = normal(value, error, bounds, min(one.freedom, other.freedom))
    return Difference(value, error, ends.low, ends.high, ends.method)
