from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from icl_eval.errors import MetricError
from icl_eval.metrics import METRICS, AnyMetric, Kind, LikelihoodPrediction, Prediction, TextPrediction
from icl_eval.references import majority_baseline, random_baseline

Baseline = Callable[[AnyMetric, Sequence[Prediction]], float | None]

LABELS = ("entailment", "contradiction", "neutral")


def predictions_of(
    *gold: int | tuple[int, ...], options: Sequence[str] = LABELS, group_size: int = 1
) -> list[Prediction]:
    """One example per gold index (or indices), answered with option 0, joined in groups."""
    return [
        Prediction(
            id=f"e{index:04}",
            options=tuple(options),
            gold=right if isinstance(right, tuple) else (right,),
            chosen=0,
            cluster=f"g{index // group_size}",
            group=f"g{index // group_size}",
        )
        for index, right in enumerate(gold)
    ]


@dataclass
class ShareOfFirst:
    """A corpus metric: how often option 0 is chosen."""

    name: str = "share_of_first"
    of: Kind = "choice"
    bounds: tuple[float, float] = (0.0, 1.0)

    def score(self, predictions: Sequence[Prediction]) -> float:
        return sum(prediction.chosen == 0 for prediction in predictions) / len(predictions)


def test_random_accuracy_is_the_mean_share_of_right_options() -> None:
    two = predictions_of(0, 1, options=("yes", "no"))
    several = Prediction("several", tuple("abcde"), (1, 3, 3), 0, "several", "several")

    assert random_baseline(METRICS["accuracy"], two) == 0.5
    assert random_baseline(METRICS["accuracy"], [*two, several]) == pytest.approx((0.5 + 0.5 + 0.4) / 3)


@given(
    st.lists(
        st.integers(1, 6).flatmap(
            lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n - 1), min_size=1, max_size=4))
        ),
        min_size=1,
        max_size=12,
    )
)
def test_random_accuracy_is_exact(shapes: list[tuple[int, list[int]]]) -> None:
    predictions = [
        Prediction(f"e{index}", tuple(map(str, range(n))), tuple(gold), 0, f"e{index}", f"e{index}")
        for index, (n, gold) in enumerate(shapes)
    ]
    expected = sum(Fraction(len(set(gold)), n) for n, gold in shapes) / len(shapes)

    assert random_baseline(METRICS["accuracy"], predictions) == pytest.approx(float(expected))


def test_random_accuracy_agrees_with_a_simulation() -> None:
    generator = np.random.default_rng(3)
    sizes = generator.integers(2, 6, size=50)
    predictions = [
        Prediction(f"e{index}", tuple(map(str, range(size))), (int(size) - 1,), 0, f"e{index}", f"e{index}")
        for index, size in enumerate(sizes)
    ]
    simulated = (generator.integers(0, sizes, size=(40_000, 50)) == sizes - 1).mean()

    assert random_baseline(METRICS["accuracy"], predictions) == pytest.approx(simulated, abs=0.002)


def test_random_record_scores_count_words_in_common() -> None:
    record = Prediction("q", ("Ada Lovelace", "Ada Byron", "Paris", "ada lovelace"), (0,), 2, "q", "q")

    assert random_baseline(METRICS["record_em"], [record]) == pytest.approx((1 + 0 + 0 + 1) / 4)
    assert random_baseline(METRICS["record_f1"], [record]) == pytest.approx((1 + 0.5 + 0 + 1) / 4)


def test_random_exact_match_of_groups_is_a_power_of_one_half() -> None:
    predictions = predictions_of(*[0, 1, 1, 0] * 150, options=("False", "True"), group_size=2)

    assert random_baseline(METRICS["group_exact_match"], predictions) == pytest.approx(0.25, abs=0.01)


def test_random_macro_f1_agrees_with_scikit_learn() -> None:
    generator = np.random.default_rng(8)
    gold = generator.choice(3, p=[0.5, 0.4, 0.1], size=56)
    guesses = generator.integers(0, 3, size=(300, 56))
    expected = np.mean([f1_score(gold, guess, average="macro") for guess in guesses])

    actual = random_baseline(METRICS["macro_f1"], predictions_of(*gold.tolist()))

    # One guess has a spread of 0.06, so the two means differ by 0.007 (standard error).
    assert actual == pytest.approx(expected, abs=0.02)


def test_random_matthews_correlation_is_about_zero() -> None:
    predictions = predictions_of(*[0, 1, 1] * 200, options=("False", "True"))

    assert random_baseline(METRICS["matthews_correlation"], predictions) == pytest.approx(0, abs=0.02)


def test_random_guesses_are_the_same_at_each_call_and_in_any_order() -> None:
    predictions = predictions_of(0, 2, 1, 1, 0, 2, 2)
    once = random_baseline(METRICS["macro_f1"], predictions)

    assert random_baseline(METRICS["macro_f1"], predictions) == once
    assert random_baseline(METRICS["macro_f1"], predictions[::-1]) == once


def test_majority_accuracy_is_the_share_of_the_usual_gold_index() -> None:
    assert majority_baseline(METRICS["accuracy"], predictions_of(1, 1, 0, 2, 1)) == pytest.approx(3 / 5)


def test_majority_macro_f1_is_computed_by_hand() -> None:
    # Always 1: precision 3/5 and recall 1 for class 1, so F1 = 0.75; the two other classes have 0.
    assert majority_baseline(METRICS["macro_f1"], predictions_of(1, 1, 0, 2, 1)) == pytest.approx(0.75 / 3)


def test_majority_f1a_depends_on_which_option_is_usual() -> None:
    options = ("False", "True")

    assert majority_baseline(METRICS["f1a"], predictions_of(0, 0, 1, options=options)) == 0
    assert majority_baseline(METRICS["f1a"], predictions_of(1, 1, 0, options=options)) == pytest.approx(0.8)


def test_majority_of_equals_is_the_least_index_in_any_order() -> None:
    predictions = predictions_of(1, 0, options=("False", "True"))

    assert [majority_baseline(METRICS["f1a"], order) for order in (predictions, predictions[::-1])] == [0, 0]


def test_majority_counts_an_index_once_per_example() -> None:
    assert majority_baseline(METRICS["accuracy"], predictions_of((0, 0, 0), (1, 2), 1)) == pytest.approx(2 / 3)


def test_majority_means_nothing_where_options_differ() -> None:
    copa = [
        *predictions_of(0, options=("it rained", "it snowed")),
        replace(predictions_of(0, 1)[1], options=("she ran", "she sat")),
    ]

    assert majority_baseline(METRICS["accuracy"], copa) is None


@pytest.mark.parametrize("name", [name for name, each in METRICS.items() if each.of == "choice"])
def test_baselines_do_not_look_at_the_answers(name: str) -> None:
    predictions = predictions_of(*[0, 1, 1, 0, 1, 1], options=("False", "True"), group_size=2)
    other = [replace(prediction, chosen=1) for prediction in predictions]

    assert random_baseline(METRICS[name], other) == random_baseline(METRICS[name], predictions)
    assert majority_baseline(METRICS[name], other) == majority_baseline(METRICS[name], predictions)


def test_corpus_metrics_have_baselines_too() -> None:
    predictions = predictions_of(*[0, 0, 1] * 100)

    assert random_baseline(ShareOfFirst(), predictions) == pytest.approx(1 / 3, abs=0.01)
    assert majority_baseline(ShareOfFirst(), predictions) == 1


def test_there_is_no_guessing_a_text_or_a_likelihood() -> None:
    wrote = TextPrediction("a", "Rome", ("Rome",), "a", "a")
    likely = LikelihoodPrediction("a", -1.0, True, 1, 1, 4, "a", "a")

    for baseline in (random_baseline, majority_baseline):
        assert baseline(METRICS["squad_em"], [wrote]) is None
        assert baseline(METRICS["perplexity"], [likely]) is None


@pytest.mark.parametrize("baseline", [random_baseline, majority_baseline])
def test_baseline_of_nothing_is_an_error(baseline: Baseline) -> None:
    with pytest.raises(MetricError, match="nothing was evaluated"):
        baseline(METRICS["accuracy"], [])


def test_majority_counts_every_right_option_of_an_example() -> None:
    golds = [(0, 1), (1,), (0, 1), (2,), (2,)]
    predictions = [Prediction(str(n), ("a", "b", "c"), gold, 0, str(n), str(n)) for n, gold in enumerate(golds)]

    assert majority_baseline(METRICS["accuracy"], predictions) == 3 / 5  # option b, right three times
