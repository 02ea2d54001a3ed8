"""95 % intervals, all a function of the value and its standard error: Wilson, log-normal, or normal, by the bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

Z = 1.959963984540054  # 97.5 % quantile of the standard normal


@dataclass(frozen=True, slots=True)
class Interval:
    """Two ends and the method of them: wilson, normal, log-normal, or bounds where nothing is known."""

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
    """The 95 % interval of a value that lies within bounds; the bounds where the standard error tells nothing.

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
    """Whether a standard error tells how far another sample would be off.

    It does not where there is one cluster (nan), nor where all clusters are alike (0): how seldom others are different
    such a sample does not show, and an interval of no width would be certainty.
    """
    return standard_error > 0


def normal(value: float, standard_error: float, bounds: tuple[float, float], freedom: float = math.inf) -> Interval:
    """Value ± t standard errors, cut at the bounds; the bounds themselves where the standard error tells nothing."""
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
