"""Calibration: removing the bias of a prompt towards some labels from stored log-probabilities.

P(y|C, x) is the probability of the label y (the product over its tokens) after the demonstrations C and the input x. In
every formula but that of domain-conditional PMI it is normalised over the labels, so that these sum to 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from icl_eval.errors import RunError
from icl_eval.scoring.normalization import NORMALIZATIONS, OptionResult, score
from icl_eval.tasks.definition import Normalization

Calibration = Literal["contextual", "contextual-identity", "dc-pmi", "batch", "prototypical"]
Scoring = Normalization | Calibration
Floats = NDArray[np.float64]
Examples = Sequence[Sequence[OptionResult]]  # the labels of each

FITS = 10  # of a mixture, from different seeds; the one that fits the labels best is kept
SMALLEST = 1e-300  # probability that still has a finite logarithm


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


def contextual(examples: Examples) -> Calibrated:
    """Contextual calibration (Zhao et al. 2021, arXiv 2102.09690): ln(W p), W = diag(p_cf)^-1, in nats.

    p is P(.|C, x). p_cf is the mean over content-free inputs x of the probabilities of the labels, then normalised.
    """
    logprobs, tokens = _labels(examples)
    bias, variance = _content_free(examples)
    return Calibrated(_log_normalized(logprobs) - _log_normalized(bias), np.sqrt(tokens + variance))


def contextual_identity(examples: Examples) -> Calibrated:
    """The variant of contextual calibration with W = I and b = -p_cf: p - p_cf, a difference of probabilities."""
    logprobs, tokens = _labels(examples)
    bias, variance = _content_free(examples)
    p, p_cf = _normalized(logprobs), _normalized(bias)
    return Calibrated(p - p_cf, np.hypot(_spread(p, tokens), _spread(p_cf, variance)))


def domain_conditional_pmi(examples: Examples) -> Calibrated:
    """Domain-conditional PMI (Holtzman et al. 2021, arXiv 2104.08315): ln P(y|C, x) - ln P(y|domain premise), in nats.

    The premise stands alone, without demonstrations.
    """
    logprobs, tokens = _labels(examples)
    domain, more = _sums([[option.domain for option in options] for options in examples])
    return Calibrated(logprobs - domain, np.sqrt(tokens + more))


def batch(examples: Examples) -> Calibrated:
    """Batch calibration (Zhou et al. 2023, arXiv 2309.17249), in its linear form: P(y|C, x) less its mean over x.

    The mean is over all test inputs under the same seed. A score is a difference of probabilities, without a unit.
    """
    logprobs, tokens = _labels(examples)
    p = _normalized(logprobs)
    return Calibrated(p - p.mean(axis=0), _spread(p, tokens))


def prototypical(examples: Examples) -> Calibrated:
    """Prototypical calibration (Han et al. 2022, arXiv 2205.10183): ln of the posterior of a label's cluster.

    A Gaussian mixture with full covariances and as many components as labels is fitted to the vectors ln P(.|C, x) of
    all test inputs under the same seed. Each component is assigned one label, so that the sum of the means' entries for
    their labels is greatest. The mixture is fitted from several seeds, and the greatest of these sums is kept.

    Raises:
        RunError: there are fewer examples than labels, or scikit-learn is not installed.
    """
    from scipy.optimize import linear_sum_assignment

    points = _log_normalized(_labels(examples)[0])
    labels = points.shape[1]
    if limit := prototypes_limit(len(points), labels):
        raise RunError(limit)
    best, scores = -np.inf, points
    for seed in range(FITS):
        mixture = _fitted(points, labels, seed)
        components, assigned = linear_sum_assignment(mixture.means_, maximize=True)
        if (total := mixture.means_[components, assigned].sum()) > best:
            best, posterior = total, mixture.predict_proba(points)
            scores = np.log(np.maximum(posterior[:, np.argsort(assigned)], SMALLEST))
    return Calibrated(scores, None)


def _fitted(points: Floats, components: int, seed: int) -> Any:
    """A mixture fitted by one thread: more only wait for one another on matrices that are so small."""
    mixture = gaussian_mixture()(components, random_state=seed)
    from threadpoolctl import threadpool_limits  # scikit-learn depends on it

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that does not converge, or of equal points, is another candidate
        return mixture.fit(points)


def prototypes_limit(examples: int, labels: int) -> str:
    """Why so few examples have no clusters for so many labels; empty if they can have them."""
    few = f"prototypical calibration of {labels} labels needs at least {labels} examples"
    return few if examples < labels else ""


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


CALIBRATIONS: Mapping[Calibration, Callable[[Examples], Calibrated]] = {
    "contextual": contextual,
    "contextual-identity": contextual_identity,
    "dc-pmi": domain_conditional_pmi,
    "batch": batch,
    "prototypical": prototypical,
}
"""By name."""
CONTEXTUAL = ("contextual", "contextual-identity")  # these need answers after content-free inputs
TRANSDUCTIVE = ("batch", "prototypical")  # these need all examples of a cell; the others score each by itself


def option_scores(options: Sequence[OptionResult]) -> dict[Scoring, list[float]]:
    """The scores of the options of one example, in nats, under all that needs no other example and is stored."""
    found: dict[Scoring, list[float]] = {name: [score(option, name) for option in options] for name in NORMALIZATIONS}
    if options[0].content_free:
        found["contextual"] = contextual([options]).scores[0].tolist()
    if options[0].domain:
        found["dc-pmi"] = domain_conditional_pmi([options]).scores[0].tolist()
    return found


def _labels(examples: Examples) -> tuple[Floats, Floats]:
    """The log-probabilities of labels after their prompts, and numbers of tokens; shape (examples, labels)."""
    return _sums([[option.logprobs for option in options] for options in examples])


def _content_free(examples: Examples) -> tuple[Floats, Floats]:
    """The logarithm of the sum over content-free inputs of a label's probability, and its variance per token's nat."""
    inputs = range(len(examples[0][0].content_free))
    each = [_sums([[option.content_free[index] for option in options] for options in examples]) for index in inputs]
    logprobs, tokens = (np.stack(parts) for parts in zip(*each, strict=True))  # (inputs, examples, labels)
    highest = logprobs.max(axis=0)
    weights = np.exp(logprobs - highest)
    total = weights.sum(axis=0)
    return highest + np.log(total), ((weights / total) ** 2 * tokens).sum(axis=0)


def _sums(logprobs: Sequence[Sequence[Sequence[float]]]) -> tuple[Floats, Floats]:
    """Sums over the tokens of each label, and their numbers; shape (examples, labels)."""
    sums, tokens = ([[of(label) for label in labels] for labels in logprobs] for of in (sum, len))
    return np.array(sums, np.float64), np.array(tokens, np.float64)


def _log_normalized(logprobs: Floats) -> Floats:
    """Logarithms of probabilities that sum to 1 over the last axis."""
    highest = logprobs.max(axis=-1, keepdims=True)
    return np.asarray(logprobs - highest - np.log(np.exp(logprobs - highest).sum(axis=-1, keepdims=True)))


def _normalized(logprobs: Floats) -> Floats:
    """Probabilities that sum to 1 over the last axis."""
    return np.asarray(np.exp(_log_normalized(logprobs)))


def _spread(p: Floats, variance: Floats) -> Floats:
    """The standard deviation of normalised probabilities, given the variance of the logarithms of what they are of.

    The derivative of p_i by the logarithm j is p_i (1 - p_i) if j = i, else -p_i p_j.
    """
    others = (p**2 * variance).sum(axis=-1, keepdims=True) - p**2 * variance
    return np.asarray(p * np.sqrt((1 - p) ** 2 * variance + others))


def label_entropies(scores: Floats | Sequence[Sequence[float]]) -> Floats:
    """The entropy of the probabilities of options, in nats, of shape (examples,).

    Args:
        scores: in nats, of shape (examples, options); probabilities are proportional to their exponentials.
    """
    logprobs = _log_normalized(np.asarray(scores, np.float64))
    return np.asarray(-np.sum(np.exp(logprobs) * logprobs, axis=1))
