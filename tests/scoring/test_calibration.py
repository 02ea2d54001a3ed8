from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.mixture import GaussianMixture

from icl_eval.errors import RunError
from icl_eval.scoring import CALIBRATIONS, OptionResult, option_scores, rank

Floats = NDArray[np.float64]


def of(p: Any, domain: Any = None, content_free: Any = ()) -> list[list[OptionResult]]:
    """Labels of one token each.

    Args:
        p: probabilities (examples, labels), which need not sum to 1.
        domain: those after the domain premise; same shape.
        content_free: those after content-free inputs (inputs, labels), the same for all examples.
    """
    return [
        [
            OptionResult(
                f" {label}",
                (math.log(value),),
                (),
                (math.log(domain[row][label]),) if domain is not None else (),
                tuple((math.log(each[label]),) for each in content_free),
            )
            for label, value in enumerate(values)
        ]
        for row, values in enumerate(p)
    ]


def random_tables(labels: int, examples: int = 40) -> Floats:
    """Probabilities that do not sum to 1, as those of some tokens among a vocabulary."""
    return np.random.default_rng(labels).dirichlet(np.ones(labels + 1), size=examples)[:, :-1]


def test_one_example_has_the_scores_of_every_calibration_that_needs_no_other() -> None:
    (options,) = of([[0.4, 0.1]], domain=[[0.3, 0.2]], content_free=[[0.6, 0.1]])
    found = option_scores(options)

    for name in ("contextual", "dc-pmi"):
        assert found[name] == CALIBRATIONS[name]([options]).scores[0].tolist()
    assert not {"contextual", "dc-pmi"} & set(option_scores(of([[0.4, 0.1]])[0]))


def test_contextual_calibration_computed_by_hand() -> None:
    """p = (0.8, 0.2); the raw means over two inputs are (0.3, 0.1), so p_cf = (0.75, 0.25) and W p = (1.0667, 0.8)."""
    inputs = [[0.4, 0.05], [0.2, 0.15]]

    scores = CALIBRATIONS["contextual"](of([[0.4, 0.1]], content_free=inputs)).scores
    shifted = CALIBRATIONS["contextual-identity"](of([[0.4, 0.1]], content_free=inputs)).scores

    assert np.exp(scores) == pytest.approx(np.array([[0.8 / 0.75, 0.8]]))
    assert shifted == pytest.approx(np.array([[0.05, -0.05]]))


@pytest.mark.parametrize("labels", [2, 6])
@pytest.mark.parametrize("mode", ["contextual", "contextual-identity"])
def test_contextual_calibration_is_that_of_the_published_matrices(mode: Any, labels: int) -> None:
    table, inputs = random_tables(labels), random_tables(labels, 3)
    p_cf = inputs.mean(axis=0) / inputs.mean(axis=0).sum()
    weights = np.linalg.inv(np.diag(p_cf)) if mode == "contextual" else np.eye(labels)
    bias = np.zeros(labels) if mode == "contextual" else -p_cf
    expected = np.array([weights @ (row / row.sum()) + bias for row in table])

    found = CALIBRATIONS[mode](of(table, content_free=inputs)).scores

    assert (np.exp(found) if mode == "contextual" else found) == pytest.approx(expected)


def test_contextual_calibration_of_very_unlikely_labels_is_finite() -> None:
    options = [OptionResult(" x", (tail,), (), (), ((tail,),)) for tail in (-1.0, -2000.0)]

    assert CALIBRATIONS["contextual"]([options]).scores == pytest.approx(np.zeros((1, 2)))


def test_domain_conditional_pmi_is_the_difference_of_cross_entropies() -> None:
    table, domain = random_tables(4), random_tables(4)[::-1]
    expected = [
        [-math.log(d) + math.log(p) for p, d in zip(*rows, strict=True)] for rows in zip(table, domain, strict=True)
    ]

    assert CALIBRATIONS["dc-pmi"](of(table, domain)).scores == pytest.approx(np.array(expected))


def test_the_noise_of_references_adds_to_that_of_labels() -> None:
    option = OptionResult(" x", (-1.0,) * 4, (), (-1.0,) * 5, ((-2.0,) * 3, (-2.0,) * 3))

    assert CALIBRATIONS["dc-pmi"]([[option]]).noise == pytest.approx(3.0)  # the root of 4 + 5
    assert CALIBRATIONS["contextual"]([[option]]).noise == pytest.approx(math.sqrt(4 + 2 * 3 / 4))  # each input half


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


@pytest.mark.parametrize("bias", [0.0, 8.0, 16.0, 30.0])
@pytest.mark.parametrize("name", ["batch", "contextual-identity"])
def test_a_label_that_is_always_unlikely_is_chosen_where_it_is_less_so(name: Any, bias: float) -> None:
    """The odds of the second label are e^(x - bias), for x around 0, so it is chosen for the largest x."""
    odds = [-1.5, 0.7, 1.4, -0.4, 0.2, -0.9]
    tables = of([[1.0, math.exp(x - bias)] for x in odds], content_free=[[1.0, math.exp(-bias)]])
    shares = 1 / (1 + np.exp(bias - np.array(odds)))
    reference = shares.mean() if name == "batch" else 1 / (1 + math.exp(bias))

    found = CALIBRATIONS[name](tables)

    rankings = [rank(*each) for each in zip(found.scores.tolist(), found.ties.tolist(), strict=True)]
    assert [each.chosen for each in rankings] == (shares > reference).astype(int).tolist()
    assert not any(each.tied for each in rankings)


def test_equal_labels_stay_tied_after_calibration() -> None:
    found = CALIBRATIONS["batch"](of([[0.4, 0.1], [0.4, 0.1 * (1 + 1e-8)]]))

    assert [rank(*each).tied for each in zip(found.scores.tolist(), found.ties.tolist(), strict=True)] == [True, True]


def test_the_noise_of_a_probability_is_that_of_its_derivatives() -> None:
    options = [OptionResult(" x", (-1.0,) * tokens, ()) for tokens in (1, 4, 2)]
    sums, tokens = -np.array([1.0, 4.0, 2.0]), np.array([1.0, 4.0, 2.0])

    def normalized(shift: Floats) -> Floats:
        p = np.exp(sums + shift)
        return np.asarray(p / p.sum())

    step = 1e-6
    jacobian = np.array([(normalized(step * row) - normalized(-step * row)) / (2 * step) for row in np.eye(3)])
    expected = np.sqrt((jacobian**2 * tokens[:, None]).sum(axis=0))

    assert CALIBRATIONS["batch"]([options]).noise == pytest.approx(expected[None])


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


def test_prototypical_calibration_fits_from_the_seeds_0_to_9(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    class Recorder(GaussianMixture):  # type: ignore[misc]
        def fit(self, *args: Any, **kwargs: Any) -> Any:
            seeds.append(self.random_state)
            return super().fit(*args, **kwargs)

    monkeypatch.setattr("sklearn.mixture.GaussianMixture", Recorder)
    CALIBRATIONS["prototypical"](of([[0.3, 0.1], [0.1, 0.3], [0.2, 0.2], [0.4, 0.1]]))

    assert seeds == [*range(10)]


def test_prototypical_calibration_of_equal_inputs_is_one_label() -> None:
    scores = CALIBRATIONS["prototypical"](of([[0.3, 0.1]] * 4)).scores

    assert np.isfinite(scores).all()
    assert len(set(scores.argmax(axis=1))) == 1


def test_too_few_examples_for_prototypes_are_reported() -> None:
    with pytest.raises(RunError, match="prototypical calibration of 3 labels needs at least 3 examples"):
        CALIBRATIONS["prototypical"](of([[0.1, 0.2, 0.3]] * 2))


def test_a_missing_scikit_learn_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)

    with pytest.raises(RunError, match=r"needs the package scikit-learn: pip install 'icl-eval\[calibration\]'"):
        CALIBRATIONS["prototypical"](of([[0.1, 0.2]] * 4))
