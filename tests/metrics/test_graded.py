"""Graded answers: probability mass and expected grades, against lm-evaluation-harness's formula for MC2."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from icl_eval.metrics import METRICS, Prediction, estimate
from icl_eval.references import majority_baseline, random_baseline

METRIC_OF = {
    name: METRICS[name] for name in ("probability_mass", "expected_grade", "multiple_choice_grade", "accuracy")
}


def table(seed: int, graded: bool) -> tuple[list[Prediction], list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Examples with random log-likelihoods and grades of their options, some of them very unlikely."""
    random = np.random.default_rng(seed)
    logprobs, grades = [], []
    for size in random.integers(2, 9, 50):
        logprobs.append(-random.gamma(2, 10 ** random.uniform(0, 1.5), size))
        its = random.choice([0, 0.25, 0.5, 1] if graded else [0, 1], size)
        grades.append(np.where(np.arange(size) == random.integers(size), 1, its))
    predictions = [
        Prediction(
            f"{number:03}",
            tuple(f"option {n}" for n in range(len(lls))),
            tuple(np.flatnonzero(its == its.max()).tolist()),
            int(lls.argmax()),
            str(number),
            str(number),
            tuple(lls.tolist()),
            tuple(its.tolist()) if graded else (),
        )
        for number, (lls, its) in enumerate(zip(logprobs, grades, strict=True))
    ]
    return predictions, logprobs, grades


def mc2(lls: NDArray[Any], labels: NDArray[Any]) -> float:
    """What lm-evaluation-harness does: exponentiate, and divide the mass of the true answers by that of all."""
    p_true, p_false = np.exp(lls[labels == 1]), np.exp(lls[labels == 0])
    return float(np.sum(p_true / (np.sum(p_true) + np.sum(p_false))))


@pytest.mark.parametrize("seed", range(5))
def test_probability_mass_is_mc2(seed: int) -> None:
    predictions, logprobs, labels = table(seed, graded=False)
    expected = np.array([mc2(*each) for each in zip(logprobs, labels, strict=True)])
    for name in ("probability_mass", "expected_grade"):  # the same where grades are 0 and 1
        found = estimate(METRIC_OF[name], [predictions])

        assert found.value == pytest.approx(expected.mean())
        assert found.standard_error == pytest.approx(expected.std(ddof=1) / np.sqrt(len(expected)))


@pytest.mark.parametrize("seed", range(5))
def test_grades_count_by_choice_and_by_probability(seed: int) -> None:
    predictions, logprobs, grades = table(seed, graded=True)
    pairs = list(zip(logprobs, grades, strict=True))
    softmax = [np.exp(lls) / np.exp(lls).sum() for lls, _ in pairs]
    expected = {
        "expected_grade": np.mean([p @ its for p, (_, its) in zip(softmax, pairs, strict=True)]),
        "multiple_choice_grade": np.mean([its[lls.argmax()] for lls, its in pairs]),
        "probability_mass": np.mean([p[its == 1].sum() for p, (_, its) in zip(softmax, pairs, strict=True)]),
        "accuracy": np.mean([its[lls.argmax()] == 1 for lls, its in pairs]),
    }

    assert {name: estimate(METRIC_OF[name], [predictions]).value for name in expected} == pytest.approx(expected)
    assert len({round(value, 6) for value in expected.values()}) == 4


@pytest.mark.parametrize("name", ["probability_mass", "expected_grade", "multiple_choice_grade"])
def test_guessing_is_the_mean_grade(name: str) -> None:
    predictions, _, grades = table(0, graded=name != "probability_mass")

    assert random_baseline(METRIC_OF[name], predictions) == pytest.approx(np.mean([its.mean() for its in grades]))


def test_always_choosing_an_option_gives_it_all_probability() -> None:
    scores = (-1.0, -3.0)
    predictions = [Prediction(f"{n}", ("a", "b"), (n % 3 > 0,), 0, f"{n}", f"{n}", scores) for n in range(6)]

    assert majority_baseline(METRIC_OF["probability_mass"], predictions) == 4 / 6


def test_options_too_unlikely_for_a_float_still_share_the_mass() -> None:
    prediction = Prediction("0", ("a", "b"), (1,), 1, "0", "0", (-2000.0, -1999.0))

    assert estimate(METRIC_OF["probability_mass"], [[prediction]]).value == pytest.approx(1 / (1 + np.exp(-1)))
