from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from icl_eval.metrics.sequence import MeanSequence


def drawn(population: int, share: float, seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return (np.random.default_rng(seed).random(population) < share).astype(float)


def capitals(values: Sequence[float], population: int, mean: float, target: float) -> tuple[float, float]:
    """The most that either bet against a mean ever has; the definition, value by value."""
    more = less = most_more = most_less = 1.0
    for t, value in enumerate(values, start=1):
        before = list(values[: t - 1])
        fair = (population * mean - sum(before)) / (population - t + 1)
        if fair < 0:
            return math.inf, most_less
        if fair > 1:
            return most_more, math.inf
        centres = [(0.5 + sum(before[: i + 1])) / (i + 2) for i in range(len(before))]
        variance = (0.25 + sum((x - c) ** 2 for x, c in zip(before, centres, strict=True))) / t
        bet = target * population / (population - t + 1) / variance
        more *= 1 + min(bet, 0.5 / fair if fair else math.inf) * (value - fair)
        less *= 1 - min(bet, 0.5 / (1 - fair) if fair < 1 else math.inf) * (value - fair)
        most_more, most_less = max(most_more, more), max(most_less, less)
    return most_more, most_less


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_means_outside_are_those_against_which_a_bet_has_won_forty_times_the_stake(share: float) -> None:
    values = drawn(300, share, 1)[:80]
    sequence = MeanSequence(300, 0.1)
    sequence.add(values)

    assert 0 < sequence.low < values.mean() < sequence.high < 1
    for mean in np.linspace(0.0025, 0.9975, 60):
        more, less = capitals(values.tolist(), 300, mean, 0.1)
        if min(abs(mean - sequence.low), abs(mean - sequence.high)) > 0.006:
            assert (more >= 40) == (mean < sequence.low)
            assert (less >= 40) == (mean > sequence.high)


def test_the_ends_are_the_nearest_rejected_means_of_a_grid() -> None:
    values = [1.0] * 12 + [0.0] + [1.0] * 3
    sequence = MeanSequence(300, 0.1)
    sequence.add(np.array(values))
    grid = np.linspace(0, 1, 201)[1:-1]

    assert sequence.low == max(mean for mean in grid if capitals(values, 300, mean, 0.1)[0] >= 40)
    assert sequence.high == 1.0


def test_the_mean_of_a_whole_population_is_known() -> None:
    values = np.random.default_rng(2).random(50)
    sequence = MeanSequence(50, 0.05)
    sequence.add(values)

    assert (sequence.low, sequence.high) == pytest.approx((values.mean(), values.mean()))


def test_the_interval_does_not_depend_on_how_values_are_given_and_never_becomes_wider() -> None:
    values = drawn(200, 0.7, 3)[:100]
    at_once, one_by_one = MeanSequence(200, 0.1), MeanSequence(200, 0.1)
    at_once.add(values)
    widths = []
    for value in values:
        one_by_one.add(np.array([value]))
        widths.append(one_by_one.half_width)

    assert (one_by_one.low, one_by_one.high) == (at_once.low, at_once.high)
    assert widths == sorted(widths, reverse=True)


def test_a_half_width_is_reached_with_less_than_twice_the_examples_of_a_fixed_number() -> None:
    values, n = drawn(5000, 0.8, 4), 0
    sequence = MeanSequence(5000, 0.03)
    while sequence.half_width > 0.03:
        sequence.add(values[n : n + 100])
        n += 100
    fixed = 1.96**2 * 0.16 / 0.03**2

    assert fixed < n < 2 * fixed


@pytest.mark.parametrize("values", [[0.5, 1.1], [0.5, math.nan], [0.5] * 4])
def test_what_is_no_value_of_the_population_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="more values than in the population, or a value outside"):
        MeanSequence(3, 0.1).add(np.array(values))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["right or wrong", "seldom wrong", "means over draws", "two kinds"])
def test_the_mean_is_never_outside_in_nineteen_of_twenty_populations(kind: str) -> None:
    """The interval never becomes wider, so a mean that is inside at the end was inside at every stopping time."""
    generator, missed, runs = np.random.default_rng(5), 0, 400
    for _ in range(runs):
        values = {
            "right or wrong": generator.random(300) < 0.6,
            "seldom wrong": generator.random(300) < 0.98,
            "means over draws": generator.binomial(3, generator.random(300)) / 3,
            "two kinds": np.where(generator.random(300) < 0.5, 0.2, 0.9),
        }[kind].astype(float)
        sequence = MeanSequence(300, 0.05)
        for start in range(0, 240, 20):
            sequence.add(values[start : start + 20])
        missed += not sequence.low <= values.mean() <= sequence.high

    assert missed / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


@pytest.mark.slow
@pytest.mark.parametrize("population", [1000, 10_000])
@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("width", [0.02, 0.05])
def test_the_cost_over_a_fixed_number_is_as_documented(population: int, share: float, width: float) -> None:
    """As docs/statistics.md has it: 1.2 to 1.8 times, as a mean over draws and before rounding."""
    infinite = 1.96**2 * share * (1 - share) / width**2
    fixed = infinite / (1 + (infinite - 1) / population)
    counts = []
    for seed in range(6):
        values, n = drawn(population, share, seed), 0
        sequence = MeanSequence(population, width)
        while sequence.half_width > width:
            sequence.add(values[n : n + 20])
            n += 20
        counts.append(n)

    assert 1.1 < np.mean(counts) / fixed < 1.9


@pytest.mark.slow
def test_an_interval_for_one_look_misses_the_mean_at_some_of_many_looks() -> None:
    """What the sequence is for: the fixed interval, with the same looks."""
    generator, missed, runs = np.random.default_rng(6), 0, 400
    for _ in range(runs):
        values = (generator.random(300) < 0.6).astype(float)
        looks = [values[:n] for n in range(20, 241, 20)]
        errors = [1.96 * each.std(ddof=1) * math.sqrt((1 - len(each) / 300) / len(each)) for each in looks]
        missed += any(abs(each.mean() - values.mean()) > error for each, error in zip(looks, errors, strict=True))

    assert missed / runs > 0.12
