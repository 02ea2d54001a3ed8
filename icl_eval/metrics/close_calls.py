"""The range of a metric over the possible decisions of its close calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from icl_eval.metrics.prediction import Prediction
from icl_eval.metrics.statistics import Metric

Rivals = Mapping[int, Sequence[int]]  # by position of the prediction: the options that could be chosen instead


def value_range(metric: Metric[Prediction], predictions: Sequence[Prediction], rivals: Rivals) -> tuple[float, float]:
    """The lowest and the highest value of a metric over the possible decisions of its close calls.

    Units are decided one after the other, each so that it lowers (raises) the value most. This is exact for means over
    examples or groups. The true range of other metrics may be slightly wider.
    """
    rows = metric.statistics(predictions).rows  # (units, d)
    variants = np.stack([rows, *(metric.statistics(each).rows for each in _variants(predictions, rivals))])  # (v, u, d)
    open_units = np.flatnonzero((variants != rows).any(axis=(0, 2)))
    shifts = [variants[:, unit] - rows[unit] for unit in open_units]
    low, high = (_decided(metric, sign, rows.sum(axis=0), shifts) for sign in (-1.0, 1.0))
    return low, high


def _variants(predictions: Sequence[Prediction], rivals: Rivals) -> list[list[Prediction]]:
    """Variants of all predictions: with right options, with wrong options, and with each option in turn per group."""
    rounds: list[dict[int, int]] = [{}, {}]
    used: dict[str, int] = {}
    for position, others in rivals.items():
        old = predictions[position]
        for changes, right in zip(rounds, (True, False), strict=False):
            if (old.chosen in old.gold) is not right:
                changes.update((position, option) for option in others if (option in old.gold) is right)
        for option in others:
            turn = used[old.group] = used.get(old.group, 1) + 1
            rounds += [{}] if turn == len(rounds) else []
            rounds[turn][position] = option
    return [
        [each.choosing(changes[index]) if index in changes else each for index, each in enumerate(predictions)]
        for changes in rounds
    ]


def _decided(
    metric: Metric[Prediction], sign: float, totals: NDArray[np.float64], shifts: Sequence[NDArray[np.float64]]
) -> float:
    """The value after each unit takes the shift, of (variants, d), that raises `sign` times the value most."""
    for shift in shifts:
        totals = totals + shift[np.argmax(sign * metric.value(totals + shift))]
    return float(metric.value(totals))
