import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, sem, t
from statsmodels.stats.proportion import proportion_confint

from icl_eval.metrics import METRICS, estimate
from icl_eval.metrics.uncertainty import Interval, Z, interval, log_normal, normal, wilson

from .answered import correlated, right


@given(st.integers(2, 99).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_small_unclustered_proportion_has_the_wilson_interval_of_statsmodels(counts: tuple[int, int]) -> None:
    k, n = counts
    actual = estimate(METRICS["accuracy"], [right([True] * k + [False] * (n - k))])

    assert actual.interval == "wilson"
    assert (actual.low, actual.high) == pytest.approx(proportion_confint(k, n, method="wilson"), abs=1e-9)


@pytest.mark.parametrize("n", [10, 99, 100, 101, 5000])
def test_interval_has_no_jump_where_the_number_of_units_grows(n: int) -> None:
    found = estimate(METRICS["accuracy"], [right([True] * (n - n // 4) + [False] * (n // 4))])

    assert (found.low, found.high) == pytest.approx(proportion_confint(n - n // 4, n, method="wilson"), abs=1e-9)


def implied(value: float, error: float, units: float = np.inf, clusters: float = np.inf) -> tuple[float, float]:
    """The interval of statsmodels for as many right-or-wrong units as are known as well."""
    ratio = t.ppf(0.975, units - 1) / t.ppf(0.975, clusters - 1)
    n = (value * (1 - value) / error**2 + 1) * ratio**2
    return proportion_confint(value * n, n, method="wilson")  # type: ignore[no-any-return]


@pytest.mark.parametrize("draws", [1, 2, 5])
@pytest.mark.parametrize("clusters", [8, 33, 150])
@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "f1a"])
def test_error_and_interval_are_of_one_variance(name: str, clusters: int, draws: int) -> None:
    found = estimate(METRICS[name], [correlated(draw, clusters) for draw in range(draws)])

    assert found.interval == "wilson"
    assert (found.low, found.high) == pytest.approx(implied(found.value, found.standard_error, found.units, clusters))


def test_interval_of_several_seeds_is_about_as_wide_as_their_error_says() -> None:
    found = estimate(METRICS["accuracy"], [correlated(draw, clusters=80, size=1) for draw in range(5)])

    assert (found.high - found.low) / found.standard_error == pytest.approx(2 * 1.96, rel=0.02)


def test_interval_between_other_bounds_is_wilsons_on_their_scale() -> None:
    found = interval(0.2, 0.1, (-1.0, 1.0))
    expected = [2 * end - 1 for end in implied(0.6, 0.05)]

    assert (found.low, found.high) == pytest.approx(expected)


@pytest.mark.parametrize(("units", "draws"), [(60, 1), (15, 3), (60, 3)])
def test_interval_covers_the_truth_about_as_often_as_it_says(units: int, draws: int) -> None:
    generator = np.random.default_rng(3)
    skill = generator.beta(3, 1, size=(400, units))  # the true mean is 3 / 4
    hits = generator.random((draws, 400, units)) < skill
    means = hits.mean(axis=0)
    errors = sem(means, axis=1)
    covered = [
        interval(value, error, (0.0, 1.0)).low <= 0.75 <= interval(value, error, (0.0, 1.0)).high
        for value, error in zip(means.mean(axis=1), errors, strict=True)
    ]

    assert 0.92 <= np.mean(covered) <= 0.985


def test_interval_of_few_clusters_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    shares = generator.binomial(20, generator.beta(2, 2, size=(2000, 5))) / 20
    found = [
        interval(value, error, (0.0, 1.0), freedom=4, units=100)
        for value, error in zip(shares.mean(axis=1), sem(shares, axis=1), strict=True)
    ]

    assert 0.935 <= np.mean([each.low <= 0.5 <= each.high for each in found]) <= 0.965


def test_interval_without_two_bounds_is_students() -> None:
    low, high = t.interval(0.95, 4, 2.0, 0.5)
    factor = np.exp(t.ppf(0.975, 4) * 0.5 / 2.0)
    unbounded = interval(2.0, 0.5, (-np.inf, np.inf), freedom=4)
    positive = interval(2.0, 0.5, (0.0, np.inf), freedom=4)

    assert (unbounded.low, unbounded.high) == pytest.approx((low, high))
    assert (positive.low, positive.high) == pytest.approx((2.0 / factor, 2.0 * factor))


@pytest.mark.parametrize("name", ["f1a", "matthews_correlation"])
def test_interval_of_other_metrics_covers_the_truth_about_as_often_as_it_says(name: str) -> None:
    truth = estimate(METRICS[name], [correlated(0, clusters=20_000, size=1)]).value
    samples = [correlated(seed, clusters=60, size=1) for seed in range(1, 151)]
    covered = [e.low <= truth <= e.high for e in (estimate(METRICS[name], [sample]) for sample in samples)]

    assert 0.9 <= np.mean(covered) <= 0.995


def test_all_right_is_not_certainty() -> None:
    found = estimate(METRICS["accuracy"], [right([True] * 20)])

    assert found.low == pytest.approx(20 / (20 + norm.ppf(0.975) ** 2))
    assert found.high == 1


def test_normal_interval_is_cut_at_the_bounds() -> None:
    assert norm.ppf(0.975) == pytest.approx(Z, rel=1e-15)
    assert normal(0.5, 0.1, (0.0, 1.0)).low == pytest.approx(norm.ppf(0.025, 0.5, 0.1))
    assert normal(-0.95, 0.1, (-1.0, 1.0)).low == -1
    assert normal(0.95, 0.1, (0.0, 1.0)).high == 1


def test_interval_without_a_standard_error_is_everything_possible() -> None:
    nothing_known = normal(0.5, math.nan, (-1.0, 1.0))

    assert (nothing_known.low, nothing_known.high, nothing_known.method) == (-1, 1, "bounds")


def test_a_spread_of_zero_is_no_certainty() -> None:
    everything = Interval(0.0, 100.0, "bounds")

    assert normal(0.0, 0.0, (0.0, 100.0)) == everything
    assert interval(0.0, 0.0, (0.0, 100.0)) == everything
    assert log_normal(3.0, 0.0, (0.0, math.inf)) == Interval(0.0, math.inf, "bounds")


@pytest.mark.parametrize("draws", [[True], [False], [True, False]])
def test_clusters_that_are_all_alike_count_as_one_unit_each(draws: list[bool]) -> None:
    found = estimate(METRICS["accuracy"], [right([value] * 60, [*range(4)] * 15) for value in draws])

    assert (found.low, found.high) == pytest.approx(
        proportion_confint(4 * np.mean(draws), 4, method="wilson"), abs=1e-4
    )


@pytest.mark.parametrize("n", [1.5, 3, 7, 29, 1000])
def test_wilsons_interval_contains_its_proportion_to_the_last_digit(n: float) -> None:
    assert (wilson(0.0, n).low, wilson(1.0, n).high) == (0.0, 1.0)
    for proportion in np.linspace(0, 1, 101):
        assert wilson(proportion, n).low <= proportion <= wilson(proportion, n).high


def test_log_normal_interval_needs_a_value_above_zero_and_a_factor_that_a_float_holds() -> None:
    assert log_normal(0.0, 1.0, (0.0, math.inf)) == Interval(0.0, math.inf, "bounds")
    assert math.isfinite(log_normal(1.0, 1e6, (0.0, math.inf)).high)
