from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from icl_eval.metrics.significance import detectable, holm, sign_test, t_test


@pytest.mark.parametrize(("value", "error", "freedom"), [(0.1, 0.05, 9), (-0.02, 0.05, 200), (0.3, 0.1, 2.5)])
def test_p_value_of_t_is_scipys(value: float, error: float, freedom: float) -> None:
    assert t_test(value, error, freedom) == pytest.approx(2 * stats.t.sf(abs(value / error), freedom))


def test_p_value_of_a_known_spread_is_that_of_the_normal_distribution() -> None:
    assert t_test(1.96, 1.0, math.inf) == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize("error", [0.0, math.nan])
def test_nothing_is_said_where_nothing_is_known_of_the_spread(error: float) -> None:
    assert t_test(0.1, error, 9) is None
    assert detectable(error, 9) is None


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (3, 0), (5, 5), (2, 11), (40, 60)])
def test_sign_test_is_scipys_binomial_test(wins: int, losses: int) -> None:
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0

    assert sign_test(wins, losses) == pytest.approx(expected)


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
