from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from icl_eval.metrics import METRICS, Estimate, estimate
from icl_eval.metrics.significance import detectable, holm, permutation_test, sign_test, t_test

from .answered import answered


@pytest.mark.parametrize(("value", "error", "freedom"), [(0.1, 0.05, 9), (-0.02, 0.05, 200), (0.3, 0.1, 2.5)])
def test_p_value_of_t_is_scipys(value: float, error: float, freedom: float) -> None:
    assert t_test(value, error, freedom) == pytest.approx(2 * stats.t.sf(abs(value / error), freedom))


def test_p_value_of_a_known_spread_is_that_of_the_normal_distribution() -> None:
    assert t_test(1.96, 1.0, math.inf) == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize("error", [0.0, math.nan])
def test_nothing_is_reported_where_nothing_is_known_of_the_spread(error: float) -> None:
    assert t_test(0.1, error, 9) is None
    assert detectable(error, 9) is None


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (3, 0), (5, 5), (2, 11), (40, 60)])
def test_sign_test_is_scipys_binomial_test(wins: int, losses: int) -> None:
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0

    assert sign_test(wins, losses) == pytest.approx(expected)


def scored(name: str, chosen: np.ndarray[Any, Any], gold: np.ndarray[Any, Any], size: int = 1) -> Estimate:
    clusters = [f"{index // size:03}" for index in range(len(gold))]
    return estimate(METRICS[name], [answered(gold.tolist(), chosen.tolist(), clusters=clusters)])


def pair_of(name: str, n: int, size: int = 1, seed: int = 0) -> tuple[Estimate, Estimate]:
    generator = np.random.default_rng(seed)
    gold, one, other = generator.integers(0, 2, size=(3, n))
    return tuple(scored(name, each, gold, size) for each in (one, np.where(generator.random(n) < 0.3, gold, other)))  # type: ignore[return-value]


def permuted(one: Estimate, other: Estimate) -> tuple[float, bool]:
    assert one.sums is not None
    assert other.sums is not None
    found = permutation_test(one.sums, other.sums)
    assert found is not None
    return found


def test_permutations_of_right_and_wrong_answers_give_mcnemars_exact_p_value() -> None:
    one, other = pair_of("accuracy", 20)
    gains = [other.influence[name] - each for name, each in one.influence.items()]
    changes = np.round(np.array(gains) * 20 + other.value - one.value)

    p_value, exact = permuted(one, other)

    assert exact
    assert p_value == pytest.approx(sign_test(int((changes > 0).sum()), int((changes < 0).sum())))


@pytest.mark.parametrize(("name", "size"), [("accuracy", 4), ("macro_f1", 1), ("matthews_correlation", 4)])
def test_permutations_of_any_metric_are_those_of_scipy(name: str, size: int) -> None:
    n = 10 * size
    one, other = pair_of(name, n, size)
    assert one.sums is not None
    assert other.sums is not None
    rows, metric = np.stack([one.sums.rows[0], other.sums.rows[0]]), METRICS[name]

    def statistic(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> float:
        pick = np.arange(len(first))
        values = [metric.value(rows[each.astype(int), pick].sum(axis=0)) for each in (first, second)]
        return float(values[1] - values[0])

    expected = stats.permutation_test(
        (np.zeros(10), np.ones(10)), statistic, permutation_type="samples", n_resamples=np.inf, vectorized=False
    )
    extreme = np.abs(expected.null_distribution) >= abs(expected.statistic) - 1e-9

    p_value, exact = permuted(one, other)

    assert exact
    assert p_value == pytest.approx(extreme.mean())


def test_random_permutations_are_close_to_all_of_them_and_the_same_at_each_call() -> None:
    one, other = pair_of("accuracy", 60, seed=3)
    p_value, exact = permuted(one, other)
    changes = np.array([other.influence[name] - one.influence[name] for name in one.influence]) * 60
    changes = np.round(changes + other.value - one.value)

    assert not exact
    assert p_value == pytest.approx(sign_test(int((changes > 0).sum()), int((changes < 0).sum())), abs=0.02)
    assert permuted(one, other) == (p_value, exact)


def test_models_that_answer_alike_do_not_differ() -> None:
    one, _ = pair_of("macro_f1", 30)

    assert permuted(one, one) == (1.0, True)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("accuracy", 1), ("accuracy", 5), ("macro_f1", 1)])
def test_a_permutation_test_rejects_one_true_hypothesis_in_twenty(name: str, size: int) -> None:
    """Of models that are equally good, whose answers to the examples of a cluster are alike."""
    generator, n, found = np.random.default_rng(0), 60, []
    for _ in range(600):
        gold = generator.integers(0, 2, size=n)
        hard = np.repeat(generator.uniform(0.2, 1, size=n // size), size)
        moods = [np.repeat(generator.random(n // size), size) for _ in range(2)]
        right = [np.where(generator.random(n) < 0.7, mood, generator.random(n)) < hard for mood in moods]
        found.append(permuted(*(scored(name, np.where(each, gold, 1 - gold), gold, size) for each in right))[0])
    rate = (np.array(found) < 0.05).mean()

    assert rate < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)
    assert rate > 0.01  # or it would find nothing


def test_holms_p_values_are_those_of_statsmodels() -> None:
    p_values = list(np.random.default_rng(0).uniform(size=20) ** 3)
    adjusted = holm([*p_values[:7], None, *p_values[7:]])

    assert adjusted[7] is None
    assert [p for p in adjusted if p is not None] == pytest.approx(list(multipletests(p_values, method="holm")[1]))


def test_a_detectable_difference_is_found_in_four_of_five_samples() -> None:
    generator = np.random.default_rng(0)
    n, sd = 50, 0.7
    effect = detectable(sd / math.sqrt(n), n - 1)
    assert effect is not None
    samples = generator.normal(effect, sd, size=(4000, n))
    found = stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05

    assert found.mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(("differing", "exact"), [(13, True), (14, False)])
def test_all_permutations_of_up_to_13_clusters_are_tried(differing: int, exact: bool) -> None:
    gold = np.ones(20, dtype=np.int64)
    one, other = (scored("accuracy", np.arange(20) >= n, gold) for n in (0, differing))

    p_value, tried_all = permuted(one, other)

    assert tried_all == exact
    assert p_value == pytest.approx(2 / 2**13 if exact else 2 / 10_000, abs=0 if exact else 2e-4)


def test_a_random_permutation_test_without_a_hit_has_the_least_p_value() -> None:
    gold = np.ones(60, dtype=np.int64)

    assert permuted(*(scored("accuracy", each, gold) for each in (gold, gold - 1))) == (1 / 10_000, False)
