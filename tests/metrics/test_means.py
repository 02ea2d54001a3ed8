import pytest
from hypothesis import given
from sklearn.metrics import accuracy_score

from icl_eval.errors import MetricError
from icl_eval.metrics import METRICS, Prediction, estimate

from .answered import answered, chosen_of, gold_of, paired

# Three questions of two, three and one answer options; the first and the last are right throughout.
QUESTIONS = answered([0, 1, 1, 0, 0, 1], [0, 1, 1, 1, 0, 1], clusters=[*"ppqqqq"], groups=[*"112223"])


@given(paired())
def test_accuracy_is_that_of_scikit_learn(predictions: list[Prediction]) -> None:
    expected = accuracy_score(gold_of(predictions), chosen_of(predictions))

    assert estimate(METRICS["accuracy"], [predictions]).value == pytest.approx(expected)


def test_any_of_several_right_options_is_accurate() -> None:
    options = ("Paris", "Rome", "Bonn")
    predictions = [Prediction(id, options, (0, 2), chosen, id, id) for id, chosen in [("a", 0), ("b", 1), ("c", 2)]]

    assert estimate(METRICS["accuracy"], [predictions]).value == pytest.approx(2 / 3)


def test_group_is_exact_when_all_its_options_are_labelled_right() -> None:
    exact = estimate(METRICS["group_exact_match"], [QUESTIONS])

    assert exact.value == pytest.approx(2 / 3)
    assert (exact.units, exact.clusters) == (3, 2)
    assert set(exact.influence) == {"p", "q"}


def test_group_in_two_clusters_is_refused() -> None:
    with pytest.raises(MetricError, match=r"group '1' is in several clusters \(p, q\)"):
        estimate(METRICS["group_exact_match"], [answered([0, 1], [0, 1], clusters=["q", "p"], groups=[1, 1])])


def test_parity_counts_pairs_answered_alike_even_if_wrongly() -> None:
    # pairs: both wrong alike, both right alike, one of each
    pairs = answered([0, 0, 1, 1, 0, 0], [1, 1, 1, 1, 0, 1], groups=[*"aabbcc"], clusters=[*"aabbcc"])

    assert estimate(METRICS["gender_parity"], [pairs]).value == pytest.approx(2 / 3)


def test_parity_of_a_lone_example_is_refused() -> None:
    with pytest.raises(MetricError, match="group 'b' has one example"):
        estimate(METRICS["gender_parity"], [answered([0, 0, 0], [0, 0, 0], groups=[*"aab"], clusters=[*"aab"])])
