"""Predictions for the tests of metrics, written as rows of (gold, chosen)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from icl_eval.metrics import Prediction


def answered(
    gold: Sequence[int],
    chosen: Sequence[int],
    *,
    clusters: Sequence[object] | None = None,
    groups: Sequence[object] | None = None,
    options: tuple[str, ...] = ("False", "True"),
) -> list[Prediction]:
    """One prediction per (gold, chosen); clusters and groups default to the ids."""
    ids = [f"e{index:04}" for index in range(len(gold))]
    return [
        Prediction(id, options, (int(right),), int(choice), str(cluster), str(group))
        for id, right, choice, cluster, group in zip(ids, gold, chosen, clusters or ids, groups or ids, strict=True)
    ]


def gold_of(predictions: Sequence[Prediction]) -> list[int]:
    return [prediction.gold[0] for prediction in predictions]


def chosen_of(predictions: Sequence[Prediction]) -> list[int]:
    return [prediction.chosen for prediction in predictions]


def right(values: Sequence[bool], clusters: Sequence[object] | None = None) -> list[Prediction]:
    """Predictions that are right where `values` says so."""
    return answered([1] * len(values), [int(value) for value in values], clusters=clusters)


def correlated(seed: int, clusters: int, size: int = 3, classes: int = 2) -> list[Prediction]:
    """Clusters of `size` examples whose gold and chance of a right answer are shared in part."""
    generator = np.random.default_rng(seed)
    names = np.repeat(np.arange(clusters), size)
    usual = generator.integers(classes, size=clusters)[names]
    gold = np.where(generator.random(len(names)) < 0.5, usual, generator.integers(classes, size=len(names)))
    skill = generator.beta(2, 1.5, size=clusters)[names]
    chosen = np.where(generator.random(len(names)) < skill, gold, generator.integers(classes, size=len(names)))
    options = tuple(f"option {index}" for index in range(classes))
    return answered(gold.tolist(), chosen.tolist(), clusters=names.tolist(), options=options)


@st.composite
def paired(draw: st.DrawFn) -> list[Prediction]:
    """2 to 40 two-option examples in groups of two, each group in one of up to six clusters."""
    pairs = draw(st.integers(1, 20))
    bits = st.lists(st.integers(0, 1), min_size=2 * pairs, max_size=2 * pairs)
    gold, chosen = draw(bits), draw(bits)
    clusters = draw(st.lists(st.integers(0, 5), min_size=pairs, max_size=pairs))
    return answered(
        gold,
        chosen,
        clusters=[cluster for cluster in clusters for _ in range(2)],
        groups=[pair for pair in range(pairs) for _ in range(2)],
    )
