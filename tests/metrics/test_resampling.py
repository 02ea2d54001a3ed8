from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from icl_eval.metrics import METRICS, Kind, Prediction, estimate
from icl_eval.metrics.uncertainty import bootstrap, jackknife

from .answered import answered, chosen_of, correlated, gold_of, right


def test_every_resample_draws_as_many_clusters_as_there_are() -> None:
    assert bootstrap(lambda counts: counts.sum(axis=1) * 1.0, clusters=7, resamples=50).tolist() == [7.0] * 50


def test_spread_of_a_resampled_mean_is_not_divided_by_the_resamples() -> None:
    values = np.random.default_rng(0).random(40)
    resampled = bootstrap(lambda counts: counts @ values / 40, clusters=40, resamples=4000)

    assert resampled.std(ddof=1) == pytest.approx(values.std() / np.sqrt(40), rel=0.04)


def test_jackknife_of_a_mean_is_its_influence() -> None:
    values = np.random.default_rng(1).random(12)

    influences = jackknife(lambda counts: counts @ values / counts.sum(axis=1), clusters=12)

    assert influences == pytest.approx((values - values.mean()) / 12)


def test_clusters_widen_the_interval() -> None:
    predictions = correlated(4, clusters=15, size=2)
    gold, chosen = gold_of(predictions) * 3, chosen_of(predictions) * 3
    clustered = estimate(METRICS["macro_f1"], [answered(gold, chosen, clusters=[*range(30)] * 3)])
    naive = estimate(METRICS["macro_f1"], [answered(gold, chosen)])

    assert clustered.high - clustered.low > 1.4 * (naive.high - naive.low)


@dataclass(frozen=True)
class CorpusMean:
    """Accuracy as a function of a whole list of predictions."""

    name: str = "corpus_mean"
    of: Kind = "choice"
    bounds: tuple[float, float] = (0.0, 1.0)

    def score(self, predictions: Sequence[Prediction]) -> float:
        return float(np.mean([each.chosen in each.gold for each in predictions]))


def test_the_standard_error_of_a_corpus_metric_is_the_spread_of_200_resamples() -> None:
    hits = np.array([1, 0, 1, 1, 0, 1])
    counts = np.random.Generator(np.random.PCG64(0)).multinomial(6, np.full(6, 1 / 6), size=200)

    found = estimate(CorpusMean(), [right(hits.tolist())])

    assert found.standard_error == pytest.approx((counts @ hits / 6).std(ddof=1), abs=1e-15)
