from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from icl_eval.metrics import Estimate, TextPrediction, difference, estimate
from icl_eval.metrics.means import ExampleMean
from icl_eval.metrics.power import ASSUMED, PairedVariance, measured

NUMBER = ExampleMean[TextPrediction]("number", "text", lambda each: float(each.text), (-math.inf, math.inf), False)


def test_the_number_of_examples_is_that_of_millers_paper() -> None:
    assert PairedVariance(1 / 9, 0.0).clusters_needed(0.03, 1) == pytest.approx(969, abs=1)


@pytest.mark.parametrize(("effect", "power", "level"), [(0.02, 0.8, 0.05), (0.05, 0.9, 0.01)])
def test_the_number_of_examples_is_that_of_statsmodels(effect: float, power: float, level: float) -> None:
    expected = TTestPower().solve_power(effect / math.sqrt(0.25), power=power, alpha=level)

    assert PairedVariance(0.25, 0.0).clusters_needed(effect, 1, power, level) == pytest.approx(expected, abs=4)


def test_a_difference_is_detectable_with_the_examples_that_it_needs() -> None:
    parts = PairedVariance(0.1, 0.4, 0.0001)
    effect = parts.detectable(500, 4)

    assert parts.clusters_needed(effect, 4) == pytest.approx(500)


@pytest.mark.parametrize(("effect", "clusters"), [(0.05, 600), (0.04, 800), (0.3, 600)])
def test_the_number_of_draws_is_the_least_that_is_enough(effect: float, clusters: int) -> None:
    parts = PairedVariance(0.1, 0.4, 0.0001)
    draws = parts.draws_needed(effect, clusters)

    assert draws is not None
    assert parts.clusters_needed(effect, draws) <= clusters
    assert draws == 1 or parts.clusters_needed(effect, draws - 1) > clusters


def test_no_number_is_enough_for_what_it_does_not_average() -> None:
    assert PairedVariance(0.1, 0.4).draws_needed(0.02, 100) is None
    assert PairedVariance(0.1, 0.4, 0.01).clusters_needed(0.02, 2) == math.inf


def test_the_assumed_variance_finds_a_difference_in_four_of_five_samples() -> None:
    """Of two models that solve a uniform share of the answers to each question, and answer a third of them alike."""
    generator, effect = np.random.default_rng(0), 0.05
    n = math.ceil(ASSUMED.clusters_needed(effect, 1))
    first = generator.uniform(size=(1000, n))
    second = np.where(generator.uniform(size=first.shape) < 1 / 3, first, generator.uniform(size=first.shape))
    better = second + 2 * effect * (1 - second)
    gains = (generator.uniform(size=first.shape) < better) - 1.0 * (generator.uniform(size=first.shape) < first)
    z = gains.mean(axis=1) / gains.std(axis=1, ddof=1) * math.sqrt(n)

    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] == pytest.approx(1 / 3, abs=0.01)
    assert (np.abs(z) > 1.96).mean() == pytest.approx(0.8, abs=0.04)


def scored(values: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Estimate:
    """The estimate of scores of shape (draws, examples)."""
    names = [f"{index:04}" for index in range(values.shape[1])]
    texts = [[TextPrediction(id, str(x), ("",), id, id) for id, x in zip(names, row, strict=True)] for row in values]
    return estimate(NUMBER, texts)


def sample(draws: int, examples: int, seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    generator = np.random.default_rng(seed)
    between, within, common = (0.5, 0.8, 0.2)
    return (
        between * generator.normal(size=(1, examples))
        + within * generator.normal(size=(draws, examples))
        + common * generator.normal(size=(draws, 1))
    )


def test_the_parts_of_a_variance_are_measured() -> None:
    one, other = (scored(sample(40, 400, seed)) for seed in (1, 2))
    found = measured(one, other, same_draws=True)
    assert found is not None

    assert (found.between, found.within, found.common) == pytest.approx((0.5, 1.28, 0.08), rel=0.2)


@pytest.mark.parametrize("draws", [1, 3])
def test_the_measured_variance_is_that_of_the_measured_difference(draws: int) -> None:
    one, other = (scored(sample(draws, 60, seed)) for seed in (3, 4))
    for same in (True, False):
        found = measured(one, other, same_draws=same)
        assert found is not None
        total = (found.between + found.within / draws) / 60
        assert math.sqrt(total) == pytest.approx(difference(one, other).standard_error)


def test_one_score_stands_for_two_models_with_a_correlation_of_a_third() -> None:
    one = scored(sample(1, 60, 5))
    found = measured(one)
    assert found is not None

    assert found.between == pytest.approx(2 * (2 / 3) * 60 * one.standard_error**2)


def test_nothing_is_measured_in_one_example() -> None:
    assert measured(scored(np.array([[1.0]]))) is None


def test_the_parts_of_a_small_table_are_those_of_a_two_way_analysis_of_variance() -> None:
    values = np.array([[1.0, 2.0, 4.0], [3.0, 6.0, 9.0]])  # (draws, examples)
    residual = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    within = (residual**2).sum() / 2  # (2 - 1) * (3 - 1) degrees of freedom
    found = measured(scored(np.zeros((2, 3))), scored(values), same_draws=True)
    assert found is not None

    assert found.within == pytest.approx(within)
    assert found.between == pytest.approx(values.mean(axis=0).var(ddof=1) - within / 2)
    assert found.common == pytest.approx(values.mean(axis=1).var(ddof=1) - within / 3)
