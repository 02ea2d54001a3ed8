"""Scaling laws: losses and scores as functions of model size, training tokens or compute.

Losses are fitted by power laws, L = E + A x^-alpha (Kaplan et al. 2020, arXiv 2001.08361, with E = 0; Hoffmann et al.
2022, arXiv 2203.15556, with the irreducible loss E). Scores are fitted by logistic curves between guessing and the
highest value: the odds (s - floor) / (ceiling - s) are A v^beta. If answers have a loss, v = exp(-L), and L is its
power law: first the loss, then a sigmoid from loss to score (Bhagia et al. 2024, arXiv 2412.04403). This extrapolates
better than a sigmoid in ln x. Generated answers have no loss, so v = x.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from icl_eval.errors import MetricError

Form = Literal["power law", "logistic", "logistic in loss"]
Floats = NDArray[np.float64]
Residuals = Callable[[Floats], Floats]
STARTS = (0.1, 0.5, 0.9)  # initial irreducible loss, as fractions of the lowest loss
EDGE = 1e-3  # least distance of initial values from the bounds
MIN_LOSS = 1e-9  # in a resample
MAX_CALLS = 200  # of a search, which usually needs about ten


@dataclass(frozen=True)
class Law:
    """A fitted curve.

    Attributes:
        form: power law, logistic in ln x, or logistic in a loss that is a power law.
        exponent: alpha of a power law, or beta of a logistic curve; positive if larger models are better.
        log_coefficient: ln A.
        floor: irreducible loss E, or score of guessing.
        ceiling: highest possible score; infinite for a power law.
        loss: power law of the loss, for a logistic curve in the loss.
    """

    form: Form
    exponent: float
    log_coefficient: float
    floor: float
    ceiling: float = np.inf
    loss: Law | None = None

    def at(self, x: Floats | float) -> Floats:
        """The loss or score at sizes x."""
        if self.form == "power law":
            return np.asarray(self.floor + _exp(self.log_coefficient - self.exponent * np.log(x)))
        variable = np.log(x) if self.loss is None else -self.loss.at(x)
        odds = _exp(self.log_coefficient + self.exponent * variable)
        return np.asarray(self.ceiling - (self.ceiling - self.floor) / (1 + odds))

    @property
    def coefficient(self) -> float:
        """A; infinite if it is too large for a float."""
        return float(_exp(self.log_coefficient))

    @property
    def in_size(self) -> Law:
        """The law of the loss if there is one, otherwise this law: a function of x."""
        return self.loss or self


def fit_power_law(x: Floats, losses: Floats, *, irreducible: bool = False, start: Law | None = None) -> Law:
    """Fit a power law by least squares of the logarithms of losses, with equal weights.

    Args:
        x: sizes, shape (models,).
        losses: in any unit, shape (models,).
        irreducible: whether to fit a term E of at least 0; without it, the law is a line in logarithms.
        start: initial law for the search of E, such as a law of similar losses; by default several values are tried.

    Raises:
        MetricError: a loss is not positive, or there are fewer sizes than parameters.
    """
    _check_sizes(x, 3 if irreducible else 2)
    if not (losses > 0).all():
        raise MetricError("a power law needs losses above 0")
    slope, ordinate = _line(np.log(x), np.log(losses))
    laws = [Law("power law", -slope, ordinate, 0.0)]
    if irreducible:
        shares = [start.floor / losses.min()] if start and start.floor else STARTS
        laws += [_with_irreducible(np.log(x), losses, min(max(share, EDGE), 1 - EDGE)) for share in shares]
    return min(laws, key=lambda law: _squares(law, x, losses))


def fit_logistic(x: Floats, scores: Floats, floor: float, ceiling: float, loss: Law | None = None) -> Law:
    """Fit a logistic curve by least squares, with equal weights.

    Args:
        x: sizes, or exp(-loss) of measured losses, shape (models,).
        scores: shape (models,).
        floor: score of guessing.
        ceiling: highest possible score.
        loss: power law of the losses, if x is computed from losses.

    Raises:
        MetricError: there are fewer than two sizes.
    """
    from scipy.special import expit, logit

    if loss is None:
        _check_sizes(x, 2)
    centre = np.log(x).mean()
    u, shares = np.log(x) - centre, (scores - floor) / (ceiling - floor)
    slope, ordinate = _line(u, logit(np.clip(shares, EDGE, 1 - EDGE)))

    def residuals(parameters: Floats) -> Floats:
        return np.asarray(expit(parameters[0] + parameters[1] * u) - shares)

    def gradient(parameters: Floats) -> Floats:
        values = expit(parameters[0] + parameters[1] * u)
        return np.column_stack([values * (1 - values), values * (1 - values) * u])

    ordinate, slope = _least_squares(residuals, gradient, [ordinate, slope])
    form: Form = "logistic" if loss is None else "logistic in loss"
    return Law(form, slope, ordinate - slope * centre, floor, ceiling, loss)


@dataclass(frozen=True)
class Curve:
    """The points of a curve over model sizes, and how they are fitted.

    Attributes:
        values: a score or a loss, shape (1, models); or a score and the loss on which it depends, shape (2, models).
        influence: of each cluster of examples on each value, shape (1 or 2, models, clusters); None if unknown.
        bounds: score of guessing and highest possible score; None for a loss.
        irreducible: whether to fit an irreducible loss.
    """

    values: Floats
    influence: Floats | None
    bounds: tuple[float, float] | None
    irreducible: bool

    def fit(self, sizes: Floats) -> Law:
        """The law of all models; raises `MetricError` like `fit_power_law`."""
        return self._law(sizes, self.values)

    def without_largest(self, sizes: Floats) -> Law | None:
        """The law without the largest model; None if it has more parameters than there are other sizes."""
        kept = sizes < sizes.max()
        has_term = self.irreducible and (self.bounds is None or len(self.values) > 1)
        if len(np.unique(sizes[kept])) < (3 if has_term else 2):
            return None
        return self._law(sizes[kept], self.values[:, kept])

    def resampled(self, sizes: Floats, resamples: int) -> tuple[Floats, Floats]:
        """Exponents of size, and predictions for the largest model, over bootstrap resamples of the clusters.

        All models have the same resamples. A resampled value is the value plus the influences of the drawn clusters,
        which is exact if the metric is a mean and clusters have equal sizes.
        """
        exponents, predictions, kept = [], [], sizes < sizes.max()
        law, smaller = self.fit(sizes), self.without_largest(sizes)
        draws = np.random.Generator(np.random.PCG64(0))
        for _ in range(0 if self.influence is None else resamples):
            values = self._resampled_values(draws)
            exponents.append(self._law(sizes, values, law).in_size.exponent)
            if smaller is not None:
                predictions.append(float(self._law(sizes[kept], values[:, kept], smaller).at(sizes.max())))
        return np.array(exponents), np.array(predictions)

    def _resampled_values(self, draws: np.random.Generator) -> Floats:
        """The values in one resample; losses are kept above 0."""
        influence = np.asarray(self.influence)
        drawn = draws.integers(influence.shape[-1], size=influence.shape[-1])
        values = np.asarray(self.values + influence[..., drawn].sum(axis=-1))
        losses = 0 if self.bounds is None else slice(1, None)
        values[losses] = np.maximum(values[losses], MIN_LOSS)
        return values

    def _law(self, sizes: Floats, values: Floats, start: Law | None = None) -> Law:
        loss = start.in_size if start else None
        if self.bounds is None:
            return fit_power_law(sizes, values[0], irreducible=self.irreducible, start=loss)
        if len(values) == 1:
            return fit_logistic(sizes, values[0], *self.bounds)
        of_loss = fit_power_law(sizes, values[1], irreducible=self.irreducible, start=loss)
        return fit_logistic(np.exp(-values[1]), values[0], *self.bounds, loss=of_loss)


def _with_irreducible(logs: Floats, losses: Floats, share: float) -> Law:
    """A power law with E > 0, whose initial value is a fraction of the lowest loss; the parameter is ln E."""
    centre, begin = logs.mean(), share * losses.min()
    u, measured = logs - centre, np.log(losses)
    slope, ordinate = _line(u, np.log(losses - begin))

    def residuals(parameters: Floats) -> Floats:
        return np.asarray(np.logaddexp(parameters[0] - parameters[1] * u, parameters[2]) - measured)

    def gradient(parameters: Floats) -> Floats:
        reducible = parameters[0] - parameters[1] * u
        part = np.exp(reducible - np.logaddexp(reducible, parameters[2]))
        return np.column_stack([part, -part * u, 1 - part])

    ordinate, exponent, floor = _least_squares(residuals, gradient, [ordinate, -slope, float(np.log(begin))])
    return Law("power law", exponent, ordinate + exponent * centre, float(np.exp(floor)))


def _least_squares(residuals: Residuals, gradient: Residuals, start: list[float]) -> list[float]:
    from scipy.optimize import leastsq

    with np.errstate(all="ignore"):  # the search may try extreme parameters
        found, *_ = leastsq(residuals, start, Dfun=gradient, full_output=True, maxfev=MAX_CALLS)
    return [float(each) for each in found]


def _exp(logs: Floats | float) -> Floats:
    """exp; infinite if it is too large for a float."""
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(logs))


def _line(u: Floats, y: Floats) -> tuple[float, float]:
    """Slope and intercept of the least-squares line; the slope is 0 if all u are equal."""
    centred = u - u.mean()
    spread = float(centred @ centred)
    slope = float(centred @ y) / spread if spread > 0 else 0.0
    return slope, float(y.mean() - slope * u.mean())


def _squares(law: Law, x: Floats, losses: Floats) -> float:
    with np.errstate(all="ignore"):
        found = float(((np.log(law.at(x)) - np.log(losses)) ** 2).sum())
    return found if np.isfinite(found) else np.inf


def _check_sizes(x: Floats, least: int) -> None:
    if (found := len(np.unique(x))) < least:
        raise MetricError(f"a curve with {least} parameters needs {least} models of different sizes, not {found}")
