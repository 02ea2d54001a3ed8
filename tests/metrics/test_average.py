import math
import statistics

import numpy as np
import pytest
from scipy.stats import sem, t, ttest_ind
from statsmodels.stats.proportion import proportion_confint

from icl_eval.errors import MetricError
from icl_eval.metrics import (
    METRICS,
    Estimate,
    average,
    average_of_parts,
    difference_of_parts,
    estimate,
    independent_average,
)
from icl_eval.metrics.uncertainty import clustered_error

from .answered import answered, correlated, right


def task(seed: int, clusters: int = 40, draws: int = 2) -> Estimate:
    return estimate(METRICS["accuracy"], [correlated(seed + draw, clusters) for draw in range(draws)])


def test_average_of_a_metric_with_itself_is_itself() -> None:
    once = task(0)

    assert average([once, once]).standard_error == pytest.approx(once.standard_error)
    assert average([once, once]).seed_values == pytest.approx(once.seed_values)
    assert average([once, once]).seed_sd == pytest.approx(once.seed_sd)


def test_average_of_opposite_metrics_is_certain() -> None:
    values = [True, False, True, True]
    opposite = [estimate(METRICS["accuracy"], [right(v)]) for v in (values, [not value for value in values])]

    assert average(opposite).value == pytest.approx(0.5)
    assert average(opposite).standard_error == pytest.approx(0, abs=1e-11)


def test_error_of_an_average_is_the_spread_of_the_resampled_average() -> None:
    predictions = correlated(8, clusters=300, classes=3)
    metrics = [METRICS["accuracy"], METRICS["macro_f1"]]
    sums = [metric.statistics(predictions).rows.reshape(300, 3, -1).sum(axis=1) for metric in metrics]
    generator = np.random.default_rng(2)
    draws = generator.integers(300, size=(3000, 300))
    resampled = np.mean([m.value(s[draws].sum(axis=1)) for m, s in zip(metrics, sums, strict=True)], axis=0)

    both = average([estimate(metric, [predictions]) for metric in metrics])

    assert both.standard_error == pytest.approx(resampled.std(ddof=1), rel=0.05)
    assert (both.units, both.clusters, both.interval) == (900, 300, "wilson")


def test_average_counts_the_fewest_units() -> None:
    # MultiRC: two passages of two questions of three answer options; exact match counts questions, F1 counts options
    options = answered([0, 1, 1] * 4, [0, 1, 1, 0, 1, 0] * 2, clusters=[*"p" * 6, *"q" * 6], groups=[*"aaabbbcccddd"])
    exact, f1 = (estimate(METRICS[name], [options]) for name in ("group_exact_match", "f1a"))

    assert (exact.units, f1.units) == (4, 12)
    assert average([exact, f1]).units == 4
    assert average([exact, f1]).value == pytest.approx((1 / 2 + 6 / 7) / 2)


def test_average_of_other_clusters_is_an_error() -> None:
    with pytest.raises(MetricError, match="the metrics to average differ in their clusters"):
        average([task(0, clusters=40), task(0, clusters=41)])


@pytest.mark.parametrize("mean", [average, independent_average])
def test_average_of_different_numbers_of_seeds_is_an_error(mean: type) -> None:
    with pytest.raises(MetricError, match="differ in their numbers of seeds"):
        mean([task(0, draws=2), task(0, draws=3)])


@pytest.mark.parametrize("mean", [average, independent_average])
def test_average_of_nothing_is_an_error(mean: type) -> None:
    with pytest.raises(MetricError, match="there are no"):
        mean([])


def test_error_of_independent_tasks_is_propagated_and_never_averaged() -> None:
    tasks = [task(0), task(10), task(20, clusters=10)]
    suite = independent_average(tasks)

    assert suite.value == pytest.approx(statistics.fmean(each.value for each in tasks))
    assert suite.standard_error == pytest.approx(math.hypot(*(each.standard_error for each in tasks)) / 3)
    assert suite.standard_error < statistics.fmean(each.standard_error for each in tasks)
    assert (suite.units, suite.clusters) == (270, 90)


def test_influences_of_a_suite_give_its_error() -> None:
    suite = independent_average([task(0), independent_average([task(10), task(20, clusters=3)])])

    assert clustered_error(suite.influence.values()) == pytest.approx(suite.standard_error)
    assert math.fsum(suite.influence.values()) == pytest.approx(0, abs=1e-11)


def test_seeds_are_averaged_seed_by_seed() -> None:
    first, second = (
        estimate(METRICS["accuracy"], [right([True] * k + [False] * (4 - k)) for k in ks]) for ks in ([1, 3], [3, 1])
    )

    assert independent_average([first, second]).seed_values == (0.5, 0.5)
    assert independent_average([first, second]).seed_sd == 0  # not the mean of the two spreads


def test_independent_average_of_one_sample_split_in_two_is_near_its_whole() -> None:
    values = (np.random.default_rng(0).random(4000) < 0.7).tolist()
    halves = independent_average(
        [estimate(METRICS["accuracy"], [right(half)]) for half in (values[:2000], values[2000:])]
    )

    assert halves.standard_error == pytest.approx(sem(values), rel=0.01)


def test_average_takes_the_mean_of_the_bounds() -> None:
    predictions = correlated(0, 40)
    both = average([estimate(METRICS[name], [predictions]) for name in ("accuracy", "matthews_correlation")])

    assert both.bounds == (-0.5, 1.0)
    assert independent_average([task(0, draws=1), both], [0.8, 0.2]).bounds == pytest.approx((-0.1, 1.0))


def test_tasks_without_any_right_answer_do_not_make_a_suite_certain() -> None:
    nothing = estimate(METRICS["accuracy"], [right([False] * 8)])

    for mean in (average, independent_average):
        found = mean([nothing, nothing])
        assert (found.value, found.low, found.high, found.interval) == (0.0, 0.0, 1.0, "bounds")


def test_task_of_one_cluster_leaves_the_suite_without_an_error() -> None:
    suite = independent_average([task(0, draws=1), estimate(METRICS["accuracy"], [right([True], ["c"])])])

    assert math.isnan(suite.standard_error)
    assert (suite.low, suite.high, suite.interval) == (0, 1, "bounds")


def test_weights_count_tasks_as_often_as_they_say() -> None:
    first, second = task(0), task(10, clusters=20)
    found = independent_average([first, second], [0.9, 0.1])

    assert found.value == pytest.approx(0.9 * first.value + 0.1 * second.value)
    assert found.standard_error == pytest.approx(math.hypot(0.9 * first.standard_error, 0.1 * second.standard_error))
    assert clustered_error(found.influence.values()) == pytest.approx(found.standard_error)


def test_interval_of_an_average_follows_from_its_error() -> None:
    suite = independent_average([task(0, clusters=9), task(20, clusters=9)])
    ratio = t.ppf(0.975, suite.units - 1) / t.ppf(0.975, suite.freedom)
    n = (1 + suite.value * (1 - suite.value) / suite.standard_error**2) * ratio**2

    assert (suite.low, suite.high) == pytest.approx(proportion_confint(suite.value * n, n, method="wilson"))


def test_degrees_of_freedom_of_an_average_are_those_of_welchs_test() -> None:
    one, other = [True] * 3 + [False] * 2, [True] * 5 + [False] * 4
    both = [estimate(METRICS["accuracy"], [right(values)]) for values in (one, other)]

    assert independent_average(both).freedom == pytest.approx(ttest_ind(one, other, equal_var=False).df)
    assert [each.freedom for each in both] == [4, 8]
    assert average([both[0], both[0]]).freedom == 4


def test_parts_that_share_clusters_have_one_degree_of_freedom_less_than_clusters() -> None:
    first, second = (
        estimate(METRICS["accuracy"], [answered([1] * 4, chosen, clusters=clusters)])
        for chosen, clusters in (([1, 0, 1, 1], "abcd"), ([0, 0, 1, 1], "cdef"))
    )

    assert average_of_parts([first, second]).freedom == 5
    assert difference_of_parts(first, second).freedom == 5
