"""Calibration: removing the bias of a prompt towards some labels from stored log-probabilities.

P(y|C, x) is the probability of the label y (the product over its tokens) after the demonstrations C and the input x. In
every formula but that of domain-conditional PMI it is normalised over the labels, so that these sum to 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from icl_eval.errors import RunError
from icl_eval.tasks.definition import Normalization

Calibration = Literal["batch", "prototypical"]
Scoring = Normalization | Calibration
Floats = NDArray[np.float64]

FITS = 10  # of a mixture, from different seeds; the one that fits the labels best is kept
SMALLEST = 1e-300  # probability that still has a finite logarithm


@dataclass(frozen=True, slots=True)
class LabelLogprobs:
    """Log-probabilities of labels.

    Attributes:
        sums: of a label's tokens, in nats; shape (..., labels).
        tokens: how many these are; same shape.
    """

    sums: Floats
    tokens: Floats


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Scores of labels, of which the highest wins.

    Attributes:
        scores: shape (examples, labels).
        noise: standard deviation of each score if the log-probabilities of all tokens had independent errors of one
            nat, to first order; None if it is not known. Biases that are means over examples count as fixed.
    """

    scores: Floats
    noise: Floats | None


def batch(labels: LabelLogprobs) -> Calibrated:
    """Batch calibration (Zhou et al. 2023, arXiv 2309.17249), in its linear form: P(y|C, x) less its mean over x.

    The mean is over all test inputs under the same seed. A score is a difference of probabilities, without a unit.
    """
    p = _normalized(labels.sums)
    return Calibrated(p - p.mean(axis=0), _spread(p, labels.tokens))


def prototypical(labels: LabelLogprobs) -> Calibrated:
    """Prototypical calibration (Han et al. 2022, arXiv 2205.10183): ln of the posterior of a label's cluster.

    A Gaussian mixture with full covariances and as many components as labels is fitted to the vectors ln P(.|C, x) of
    all test inputs under the same seed. Each component is assigned one label, so that the sum of the means' entries for
    their labels is greatest. The mixture is fitted from several seeds, and the greatest of these sums is kept.

    Raises:
        RunError: there are fewer examples than labels, or scikit-learn is not installed.
    """
    from scipy.optimize import linear_sum_assignment

    points = np.log(np.maximum(_normalized(labels.sums), SMALLEST))
    examples, count = points.shape
    if examples < max(count, 2):
        raise RunError(f"prototypical calibration of {count} labels needs at least {max(count, 2)} examples")
    best, scores = -np.inf, points
    for seed in range(FITS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fit that does not converge, or of equal points, is another candidate
            mixture = gaussian_mixture()(count, random_state=seed).fit(points)
        components, assigned = linear_sum_assignment(mixture.means_, maximize=True)
        if (total := mixture.means_[components, assigned].sum()) > best:
            best, posterior = total, mixture.predict_proba(points)
            scores = np.log(np.maximum(posterior[:, np.argsort(assigned)], SMALLEST))
    return Calibrated(scores, None)


def gaussian_mixture() -> Any:
    """The class of scikit-learn.

    Raises:
        RunError: it is not installed.
    """
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        message = "prototypical calibration needs the package scikit-learn: pip install 'icl-eval[calibration]'"
        raise RunError(message) from error
    return GaussianMixture


CALIBRATIONS: Mapping[Calibration, Callable[[LabelLogprobs], Calibrated]] = {
    "batch": batch,
    "prototypical": prototypical,
}
"""By name; each takes the log-probabilities of the labels after every prompt of a cell, shape (examples, labels)."""


def _normalized(logprobs: Floats) -> Floats:
    """Probabilities that sum to 1 over the last axis."""
    p: Floats = np.exp(logprobs - logprobs.max(axis=-1, keepdims=True))
    return np.asarray(p / p.sum(axis=-1, keepdims=True))


def _spread(p: Floats, variance: Floats) -> Floats:
    """The standard deviation of normalised probabilities, given the variance of the logarithms of what they are of.

    The derivative of p_i by the logarithm j is p_i (1 - p_i) if j = i, else -p_i p_j.
    """
    others = (p**2 * variance).sum(axis=-1, keepdims=True) - p**2 * variance
    return np.asarray(p * np.sqrt((1 - p) ** 2 * variance + others))
