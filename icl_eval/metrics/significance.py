"""Significance of paired differences: p-values, their adjustment, and the smallest detectable difference."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from icl_eval.metrics.statistics import ClusterSums
from icl_eval.metrics.uncertainty import is_known, t_quantile

POWER_QUANTILE = 0.8416212335729143  # 80 % quantile of the standard normal
MAX_EXACT = 13  # number of clusters that differ up to which all exchanges are tried
RESAMPLES = 9999
CHUNK = 2**22  # exchanges of single clusters in memory at once
ROUNDING = 1e-9  # rounding error between equal differences


def t_test(value: float, standard_error: float, freedom: float) -> float | None:
    """The two-sided p-value of a difference by Student's t; None if the standard error is unknown."""
    from scipy.special import ndtr, stdtr

    if not is_known(standard_error):
        return None
    ratio = -abs(value / standard_error)
    return float(2 * (ndtr(ratio) if math.isinf(freedom) else stdtr(freedom, ratio)))


def sign_test(wins: int, losses: int) -> float:
    """The exact two-sided p-value of numbers of wins and losses, without ties: McNemar's exact test (McNemar 1947)."""
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5))) if wins + losses else 1.0


class PermutationTest(NamedTuple):
    """A p-value, and whether it is of all permutations."""

    p_value: float
    exact: bool


def permutation_test(
    one: ClusterSums, other: ClusterSums, resamples: int = RESAMPLES, seed: int = 0
) -> PermutationTest | None:
    """A two-sided test of equal scores that exchanges the models' answers to whole clusters (Noreen 1989).

    If the models do not differ, their answers to a cluster can be exchanged. The p-value is the fraction of exchanges
    whose difference is at least as large as the observed one. If few clusters differ, all exchanges are tried.
    Otherwise they are random, and the p-value is (hits + 1) / (resamples + 1) (Phipson & Smyth 2010). For a mean this
    is the sign-flip test of the clusters' differences. For right and wrong answers without clusters it is McNemar's
    exact test.

    Args:
        one: statistics of the first model.
        other: statistics of the second model on the same clusters.
        resamples: number of random exchanges.
        seed: of the random exchanges.

    Returns:
        The test; None if the models have different numbers of draws, so that their answers cannot be exchanged.
    """
    if one.rows.shape != other.rows.shape:
        return None
    steps = other.rows - one.rows  # (draws, clusters, d)
    steps = steps[:, np.flatnonzero(steps.any(axis=(0, 2)))]
    totals = np.stack([one.rows.sum(axis=1), other.rows.sum(axis=1)])[:, :, None]  # (2, draws, 1, d)
    exact = steps.shape[1] <= MAX_EXACT
    exchanges = _all_exchanges(steps.shape[1]) if exact else _random_exchanges(steps.shape[1], resamples, seed)

    def differences(exchanged: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = exchanged @ steps  # (draws, exchanges, d)
        return np.abs(other.values(totals[1] - moved) - one.values(totals[0] + moved))

    observed = differences(np.zeros((1, steps.shape[1])))[0]
    least = observed - ROUNDING * max(1.0, observed)
    hits = sum(int((~(differences(each) < least)).sum()) for each in exchanges)
    return PermutationTest(hits / 2 ** steps.shape[1] if exact else (hits + 1) / (resamples + 1), exact)


def _all_exchanges(clusters: int) -> Iterator[NDArray[np.float64]]:
    """All subsets of the clusters, as rows of 0 and 1."""
    yield (np.arange(2**clusters)[:, None] >> np.arange(clusters) & 1).astype(np.float64)


def _random_exchanges(clusters: int, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    generator = np.random.Generator(np.random.PCG64(seed))
    size = max(1, CHUNK // clusters)
    for start in range(0, resamples, size):
        shape = min(size, resamples - start), -(-clusters // 8)
        eight_each = generator.integers(0, 256, size=shape, dtype=np.uint8)
        yield np.unpackbits(eight_each, axis=1, count=clusters).astype(np.float64)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values adjusted by Holm's step-down method (Holm 1979), in the same order; None stays None."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    least = 0.0
    for position, (p, index) in enumerate(known):
        least = max(least, min(1.0, (len(known) - position) * p))
        adjusted[index] = least
    return adjusted


def detectable(standard_error: float, freedom: float) -> float | None:
    """The smallest true difference that a two-sided test at 5 % detects with a probability of 80 % (Bloom 1995).

    It is None if the standard error is unknown.
    """
    return (t_quantile(freedom) + POWER_QUANTILE) * standard_error if is_known(standard_error) else None
