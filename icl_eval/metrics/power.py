"""Power analysis: the number of examples and draws of demonstrations that a comparison of two models needs.

The difference of two models on the same n clusters of examples, averaged over K draws of demonstrations, has the
variance

    (ω² + σ²/K) / n + τ²/K,

where ω² is the variance of the expected difference between clusters, σ² = σ_A² + σ_B² the variance of a draw within a
cluster, and τ² the variance of a draw that is common to all examples. With τ² = 0 this is the formula of Miller 2024
(arXiv 2411.00640, section 5). A two-sided test at level α detects a difference δ with probability 1 - β if this
variance is at most δ² / (z_{α/2} + z_β)².
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from icl_eval.metrics.estimate import Estimate
from icl_eval.metrics.uncertainty import influence

POWER, LEVEL = 0.8, 0.05
CORRELATION = 1 / 3  # assumed correlation of two models over examples: ω² = 1/9 for Var(x) = 1/12


@dataclass(frozen=True, slots=True)
class PairedVariance:
    """The components of the variance of a difference, in the squared unit of the metric.

    Attributes:
        between: ω², between clusters of examples.
        within: σ², of a draw within a cluster, both models together.
        common: τ², of a draw common to all examples, both models together.
    """

    between: float
    within: float
    common: float = 0.0

    def clusters_needed(self, effect: float, draws: int, power: float = POWER, level: float = LEVEL) -> float:
        """The number of clusters that detects a difference; infinite if no number does."""
        left = _target(effect, power, level) - self.common / draws
        return (self.between + self.within / draws) / left if left > 0 else math.inf

    def draws_needed(self, effect: float, clusters: int, power: float = POWER, level: float = LEVEL) -> int | None:
        """The number of draws with which a number of clusters detects a difference; None if no number does."""
        left = _target(effect, power, level) - self.between / clusters
        return max(1, math.ceil((self.within / clusters + self.common) / left)) if left > 0 else None

    def detectable(self, clusters: int, draws: int, power: float = POWER, level: float = LEVEL) -> float:
        """The smallest difference that is detected."""
        variance = (self.between + self.within / draws) / clusters + self.common / draws
        return math.sqrt(variance / _target(1.0, power, level))


ASSUMED = PairedVariance(between=1 / 9, within=1 / 3)
"""The variance for right and wrong answers, if the probability x of a right answer is uniform over the examples.

Var(x) = 1/12 for each model and their correlation is 1/3, so ω² = 1/9. An answer has E[x (1 - x)] = 1/6 (Miller 2024).
"""


def measured(one: Estimate, other: Estimate | None = None, *, same_draws: bool = False) -> PairedVariance | None:
    """Measure the variance of a difference from one or two scores on the same examples.

    With one score, the other model is assumed to have the same variance and a correlation of `CORRELATION` over
    examples. With a single draw, the variance within clusters is contained in that between clusters.

    Args:
        one: the score of the first model.
        other: the score of the second model, on the same clusters.
        same_draws: whether both models had the same demonstrations in the same order, so that draws are paired.

    Returns:
        The components; None for a metric that is not a function of sums, and for a single cluster.
    """
    samples = [_per_cluster(each) for each in (one, other) if each is not None]
    if any(each is None or each.shape[1] < 2 for each in samples):
        return None
    first, *rest = [each for each in samples if each is not None]
    if not rest:
        single = _components(first)
        between = 2 * (1 - CORRELATION) * single.between
        return PairedVariance(between, 2 * single.within, 2 * single.common)
    if same_draws:
        return _components(rest[0] - first)
    parts = [(_components(each), len(each)) for each in (first, rest[0])]
    total = float(np.var(_centred(rest[0]).mean(axis=0) - _centred(first).mean(axis=0), ddof=1))
    noise = sum(each.within / draws for each, draws in parts)
    within, common = (sum(getattr(each, name) for each, _ in parts) for name in ("within", "common"))
    return PairedVariance(max(0.0, total - noise), within, common)


def _target(effect: float, power: float, level: float) -> float:
    """The largest variance with which a difference is detected."""
    from scipy.special import ndtri

    return float((effect / (ndtri(1 - level / 2) + ndtri(power))) ** 2)


def _per_cluster(estimate: Estimate) -> NDArray[np.float64] | None:
    """The linearised score of each cluster in each draw, whose mean is the score; shape (draws, clusters)."""
    if estimate.sums is None:
        return None
    metric, rows = estimate.sums.metric, estimate.sums.rows
    influences = np.array([influence(metric, each) for each in rows])
    return np.asarray(influences * rows.shape[1] + metric.value(rows.sum(axis=1))[:, None])


def _components(values: NDArray[np.float64]) -> PairedVariance:
    """Variance components by a two-way analysis of variance of values of shape (draws, clusters)."""
    draws, clusters = values.shape
    total = float(np.var(values.mean(axis=0), ddof=1))
    if draws == 1:
        return PairedVariance(total, 0.0)
    within = float(np.var(_centred(values), axis=0).mean()) * draws / (draws - 1) * clusters / (clusters - 1)
    common = float(np.var(values.mean(axis=1), ddof=1)) - within / clusters
    return PairedVariance(max(0.0, total - within / draws), within, max(0.0, common))


def _centred(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values minus the mean of each draw."""
    return np.asarray(values - values.mean(axis=1, keepdims=True))
