"""Whether a paired difference is more than chance, and which difference could have been found."""

from __future__ import annotations

import math
from collections.abc import Sequence

from icl_eval.metrics.uncertainty import is_known, t_quantile

POWER_QUANTILE = 0.8416212335729143  # 80 % quantile of the standard normal


def t_test(value: float, standard_error: float, freedom: float) -> float | None:
    """The two-sided p-value of a difference by Student's t; None where the standard error tells nothing."""
    from scipy.special import ndtr, stdtr

    if not is_known(standard_error):
        return None
    ratio = -abs(value / standard_error)
    return float(2 * (ndtr(ratio) if math.isinf(freedom) else stdtr(freedom, ratio)))


def sign_test(wins: int, losses: int) -> float:
    """The exact two-sided p-value of as many wins and losses, ties left out: McNemar's exact test (McNemar 1947)."""
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5))) if wins + losses else 1.0


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values adjusted for their number by Holm's step-down method (Holm 1979), in their order; None stays None."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    least = 0.0
    for position, (p, index) in enumerate(known):
        least = max(least, min(1.0, (len(known) - position) * p))
        adjusted[index] = least
    return adjusted


def detectable(standard_error: float, freedom: float) -> float | None:
    """The least true difference that a two-sided test at 5 % finds with a probability of 80 % (Bloom 1995).

    None where the standard error tells nothing.
    """
    return (t_quantile(freedom) + POWER_QUANTILE) * standard_error if is_known(standard_error) else None
