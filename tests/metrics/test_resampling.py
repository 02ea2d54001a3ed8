import numpy as np
import pytest

from icl_eval.metrics import METRICS, estimate
from icl_eval.metrics.uncertainty import bootstrap, jackknife

from .answered import answered, chosen_of, correlated, gold_of


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
