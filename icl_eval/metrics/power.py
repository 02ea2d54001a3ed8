"""How many examples and draws of demonstrations a comparison of two models needs (power analysis).

The difference of two models on the same n clusters of examples, each a mean over K draws of demonstrations, has the
variance

    (ω² + σ²/K) / n + τ²/K,

where ω² is the variance between clusters of the expected difference, σ² = σ_A² + σ_B² that of one draw within a
cluster, and τ² that of a draw which all examples share. Without τ² it is the formula of Miller 2024 (arXiv 2411.00640,
section 5). A two-sided test of level α finds a difference δ with probability 1 - β if this variance is at most
δ² / (z_{α/2} + z_β)².
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from icl_eval.metrics.estimate import Estimate
from icl_eval.metrics.uncertainty import influence

POWER, LEVEL = 0.8, 0.05
CORRELATION = 1 / 3  # of two models over examples, if it is not measured: ω² = 1/9 for Var(x) = 1/12


@dataclass(frozen=True, slots=True)
class PairedVariance:
    """The parts of the variance of a difference, in the squared unit of the metric.

    Attributes:
        between: ω², between clusters of examples.
        within: σ² of one draw within a cluster, of both models together.
        common: τ² of one draw for all examples, of both models together.
    """

    between: float
    within: float
    common: float = 0.0

    def clusters_needed(self, effect: float, draws: int, power: float = POWER, level: float = LEVEL) -> float:
        """The number of clusters with which a difference is found; infinite if no number is enough."""
        left = _target(effect, power, level) - self.common / draws
        return (self.between + self.within / draws) / left if left > 0 else math.inf

    def draws_needed(self, effect: float, clusters: int, power: float = POWER, level: float = LEVEL) -> int | None:
        """The number of draws with which so many clusters are enough; None if no number is."""
        left = _target(effect, power, level) - self.between / clusters
        return max(1, math.ceil((self.within / clusters + self.common) / left)) if left > 0 else None

    def detectable(self, clusters: int, draws: int, power: float = POWER, level: float = LEVEL) -> float:
        """The least difference that is found."""
        variance = (self.between + self.within / draws) / clusters + self.common / draws
        return math.sqrt(variance / _target(1.0, power, level))


ASSUMED = PairedVariance(between=1 / 9, within=1 / 3)
"""Of right and wrong answers to questions of which each model solves a share that is uniform between 0 and 1.

Var(x) = 1/12 for each model and their correlation is 1/3, so ω² = 1/9; one answer has E[x (1 - x)] = 1/6 (Miller 2024).
"""


def measured(one: Estimate, other: Estimate | None = None, *, same_draws: bool = False) -> PairedVariance | None:
    """The variance of a difference, from two scores on the same examples, or from one.

    With one score, the other model is assumed to be like it, with a correlation of `CORRELATION` over examples. With
    one draw of each, the variance within clusters is part of that between them.

    Args:
        one: the score of the first model.
        other: that of the second, with the same clusters.
        same_draws: whether both models were given the same demonstrations in the same order, so that draws are pairs.

    Returns:
        The parts; None for a metric that is not a function of sums, or of a single cluster.
    """
    samples = [_per_cluster(each) for each in (one, other) if each is not None]
    if any(each is None or each.shape[1] < 2 for each in samples):
        return None
    first, *rest = [each for each in samples if each is not None]
    if not rest:
        own = _parts(first)
        between = 2 * (1 - CORRELATION) * own.between
        return PairedVariance(between, 2 * own.within, 2 * own.common)
    if same_draws:
        return _parts(rest[0] - first)
    parts = [(_parts(each), len(each)) for each in (first, rest[0])]
    total = float(np.var(_centred(rest[0]).mean(axis=0) - _centred(first).mean(axis=0), ddof=1))
    noise = sum(each.within / draws for each, draws in parts)
    within, common = (sum(getattr(each, name) for each, _ in parts) for name in ("within", "common"))
    return PairedVariance(max(0.0, total - noise), within, common)


def _target(effect: float, power: float, level: float) -> float:
    """The variance with which a difference is found."""
    from scipy.special import ndtri

    return float((effect / (ndtri(1 - level / 2) + ndtri(power))) ** 2)


def _per_cluster(found: Estimate) -> NDArray[np.float64] | None:
    """What each cluster adds to the score of each draw, as a score of its own; shape (draws, clusters)."""
    if found.sums is None:
        return None
    metric, rows = found.sums.metric, found.sums.rows
    influences = np.array([influence(metric, each) for each in rows])
    return np.asarray(influences * rows.shape[1] + metric.value(rows.sum(axis=1))[:, None])


def _parts(values: NDArray[np.float64]) -> PairedVariance:
    """Variance components of draws by clusters (two-way analysis of variance); shape (draws, clusters)."""
    draws, clusters = values.shape
    total = float(np.var(values.mean(axis=0), ddof=1))
    if draws == 1:
        return PairedVariance(total, 0.0)
    within = float(np.var(_centred(values), axis=0).mean()) * draws / (draws - 1) * clusters / (clusters - 1)
    common = float(np.var(values.mean(axis=1), ddof=1)) - within / clusters
    return PairedVariance(max(0.0, total - within / draws), within, max(0.0, common))


def _centred(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without the mean of each draw."""
    return np.asarray(values - values.mean(axis=1, keepdims=True))
