"""Calibration: scores that correct the bias of a prompt towards some labels, from stored log-probabilities.

P(y|C, x) is the probability of the label y (the product over its tokens) after the demonstrations C and the input x. In
all formulas but that of domain-conditional PMI, the probabilities of the labels are normalised to sum to 1.
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
from icl_eval.scoring.ranking import TIE
from icl_eval.tasks.definition import Normalization

Calibration = Literal["contextual", "contextual-identity", "dc-pmi", "batch", "prototypical"]
Scoring = Normalization | Calibration
Floats = NDArray[np.float64]
Examples = Sequence[Sequence[OptionResult]]  # for each example, its labels

FITS = 10  # fits of a mixture, from different seeds; the one that agrees best with the labels is used
SMALLEST = 1e-300  # smaller probabilities count as this one, so that logarithms are finite


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Scores of labels; the highest one of an example is chosen.

    Attributes:
        scores: (examples, labels).
        noise: (examples, labels), the standard deviation of each score, to first order, if the log-probabilities of all
            tokens had independent errors of one nat; means over examples are taken as exact. None if it is unknown.
        ties: (examples,), scores that differ by at most this are tied.
    """

    scores: Floats
    noise: Floats | None
    ties: Floats


def _in_nats(scores: Floats, noise: Floats | None) -> Calibrated:
    return Calibrated(scores, noise, np.full(len(scores), TIE))


def _probabilities(p: Floats, reference: Floats, noise: Floats) -> Calibrated:
    """The differences of probabilities, where `TIE` nats of a log-probability make the difference of a tie.

    If one label has nearly all of the probability, all differences are small, but still decide. That of this label is
    computed from those of the others, since the differences of an example sum to 0, and they are more precise.
    """
    difference = p - reference
    rows, largest = np.arange(len(p)), p.argmax(axis=1)
    difference[rows, largest] = 0
    difference[rows, largest] = -difference.sum(axis=1)
    return Calibrated(difference, noise, TIE * noise.max(axis=1))


def contextual(examples: Examples) -> Calibrated:
    """Contextual calibration (Zhao et al. 2021, arXiv 2102.09690): ln(W p), W = diag(p_cf)^-1, in nats.

    p is P(.|C, x). p_cf is the mean of the probabilities of the labels over content-free inputs, then normalised.
    """
    logprobs, tokens = _labels(examples)
    bias, variance = _content_free(examples)
    return _in_nats(_log_normalized(logprobs) - _log_normalized(bias), np.sqrt(tokens + variance))


def contextual_identity(examples: Examples) -> Calibrated:
    """Contextual calibration with W = I and b = -p_cf (Zhao et al. 2021): p - p_cf, a difference of probabilities."""
    logprobs, tokens = _labels(examples)
    bias, variance = _content_free(examples)
    p, p_cf = _normalized(logprobs), _normalized(bias)
    return _probabilities(p, p_cf, np.hypot(_spread(p, tokens), _spread(p_cf, variance)))


def domain_conditional_pmi(examples: Examples) -> Calibrated:
    """Domain-conditional PMI (Holtzman et al. 2021, arXiv 2104.08315): ln P(y|C, x) - ln P(y|domain premise), in nats.

    The premise stands alone, without demonstrations.
    """
    logprobs, tokens = _labels(examples)
    domain, more = _sums([[option.domain for option in options] for options in examples])
    return _in_nats(logprobs - domain, np.sqrt(tokens + more))


def batch(examples: Examples) -> Calibrated:
    """Batch calibration (Zhou et al. 2023, arXiv 2309.17249) in its linear form: P(y|C, x) minus its mean over x.

    The mean is over all test inputs with the same seed. A score is a difference of probabilities, without a unit.
    """
    logprobs, tokens = _labels(examples)
    p = _normalized(logprobs)
    return _probabilities(p, p.mean(axis=0), _spread(p, tokens))


def prototypical(examples: Examples) -> Calibrated:
    """Prototypical calibration (Han et al. 2022, arXiv 2205.10183): ln of the posterior of a label's cluster.

    A Gaussian mixture with full covariances, and one component per label, is fitted to the vectors ln P(.|C, x) of all
    test inputs with the same seed. Components are assigned to labels so that the sum, over components, of the mean's
    entry for the label is largest. Of fits from several seeds, the one with the largest sum is used.

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
    return _in_nats(scores, None)


def _fitted(points: Floats, components: int, seed: int) -> Any:
    """A mixture fitted to points (examples, labels) by one thread; more threads are slower for such small matrices."""
    mixture = gaussian_mixture()(components, random_state=seed)
    from threadpoolctl import threadpool_limits  # scikit-learn depends on it

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that has not converged, or is of equal points, is a valid candidate
        return mixture.fit(points)


def prototypes_limit(examples: int, labels: int) -> str:
    """Why prototypical calibration is impossible with this number of examples, in one clause; empty if it is not."""
    few = f"prototypical calibration of {labels} labels needs at least {labels} examples"
    return few if examples < labels else ""


def gaussian_mixture() -> Any:
    """The class `GaussianMixture` of scikit-learn.

    Raises:
        RunError: scikit-learn is not installed.
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
"""The functions of calibrations by name."""
CONTEXTUAL = ("contextual", "contextual-identity")  # need log-probabilities after content-free inputs
TRANSDUCTIVE = ("batch", "prototypical")  # need all examples of a cell; the others score each example separately


def option_scores(options: Sequence[OptionResult]) -> dict[Scoring, list[float]]:
    """The scores of one example's options, in nats, by all normalisations and calibrations that are possible.

    Those that need other examples, or log-probabilities that are not stored, are left out.
    """
    found: dict[Scoring, list[float]] = {name: [score(option, name) for option in options] for name in NORMALIZATIONS}
    if options[0].content_free:
        found["contextual"] = contextual([options]).scores[0].tolist()
    if options[0].domain:
        found["dc-pmi"] = domain_conditional_pmi([options]).scores[0].tolist()
    return found


def _labels(examples: Examples) -> tuple[Floats, Floats]:
    """The log-probabilities of labels after their prompts, and their numbers of tokens; each (examples, labels)."""
    return _sums([[option.logprobs for option in options] for options in examples])


def _content_free(examples: Examples) -> tuple[Floats, Floats]:
    """The logarithm of a label's probability summed over content-free inputs, and its variance; (examples, labels).

    The variance is that for independent errors of one nat in all tokens.
    """
    inputs = range(len(examples[0][0].content_free))
    each = [_sums([[option.content_free[index] for option in options] for options in examples]) for index in inputs]
    logprobs, tokens = (np.stack(parts) for parts in zip(*each, strict=True))  # (inputs, examples, labels)
    highest = logprobs.max(axis=0)
    weights = np.exp(logprobs - highest)
    total = weights.sum(axis=0)
    return highest + np.log(total), ((weights / total) ** 2 * tokens).sum(axis=0)


def _sums(logprobs: Sequence[Sequence[Sequence[float]]]) -> tuple[Floats, Floats]:
    """Sums over the tokens of each label, and their numbers; each (examples, labels)."""
    sums, tokens = ([[of(label) for label in labels] for labels in logprobs] for of in (sum, len))
    return np.array(sums, np.float64), np.array(tokens, np.float64)


def _log_normalized(logprobs: Floats) -> Floats:
    """Logarithms of the probabilities, normalised to sum to 1 over the last axis."""
    highest = logprobs.max(axis=-1, keepdims=True)
    return np.asarray(logprobs - highest - np.log(np.exp(logprobs - highest).sum(axis=-1, keepdims=True)))


def _normalized(logprobs: Floats) -> Floats:
    """The probabilities, normalised to sum to 1 over the last axis."""
    return np.asarray(np.exp(_log_normalized(logprobs)))


def _spread(p: Floats, variance: Floats) -> Floats:
    """The standard deviation of normalised probabilities p, from the variance of the logarithms before normalisation.

    The derivative of p_i by logarithm j is p_i (1 - p_i) if j = i, else -p_i p_j.
    """
    others = (p**2 * variance).sum(axis=-1, keepdims=True) - p**2 * variance
    return np.asarray(p * np.sqrt((1 - p) ** 2 * variance + others))


def label_entropies(scores: Floats | Sequence[Sequence[float]]) -> Floats:
    """The entropy of the probabilities of options in nats, (examples,).

    Args:
        scores: (examples, options), in nats; probabilities are proportional to their exponentials.
    """
    logprobs = _log_normalized(np.asarray(scores, np.float64))
    return np.asarray(-np.sum(np.exp(logprobs) * logprobs, axis=1))
