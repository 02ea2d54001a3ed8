from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from icl_eval.metrics import METRICS, Prediction, value_range

from .answered import answered


def every_value(name: str, predictions: list[Prediction], rivals: dict[int, tuple[int, ...]]) -> list[float]:
    """The metric's value for each way in which the close calls may end."""
    ways = product(*((each.chosen, *rivals.get(index, ())) for index, each in enumerate(predictions)))
    decided = [[replace(each, chosen=chosen) for each, chosen in zip(predictions, way, strict=True)] for way in ways]
    return [float(METRICS[name].value(METRICS[name].statistics(each).rows.sum(axis=0))) for each in decided]


def answers_to(seed: int) -> tuple[list[Prediction], dict[int, tuple[int, ...]]]:
    """Eight predictions in pairs, of which some are close calls of one or two other options."""
    random = np.random.default_rng(seed)
    gold, chosen = random.integers(3, size=(2, 8)).tolist()
    pairs = [index // 2 for index in range(8)]
    predictions = answered(gold, chosen, clusters=pairs, groups=pairs, options=("a", "b", "c"))
    others = {index: tuple(option for option in range(3) if option != chosen[index]) for index in range(0, 8, 2)}
    return predictions, {index: found[: 1 + index // 4] for index, found in others.items()}


@pytest.mark.parametrize("name", ["accuracy", "group_exact_match", "gender_parity"])
def test_the_range_of_a_mean_is_that_of_all_ways_to_decide(name: str) -> None:
    for seed in range(10):
        predictions, rivals = answers_to(seed)
        values = every_value(name, predictions, rivals)

        assert value_range(METRICS[name], predictions, rivals) == pytest.approx((min(values), max(values)))


def test_both_ends_of_the_range_of_macro_f1_are_reached_by_some_way_to_decide() -> None:
    for seed in range(10):
        predictions, rivals = answers_to(seed)
        low, high = value_range(METRICS["macro_f1"], predictions, rivals)
        values = every_value("macro_f1", predictions, rivals)

        assert low <= values[0] <= high
        assert low < high
        assert all(min(abs(end - each) for each in values) < 1e-9 for end in (low, high))


def test_without_close_calls_the_range_is_the_value() -> None:
    assert value_range(METRICS["accuracy"], answered([0, 1, 1, 1], [0, 1, 0, 0]), {}) == (0.5, 0.5)
