import math
import random
import statistics
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from icl_eval.errors import MetricError
from icl_eval.metrics import METRICS, AnyPrediction, Kind, Prediction, TextPrediction, estimate
from icl_eval.metrics.means import is_right

from .answered import answered, correlated, measured, right

ACCURACY = METRICS["accuracy"]
HALF = [True, False] * 100


@pytest.mark.parametrize("seeds", [[], [[]], [right([True]), []]])
def test_nothing_evaluated_is_an_error(seeds: list[list[Prediction]]) -> None:
    with pytest.raises(MetricError, match="nothing was evaluated"):
        estimate(ACCURACY, seeds)


def test_example_answered_twice_is_an_error() -> None:
    once = right([True, False])

    with pytest.raises(MetricError, match="'e0000' was answered twice"):
        estimate(ACCURACY, [once, [*once, once[0]]])


@pytest.mark.parametrize(
    "other",
    [
        right([True]),
        right([True, True, True]),
        right([True, True], ["e0000", "c"]),
        [*right([True]), Prediction("e0001", ("a", "b", "c"), (0,), 0, "e0001", "e0001")],
    ],
    ids=["fewer", "more", "other clusters", "other options"],
)
def test_seeds_that_answer_different_examples_are_an_error(other: list[Prediction]) -> None:
    with pytest.raises(MetricError, match=r"the examples differ between seeds: 'e000[12]'"):
        estimate(ACCURACY, [right([True, True]), other])


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "matthews_correlation"])
def test_one_cluster_says_nothing_about_uncertainty(name: str) -> None:
    alone = estimate(METRICS[name], [right([True, False, True], ["c"] * 3)])

    assert math.isnan(alone.standard_error)
    assert (alone.low, alone.high) == METRICS[name].bounds
    assert (alone.interval, alone.units, alone.clusters) == ("bounds", 3, 1)


def test_spread_over_seeds_is_kept_apart_from_the_error_over_examples() -> None:
    # every seed is right on another half: large spread of examples within a seed, none of the mean over seeds
    seeds = [right(HALF), right([not value for value in HALF])]
    both = estimate(ACCURACY, seeds)

    assert both.seed_values == (0.5, 0.5)
    assert both.seed_sd == 0
    assert both.standard_error == pytest.approx(0, abs=1e-12)

    # the seeds differ and the examples do not
    apart = estimate(ACCURACY, [right([True] * 10), right([False] * 10)])

    assert apart.seed_sd == pytest.approx(statistics.stdev([1, 0]))
    assert apart.standard_error == pytest.approx(0, abs=1e-12)


def test_one_seed_has_no_spread() -> None:
    assert estimate(ACCURACY, [right(HALF)]).seed_sd is None


def test_value_is_the_mean_of_the_seeds() -> None:
    three = estimate(ACCURACY, [right([True] * right_ones + [False] * (10 - right_ones)) for right_ones in (2, 5, 6)])

    assert three.seed_values == (0.2, 0.5, 0.6)
    assert three.value == pytest.approx(13 / 30)
    assert three.seed_sd == pytest.approx(statistics.stdev([0.2, 0.5, 0.6]))


@settings(deadline=None)  # some import a library at their first call
@given(measured(), st.randoms(use_true_random=False))
def test_order_of_examples_changes_no_bit(measured: tuple[str, list[AnyPrediction]], shuffler: random.Random) -> None:
    name, predictions = measured
    shuffled = shuffler.sample(predictions, len(predictions))

    assert repr(estimate(METRICS[name], [shuffled])) == repr(estimate(METRICS[name], [predictions]))


@settings(deadline=None)  # some import a library at their first call
@given(measured())
def test_estimate_lies_within_bounds(measured: tuple[str, list[AnyPrediction]]) -> None:
    name, predictions = measured
    low, high = METRICS[name].bounds
    actual = estimate(METRICS[name], [predictions])

    assert low <= actual.low <= actual.high <= high
    assert low <= actual.value <= high
    assert actual.low <= actual.value <= actual.high


@dataclass(frozen=True)
class CorpusAccuracy:
    """Accuracy known only as a function of a whole list of predictions."""

    name: str = "corpus_accuracy"
    of: Kind = "choice"
    bounds: tuple[float, float] = (0.0, 1.0)

    def score(self, predictions: object) -> float:
        assert isinstance(predictions, list)
        return statistics.fmean(is_right(prediction) for prediction in predictions)


def test_corpus_metric_agrees_with_the_same_metric_of_sums() -> None:
    seeds = [correlated(seed, clusters=60) for seed in range(2)]
    sums, corpus = estimate(ACCURACY, seeds), estimate(CorpusAccuracy(), seeds)

    assert corpus.seed_values == pytest.approx(sums.seed_values)
    assert dict(corpus.influence) == pytest.approx(dict(sums.influence))
    assert corpus.standard_error == pytest.approx(sums.standard_error, rel=0.15)
    assert (corpus.low, corpus.high) == pytest.approx((sums.low, sums.high), abs=0.02)
    assert (corpus.interval, corpus.units, corpus.clusters) == ("wilson", 180, 60)


def test_corpus_metric_of_one_cluster_says_nothing_about_uncertainty() -> None:
    alone = estimate(CorpusAccuracy(), [right([True, False], ["c", "c"])])

    assert alone.value == 0.5
    assert math.isnan(alone.standard_error)
    assert (alone.low, alone.high, alone.interval) == (0, 1, "bounds")


def test_corpus_metric_without_a_finite_value_is_an_error() -> None:
    class Undefined(CorpusAccuracy):
        def score(self, predictions: object) -> float:
            return math.nan

    with pytest.raises(MetricError, match="corpus_accuracy of these predictions is not a finite number"):
        estimate(Undefined(), [right([True, False])])


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_interval_of_all_or_nothing_has_a_width_however_many_units(value: float) -> None:
    found = estimate(ACCURACY, [right([value == 1.0] * 2000)])

    assert (found.value, found.interval) == (value, "wilson")
    assert found.high - found.low == pytest.approx(0.0019, abs=1e-4)


def test_a_constant_predictor_gets_no_interval_of_no_width() -> None:
    found = estimate(METRICS["matthews_correlation"], [answered([0, 1] * 60, [1] * 120)])

    assert (found.value, found.standard_error) == (0.0, 0.0)
    assert (found.low, found.high, found.interval) == (-1.0, 1.0, "bounds")


@pytest.mark.parametrize("examples", [2, 99, 100])
@pytest.mark.parametrize(
    ("text", "value"), [("", 0.0), ("the cat sat on the mat", 100.0), ("the cat sat on the hat", 75.98)]
)
def test_bleu_of_sentences_that_are_all_alike_has_no_interval(examples: int, text: str, value: float) -> None:
    alike = [
        TextPrediction(id=str(n), text=text, references=("the cat sat on the mat",), cluster=str(n), group=str(n))
        for n in range(examples)
    ]
    found = estimate(METRICS["bleu"], [alike])

    assert found.value == pytest.approx(value, abs=0.01)  # 5/6, 4/5, 3/4 and 2/3 of the n-grams: (1/3) ** (1/4)
    assert (found.standard_error, found.interval, found.low, found.high) == (0.0, "bounds", 0.0, 100.0)


def test_corpus_metric_of_predictions_that_are_all_alike_has_no_interval() -> None:
    found = estimate(CorpusAccuracy(), [right([False] * 20)])

    assert (found.value, found.standard_error) == (0.0, 0.0)
    assert (found.low, found.high, found.interval) == (0.0, 1.0, "bounds")


@pytest.mark.parametrize("examples", [99, 100, 400])
def test_answers_that_are_all_half_right_are_no_certainty_however_many(examples: int) -> None:
    half = [
        TextPrediction(id=str(n), text="red car", references=("red bus",), cluster=str(n), group=str(n))
        for n in range(examples)
    ]
    found = estimate(METRICS["squad_f1"], [half])

    assert (found.value, found.standard_error, found.interval) == (0.5, 0.0, "wilson")
    assert (found.low, found.high) == pytest.approx(proportion_confint(examples / 2, examples, method="wilson"))
