"""Which values a metric could take if its close calls had other winners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from icl_eval.metrics.prediction import Prediction
from icl_eval.metrics.statistics import Metric

Rivals = Mapping[int, Sequence[int]]  # by the position of a prediction: the options that could win in its place


def value_range(metric: Metric[Prediction], predictions: Sequence[Prediction], rivals: Rivals) -> tuple[float, float]:
    """The least and the greatest value of a metric over the winners that its close calls could have.

    Units are decided one after the other, each for what lowers (raises) the value most. This is exact for means over
    examples or groups; of other metrics the true range may be somewhat wider.
    """
    rows = metric.statistics(predictions).rows  # (units, d)
    variants = np.stack([rows, *(metric.statistics(each).rows for each in _variants(predictions, rivals))])  # (v, u, d)
    open_units = np.flatnonzero((variants != rows).any(axis=(0, 2)))
    shifts = [variants[:, unit] - rows[unit] for unit in open_units]
    low, high = (_decided(metric, sign, rows.sum(axis=0), shifts) for sign in (-1.0, 1.0))
    return low, high


def _variants(predictions: Sequence[Prediction], rivals: Rivals) -> list[list[Prediction]]:
    """All predictions with other winners: right ones, wrong ones, and in each group one after the other."""
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
    """The value after each unit has taken the shift (variants, d) that raises `sign` times the value most."""
    for shift in shifts:
        totals = totals + shift[np.argmax(sign * metric.value(totals + shift))]
    return float(metric.value(totals))
