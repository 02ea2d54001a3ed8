import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_eval.metrics import METRICS, Prediction, estimate
from icl_eval.metrics.answer_text import normalize, squad2_f1, token_f1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The  White House.", "white house"),
        ("A.C. Milan", "ac milan"),  # punctuation goes before articles do
        ("an apple a day, the doctor", "apple day doctor"),
        ("Anna's theatre", "annas theatre"),  # articles are whole words
        ("the", ""),
    ],
)
def test_normalisation_follows_the_squad_script(answer: str, expected: str) -> None:
    assert normalize(answer) == expected


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("barack obama", "obama", 2 / 3),  # precision 1/2, recall 1
        ("new york new york", "new york", 2 / 3),  # a repeated word counts as often as it is shared
        ("rome", "paris", 0.0),
        ("", "", 0.0),
    ],
)
def test_f1_of_words(answer: str, gold: str, expected: float) -> None:
    assert token_f1(answer, gold) == pytest.approx(expected)


def test_an_empty_answer_is_right_only_where_there_is_no_answer() -> None:
    assert [squad2_f1(*pair) for pair in (("", ""), ("", "paris"), ("paris", ""))] == [1.0, 0.0, 0.0]


OPTIONS = ("Barack Obama", "Obama", "the White House", "White House", "Berlin")


@pytest.mark.parametrize(
    ("chosen", "gold", "exact", "f1"),
    [
        (0, (1, 4), 0.0, 2 / 3),
        (0, (1, 0), 1.0, 1.0),
        (2, (3,), 1.0, 1.0),  # equal but for the article
        (4, (0, 1), 0.0, 0.0),
    ],
)
def test_record_takes_the_best_of_the_right_options(
    chosen: int, gold: tuple[int, ...], exact: float, f1: float
) -> None:
    predictions = [Prediction("a", OPTIONS, gold, chosen, "passage", "a")]

    assert estimate(METRICS["record_em"], [predictions]).value == exact
    assert estimate(METRICS["record_f1"], [predictions]).value == pytest.approx(f1)


@given(st.text(alphabet="ab the.", max_size=12), st.text(alphabet="ab the.", max_size=12))
def test_f1_is_symmetric_and_within_bounds(answer: str, gold: str) -> None:
    f1 = token_f1(normalize(answer), normalize(gold))

    assert f1 == token_f1(normalize(gold), normalize(answer))
    assert 0 <= f1 <= 1


@given(st.text(alphabet="aAnbÉ the.'-", max_size=12))
def test_normalising_twice_changes_nothing(answer: str) -> None:
    assert normalize(normalize(answer)) == normalize(answer)
