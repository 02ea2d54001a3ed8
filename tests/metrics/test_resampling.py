import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap

from icl_eval.metrics import METRICS, estimate
from icl_eval.metrics.resampling import bootstrap, jackknife

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


def test_small_nonlinear_metric_has_the_percentile_interval_of_scipy() -> None:
    generator = np.random.default_rng(5)
    gold = generator.integers(2, size=60)
    chosen = np.where(generator.random(60) < 0.75, gold, 1 - gold)

    def f1(gold: np.ndarray, chosen: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(2 * (gold & chosen).sum(axis) / (gold.sum(axis) + chosen.sum(axis)))

    expected = scipy_bootstrap((gold, chosen), f1, paired=True, method="percentile", rng=3, batch=500)
    actual = estimate(METRICS["f1a"], [answered(gold.tolist(), chosen.tolist())])

    assert actual.interval == "bootstrap"
    assert (actual.low, actual.high) == pytest.approx(tuple(expected.confidence_interval), abs=0.012)


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    truth = estimate(METRICS["f1a"], [correlated(0, clusters=20_000, size=1)]).value
    samples = [correlated(seed, clusters=90, size=1) for seed in range(1, 151)]
    covered = [e.low <= truth <= e.high for e in (estimate(METRICS["f1a"], [sample]) for sample in samples)]

    assert 0.88 <= np.mean(covered) <= 0.995


def test_clusters_widen_the_bootstrap_interval() -> None:
    predictions = correlated(4, clusters=15, size=2)
    gold, chosen = gold_of(predictions) * 3, chosen_of(predictions) * 3
    clustered = estimate(METRICS["macro_f1"], [answered(gold, chosen, clusters=[*range(30)] * 3)])
    naive = estimate(METRICS["macro_f1"], [answered(gold, chosen)])

    assert clustered.high - clustered.low > 1.4 * (naive.high - naive.low)
