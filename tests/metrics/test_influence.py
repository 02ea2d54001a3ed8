"""Standard errors against scipy, statsmodels, the published formula and a plain cluster bootstrap."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import sem

from icl_eval.metrics import METRICS, AnyPrediction, Prediction, estimate
from icl_eval.metrics.uncertainty import clustered_error, influence

from .answered import answered, chosen_of, correlated, gold_of, macro_f1, measured, paired, right

EXAMPLE_METRICS = ["accuracy", "macro_f1", "matthews_correlation", "f1a"]


def robust_error(values: np.ndarray, clusters: np.ndarray) -> float:
    """CR1 standard error of a mean, from statsmodels."""
    fit = sm.OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    return float(fit.bse[0])


@given(st.lists(st.booleans(), min_size=2, max_size=60))
def test_error_of_an_unclustered_mean_is_sd_over_root_n(values: list[bool]) -> None:
    assert estimate(METRICS["accuracy"], [right(values)]).standard_error == pytest.approx(
        sem(values), rel=1e-10, abs=1e-11
    )


@pytest.mark.parametrize("n", [10, 1000, 30_000])
def test_error_of_a_mean_stays_exact_for_many_examples(n: int) -> None:
    values = np.random.default_rng(n).random(n) < 0.3
    expected = sem(values)

    assert estimate(METRICS["accuracy"], [right(values.tolist())]).standard_error == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("sizes", [[3] * 40, [1, 1, 2, 5, 9, 30, 4, 4, 7, 1], [1, 99]], ids=["equal", "unequal", "two"])
def test_error_of_a_clustered_mean_is_that_of_statsmodels(sizes: list[int]) -> None:
    generator = np.random.default_rng(7)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    values = generator.random(len(clusters)) < generator.random(len(sizes))[clusters]
    expected = robust_error(values.astype(float), clusters)

    actual = estimate(METRICS["accuracy"], [right(values.tolist(), clusters.tolist())]).standard_error

    assert actual == pytest.approx(expected, rel=1e-10, abs=1e-14)


def test_error_of_a_clustered_mean_is_the_published_double_sum() -> None:
    predictions = correlated(1, clusters=50)
    scores = np.array([float(p.chosen in p.gold) for p in predictions])
    clusters = np.array([p.cluster for p in predictions])
    n, centred = len(scores), scores - scores.mean()
    cross = sum(centred[i] * centred[j] for i in range(n) for j in range(n) if i != j and clusters[i] == clusters[j])
    published = math.sqrt((centred @ centred + cross) / n**2)  # Miller 2024, without a small-sample factor

    actual = estimate(METRICS["accuracy"], [predictions]).standard_error

    assert actual == pytest.approx(published * math.sqrt(50 / 49), rel=1e-10)


def test_error_of_group_and_graded_means_is_that_of_statsmodels() -> None:
    base = correlated(2, clusters=30, size=4)
    options = ("Barack Obama", "Obama")
    graded = [Prediction(p.id, options, p.gold, p.chosen, p.cluster, p.id[:-1]) for p in base]
    f1 = np.where([p.chosen in p.gold for p in graded], 1.0, 2 / 3)

    actual = estimate(METRICS["record_f1"], [graded])

    assert actual.value == pytest.approx(f1.mean())
    assert actual.standard_error == pytest.approx(robust_error(f1, np.array([p.cluster for p in graded])), rel=1e-10)


def test_error_over_seeds_is_that_of_the_mean_over_seeds_of_each_example() -> None:
    seeds = [correlated(seed, clusters=25) for seed in range(3)]
    scores = np.mean([[float(p.chosen in p.gold) for p in predictions] for predictions in seeds], axis=0)
    clusters = np.array([p.cluster for p in seeds[0]])

    actual = estimate(METRICS["accuracy"], seeds)

    assert actual.value == pytest.approx(scores.mean())
    assert actual.standard_error == pytest.approx(robust_error(scores, clusters), rel=1e-10)


def positive_f1(gold: np.ndarray, chosen: np.ndarray) -> float:
    return float(2 * (gold & chosen).sum() / (gold.sum() + chosen.sum()))


def correlation(gold: np.ndarray, chosen: np.ndarray) -> float:
    return float(np.corrcoef(gold, chosen)[0, 1])


@pytest.mark.parametrize(
    ("name", "score", "classes", "resamples"),
    [("macro_f1", macro_f1, 3, 3000), ("f1a", positive_f1, 2, 3000), ("matthews_correlation", correlation, 2, 3000)],
)
def test_error_of_a_nonlinear_metric_is_the_spread_of_resampled_clusters(
    name: str, score: Callable[[np.ndarray, np.ndarray], float], classes: int, resamples: int
) -> None:
    predictions = correlated(3, clusters=250, classes=classes)
    gold, chosen = np.array(gold_of(predictions)), np.array(chosen_of(predictions))
    generator = np.random.default_rng(11)
    members = np.arange(len(gold)).reshape(250, 3)
    draws = (members[generator.integers(250, size=250)].ravel() for _ in range(resamples))
    spread = np.std([score(gold[drawn], chosen[drawn]) for drawn in draws], ddof=1)

    assert estimate(METRICS[name], [predictions]).standard_error == pytest.approx(spread, rel=0.05)


@settings(deadline=None)  # some import a library at their first call
@given(measured())
def test_influences_sum_to_zero(measured: tuple[str, list[AnyPrediction]]) -> None:
    name, predictions = measured
    found = estimate(METRICS[name], [predictions])

    assert math.fsum(found.influence.values()) == pytest.approx(0, abs=1e-9 * max(1, found.value))


@given(st.sampled_from(EXAMPLE_METRICS), paired())
def test_clusters_of_one_are_no_clusters(name: str, predictions: list[Prediction]) -> None:
    gold, chosen = gold_of(predictions), chosen_of(predictions)
    alone = estimate(METRICS[name], [answered(gold, chosen)])
    named = estimate(METRICS[name], [answered(gold, chosen, clusters=range(1000, 1000 + len(gold)))])

    assert named.standard_error == pytest.approx(alone.standard_error, abs=1e-12)


@given(st.sampled_from(EXAMPLE_METRICS), paired())
def test_doubling_every_example_inside_its_cluster_adds_no_certainty(name: str, predictions: list[Prediction]) -> None:
    gold, chosen = gold_of(predictions), chosen_of(predictions)
    once = estimate(METRICS[name], [answered(gold, chosen)])
    twice = estimate(METRICS[name], [answered(gold * 2, chosen * 2, clusters=[*range(len(gold))] * 2)])

    assert twice.value == pytest.approx(once.value)
    assert twice.standard_error == pytest.approx(once.standard_error, rel=1e-8, abs=1e-10)


@given(st.lists(st.booleans(), min_size=2, max_size=40))
def test_doubling_every_example_as_if_independent_divides_the_error_by_root_two(values: list[bool]) -> None:
    assume(len(set(values)) == 2)
    n = len(values)
    once, twice = (estimate(METRICS["accuracy"], [right(v)]).standard_error for v in (values, values * 2))

    assert twice == pytest.approx(once * math.sqrt((n - 1) / (2 * n - 1)))


def test_error_of_a_single_cluster_is_not_a_number() -> None:
    assert math.isnan(clustered_error([0.0]))


class Ratio:
    name, of, bounds, proportion = "ratio", "choice", (-1.0, 1.0), False

    def value(self, totals: np.ndarray) -> np.ndarray:
        return np.asarray(totals[..., 0] / totals[..., 1])


def test_influence_of_marks_that_cancel_out_is_that_of_any_others() -> None:
    found = influence(Ratio(), np.array([[1.0, 1.0], [-1.0, 1.0]]))  # type: ignore[arg-type]

    assert found == pytest.approx([0.5, -0.5])
