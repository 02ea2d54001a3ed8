from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.mixture import GaussianMixture

from icl_eval.errors import RunError
from icl_eval.scoring import CALIBRATIONS, LabelLogprobs

Floats = NDArray[np.float64]


def of(probabilities: Any, tokens: int = 1) -> LabelLogprobs:
    """Labels of these probabilities, which need not sum to 1."""
    sums = np.log(np.array(probabilities, np.float64))
    return LabelLogprobs(sums, np.full_like(sums, tokens))


def random_tables(labels: int, examples: int = 40) -> Floats:
    """Probabilities that do not sum to 1, as those of some tokens among a vocabulary."""
    return np.random.default_rng(labels).dirichlet(np.ones(labels + 1), size=examples)[:, :-1]


def test_batch_calibration_computed_by_hand() -> None:
    found = CALIBRATIONS["batch"](of([[0.3, 0.1], [0.18, 0.12]]))

    assert found.scores == pytest.approx(np.array([[0.075, -0.075], [-0.075, 0.075]]))  # 0.75, 0.6 less 0.675


@pytest.mark.parametrize("labels", [2, 6])
def test_batch_calibration_is_the_probability_less_that_of_a_batch(labels: int) -> None:
    table = random_tables(labels)
    normalized = [[value / sum(row) for value in row] for row in table.tolist()]
    bias = [sum(row[label] for row in normalized) / len(normalized) for label in range(labels)]
    expected = [[value - bias[label] for label, value in enumerate(row)] for row in normalized]

    assert CALIBRATIONS["batch"](of(table)).scores == pytest.approx(np.array(expected))


def test_the_noise_of_a_probability_is_that_of_its_derivatives() -> None:
    sums, tokens = np.log([[0.3, 0.1, 0.2]]), np.array([[1.0, 4.0, 2.0]])

    def normalized(shift: Floats) -> Floats:
        p = np.exp(sums[0] + shift)
        return np.asarray(p / p.sum())

    step = 1e-6
    jacobian = np.array([(normalized(step * row) - normalized(-step * row)) / (2 * step) for row in np.eye(3)])
    expected = np.sqrt((jacobian**2 * tokens[0][:, None]).sum(axis=0))

    assert CALIBRATIONS["batch"](LabelLogprobs(sums, tokens)).noise == pytest.approx(expected[None])


def clusters(bias: Floats, size: int = 30) -> tuple[Floats, Floats]:
    """Probabilities of labels under a bias, and the labels: of each, the prototype that it raises by two nats."""
    labels = np.repeat(np.arange(len(bias)), size)
    noise = np.random.default_rng(0).normal(0, 0.2, (len(labels), len(bias)))
    return np.exp(bias + 2.0 * np.eye(len(bias))[labels] + noise), labels.astype(np.float64)


def test_prototypical_calibration_finds_clusters_that_a_bias_hides() -> None:
    table, labels = clusters(np.array([0.0, -3.0, -1.0]))

    assert set(table.argmax(axis=1)) == {0, 2}
    assert (CALIBRATIONS["prototypical"](of(table)).scores.argmax(axis=1) == labels).all()


def test_prototypical_calibration_is_the_posterior_of_the_best_of_ten_mixtures() -> None:
    table, _ = clusters(np.array([0.0, -1.0, 0.5]), size=12)
    points = np.log(table / table.sum(axis=1, keepdims=True))
    fits = []
    for seed in range(10):
        mixture = GaussianMixture(3, random_state=seed).fit(points)
        rows, columns = linear_sum_assignment(-mixture.means_)
        fits.append(
            (sum(mixture.means_[row][column] for row, column in zip(rows, columns, strict=True)), seed, columns)
        )
    _, seed, columns = max(fits, key=lambda fit: fit[0])
    soft = GaussianMixture(3, random_state=seed).fit(points).predict_proba(points)
    expected = np.zeros_like(soft)
    for cluster, label in enumerate(columns):
        expected[:, label] = soft[:, cluster]

    found = CALIBRATIONS["prototypical"](of(table))

    assert np.exp(found.scores) == pytest.approx(expected, abs=1e-12)
    assert found.noise is None


def test_prototypical_calibration_of_equal_inputs_is_one_label() -> None:
    scores = CALIBRATIONS["prototypical"](of([[0.3, 0.1]] * 4)).scores

    assert np.isfinite(scores).all()
    assert len(set(scores.argmax(axis=1))) == 1


def test_too_few_examples_for_prototypes_are_told() -> None:
    with pytest.raises(RunError, match="prototypical calibration of 3 labels needs at least 3 examples"):
        CALIBRATIONS["prototypical"](of([[0.1, 0.2, 0.3]] * 2))


def test_a_missing_scikit_learn_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)

    with pytest.raises(RunError, match=r"needs the package scikit-learn: pip install 'icl-eval\[calibration\]'"):
        CALIBRATIONS["prototypical"](of([[0.1, 0.2]] * 4))
