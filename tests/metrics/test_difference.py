from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.stats import ttest_rel
from sklearn.metrics import f1_score

from icl_eval.errors import MetricError
from icl_eval.metrics import METRICS, Difference, difference, estimate

from .answered import answered, macro_f1, right
from .test_estimate import CorpusAccuracy

Bits = NDArray[np.int64]


def two(n: int, seed: int = 0) -> tuple[Bits, Bits]:
    """Right or wrong, of two models that mostly agree."""
    generator = np.random.default_rng(seed)
    one = generator.integers(2, size=n)
    return one, np.where(generator.random(n) < 0.7, one, generator.random(n) < 0.6).astype(int)


def of_accuracy(one: Sequence[Any] | Bits, other: Sequence[Any] | Bits, clusters: Any = None) -> Difference:
    found = [estimate(METRICS["accuracy"], [right(list(map(bool, each)), clusters)]) for each in (one, other)]
    return difference(*found)


def test_error_is_that_of_the_mean_of_the_differences_of_the_examples() -> None:
    one, other = two(150)
    each = other - one
    found = of_accuracy(one, other)

    assert found.value == pytest.approx(each.mean())
    assert found.standard_error == pytest.approx(each.std(ddof=1) / math.sqrt(150))
    assert (found.low, found.high) == pytest.approx(tuple(ttest_rel(other, one).confidence_interval()))
    assert found.interval == "normal"


@pytest.mark.slow
@pytest.mark.parametrize("repeated", [1, 3])
def test_the_interval_covers_the_true_difference_about_as_often_as_it_says(repeated: int) -> None:
    """Of 250 pairs of models whose accuracies truly differ by 0.03; clusters are copies of an example."""
    clusters = [str(n // repeated) for n in range(60 * repeated)]
    found = []
    for seed in range(250):
        one, other = (np.repeat(each, repeated) for each in two(60, seed))
        found.append(of_accuracy(one, other, clusters if repeated > 1 else None))

    assert 0.92 <= np.mean([each.low <= 0.3 * (0.6 - 0.5) <= each.high for each in found]) <= 0.985


def test_what_both_have_in_common_cancels() -> None:
    """Miller 2024: SE² = SE_A² + SE_B² - 2 SE_A SE_B ρ."""
    one, other = two(150)
    errors = [each.std(ddof=1) / math.sqrt(150) for each in (one, other)]
    correlation = np.corrcoef(one, other)[0, 1]
    expected = math.sqrt(errors[0] ** 2 + errors[1] ** 2 - 2 * errors[0] * errors[1] * correlation)

    assert correlation > 0.3
    assert of_accuracy(one, other).standard_error == pytest.approx(expected)


def test_clusters_count_as_wholes() -> None:
    """CR1: sqrt(C / (C - 1) * sum over clusters of (sum of d - mean d)²) / n."""
    one, other = two(120)
    clusters = np.random.default_rng(1).integers(17, size=120)
    apart = (other - one) - (other - one).mean()
    sums = np.array([apart[clusters == name].sum() for name in np.unique(clusters)])
    expected = math.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / 120

    assert of_accuracy(one, other, clusters.tolist()).standard_error == pytest.approx(expected)


def test_several_seeds_are_averaged_example_by_example() -> None:
    draws = [two(60, seed) for seed in range(3)]
    found = difference(
        *(estimate(METRICS["accuracy"], [right(list(map(bool, draw[which]))) for draw in draws]) for which in (0, 1))
    )
    each = np.mean([other - one for one, other in draws], axis=0)

    assert found.value == pytest.approx(each.mean())
    assert found.standard_error == pytest.approx(each.std(ddof=1) / math.sqrt(60))


def test_answers_that_are_alike_differ_by_nothing_and_nobody_knows_how_surely() -> None:
    found = of_accuracy([1, 0, 1, 1], [1, 0, 1, 1])

    assert (found.value, found.standard_error) == (0, 0)
    assert (found.low, found.high, found.interval) == (-1, 1, "bounds")


def test_one_cluster_says_nothing_of_the_spread() -> None:
    found = of_accuracy([1, 0, 1], [1, 1, 1], ["passage"] * 3)

    assert found.value == pytest.approx(1 / 3)
    assert math.isnan(found.standard_error)
    assert found.interval == "bounds"


def test_the_interval_ends_where_the_difference_must() -> None:
    found = of_accuracy([0] * 9 + [1], [1] * 10)

    assert found.value == pytest.approx(0.9)
    assert found.high == 1


def test_other_clusters_cannot_be_paired() -> None:
    with pytest.raises(MetricError, match="different clusters of examples"):
        of_accuracy([1, 0], [1, 0, 1])


def labelled(n: int) -> tuple[Bits, Bits, Bits]:
    """Gold labels of three classes, and the choices of two models that are often right on the same examples."""
    generator = np.random.default_rng(5)
    gold, easy = generator.integers(3, size=n), generator.random(n) < 0.5
    one, other = (np.where(easy | (generator.random(n) < 0.3), gold, generator.integers(3, size=n)) for _ in range(2))
    return gold, one, other


def test_error_of_macro_f1_is_that_of_a_paired_bootstrap() -> None:
    gold, one, other = labelled(300)
    options = ("a", "b", "c")
    found = difference(
        *(
            estimate(METRICS["macro_f1"], [answered(gold.tolist(), chosen.tolist(), options=options)])
            for chosen in (one, other)
        )
    )
    generator = np.random.default_rng(0)
    resampled = []
    for _ in range(600):
        drawn = generator.integers(300, size=300)
        scores = [macro_f1(gold[drawn], chosen[drawn]) for chosen in (one, other)]
        resampled.append(scores[1] - scores[0])

    assert found.value == pytest.approx(f1_score(gold, other, average="macro") - f1_score(gold, one, average="macro"))
    assert found.standard_error == pytest.approx(np.std(resampled, ddof=1), rel=0.08)


def test_a_metric_of_whole_lists_has_the_jackknifes_error() -> None:
    """Of a mean the jackknife's standard error is the familiar one (Efron & Stein 1981)."""
    one, other = two(40)
    found = difference(*(estimate(CorpusAccuracy(), [right(list(map(bool, each)))]) for each in (one, other)))

    assert found.standard_error == pytest.approx((other - one).std(ddof=1) / math.sqrt(40))


def test_a_difference_has_the_fewer_degrees_of_freedom_of_the_two() -> None:
    one, other = (estimate(METRICS["accuracy"], [right([True, False, True, each])]) for each in (True, False))
    found = difference(replace(one, freedom=2.0, bounds=(-9, 9)), replace(other, freedom=30.0, bounds=(-9, 9)))

    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 2) * found.standard_error)
