import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, matthews_corrcoef

from icl_eval.errors import MetricError
from icl_eval.metrics import METRICS, Prediction, estimate

from .answered import answered, chosen_of, correlated, gold_of, macro_f1, paired

three_way = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30)


@settings(max_examples=40)  # scikit-learn takes some milliseconds for each
@given(three_way)
def test_macro_f1_is_that_of_scikit_learn_for_any_set_of_classes_that_occurs(rows: list[tuple[int, int]]) -> None:
    gold, chosen = zip(*rows, strict=True)
    predictions = answered(gold, chosen, options=("true", "false", "neither"))

    assert estimate(METRICS["macro_f1"], [predictions]).value == pytest.approx(f1_score(gold, chosen, average="macro"))


def test_the_macro_f1_of_resamples_is_that_of_scikit_learn() -> None:
    predictions = correlated(3, clusters=250, classes=3)
    gold, chosen = np.array(gold_of(predictions)), np.array(chosen_of(predictions))

    assert macro_f1(gold, chosen) == pytest.approx(f1_score(gold, chosen, average="macro"))


def test_macro_f1_of_a_known_matrix() -> None:
    # F1 of the classes: 2*2/(3+3), 2*1/(2+2), 0/(1+1); the fourth class never occurs
    predictions = answered([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 0], options=("a", "b", "c", "d"))

    assert estimate(METRICS["macro_f1"], [predictions]).value == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


@settings(max_examples=40)
@given(paired())
def test_f1_over_answers_is_that_of_the_positive_class_in_scikit_learn(predictions: list[Prediction]) -> None:
    expected = f1_score(gold_of(predictions), chosen_of(predictions), zero_division=0.0)

    assert estimate(METRICS["f1a"], [predictions]).value == pytest.approx(expected)


@settings(max_examples=40)
@given(paired())
def test_matthews_correlation_is_that_of_scikit_learn(predictions: list[Prediction]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of a single label
        expected = matthews_corrcoef(gold_of(predictions), chosen_of(predictions))

    assert estimate(METRICS["matthews_correlation"], [predictions]).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("gold", "chosen"), [([0, 1], [1, 1]), ([0, 0], [0, 1]), ([1, 1], [1, 1])])
def test_matthews_correlation_is_zero_where_a_side_never_varies(gold: list[int], chosen: list[int]) -> None:
    assert estimate(METRICS["matthews_correlation"], [answered(gold, chosen)]).value == 0


def test_correlation_of_opposite_answers_is_minus_one() -> None:
    assert estimate(METRICS["matthews_correlation"], [answered([0, 1, 1], [1, 0, 0])]).value == -1


@settings(max_examples=40)
@given(three_way)
def test_metrics_of_two_options_are_those_of_scikit_learn_for_more(rows: list[tuple[int, int]]) -> None:
    gold, chosen = zip(*rows, strict=True)
    predictions = answered(gold, chosen, options=("true", "false", "neither"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of a single label
        correlation = matthews_corrcoef(gold, chosen)
        (f1,) = f1_score(gold, chosen, labels=[1], average=None, zero_division=0.0)

    assert estimate(METRICS["matthews_correlation"], [predictions]).value == pytest.approx(correlation, abs=1e-12)
    assert estimate(METRICS["f1a"], [predictions]).value == pytest.approx(f1)


@pytest.mark.parametrize("name", ["macro_f1", "f1a", "matthews_correlation"])
def test_confusion_with_several_right_options_is_refused(name: str) -> None:
    with pytest.raises(MetricError, match=f"{name} needs one right option; example 'a' has 2"):
        estimate(METRICS[name], [[Prediction("a", ("x", "y"), (0, 1), 0, "a", "a")]])


@given(
    st.sampled_from(["macro_f1", "f1a", "matthews_correlation"]),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=20),
)
def test_value_depends_on_proportions_only(name: str, rows: list[tuple[int, int]]) -> None:
    metric = METRICS[name]
    gold, chosen = zip(*rows, strict=True)
    totals = metric.statistics(answered(gold, chosen, options=("a", "b", "c"))).rows.sum(axis=0)

    assert metric.value(7 * totals) == pytest.approx(metric.value(totals))
