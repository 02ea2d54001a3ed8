"""Scores of written answers against cases computed by hand from the definitions of the official scripts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_eval.metrics import METRICS, Signed, TextPrediction, estimate

from .answered import written, wrote


def score(name: str, text: str, *references: str) -> float:
    return estimate(METRICS[name], [[wrote(text, *references)]]).value


@pytest.mark.parametrize(
    ("text", "references", "expected"),
    [
        (" 143", ("143",), 1),
        ("143.", ("143",), 0),
        (" Casino", ("casino",), 0),
        ("-7\n", ("7", " -7"), 1),
        ("", ("143",), 0),
    ],
)
def test_exact_forgives_only_white_space_around(text: str, references: tuple[str, ...], expected: float) -> None:
    assert score("exact_match", text, *references) == expected


@pytest.mark.parametrize(
    ("text", "references", "em", "f1"),
    [
        (" The  White House.", ("white house",), 1, 1),
        ("Paris", ("Rome", "paris!"), 1, 1),
        ("barack hussein obama", ("Obama", "Barack Obama"), 0, 0.8),  # 2 of 3 words, 2 of 2: better than 2/4
        ("new york new york", ("New York",), 0, 2 / 3),
        ("", ("Rome",), 0, 0),
        ("", ("",), 1, 1),  # SQuAD 2.0: there is no answer, and none is given
        ("Rome", ("",), 0, 0),
    ],
)
def test_squad_takes_the_best_reference(text: str, references: tuple[str, ...], em: float, f1: float) -> None:
    assert score("squad_em", text, *references) == em
    assert score("squad_f1", text, *references) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("text", "references", "expected"),
    [
        ("It was written by Jane Austen, in 1813.", ("jane austen",), 1),
        ("It was written by Jane, an Austen.", ("Jane Austen",), 1),  # the article goes
        ("I know.", ("no",), 0),
        ("Austen Jane", ("Jane Austen",), 0),
        ("", ("Jane Austen",), 0),
        ("anything", ("the",), 0),
        ("", ("the",), 1),
    ],
)
def test_contains_match_finds_whole_words(text: str, references: tuple[str, ...], expected: float) -> None:
    assert score("contains_match", text, *references) == expected


def test_coqa_leaves_every_reference_out_once() -> None:
    # Against {white, pure white}, {white, snow}, {white}: the one that is left out may be the only equal one.
    references = ("white", "pure white", "snow")

    assert score("coqa_em", "White.", *references) == pytest.approx(2 / 3)
    assert score("coqa_f1", "White.", *references) == pytest.approx((2 / 3 + 1 + 1) / 3)


def test_coqa_of_one_reference_compares_with_it() -> None:
    assert score("coqa_em", "yes", "Yes.") == 1
    assert score("coqa_f1", "pure white", "white") == pytest.approx(2 / 3)
    assert score("coqa_f1", "", "white") == 0


def test_quac_leaves_every_span_out_once() -> None:
    # left out: the first: max(1/2, 0) = 1/2; the second: max(1, 0) = 1; the third: max(1, 1/2) = 1
    assert score("quac_f1", "in may 1983", "In May 1983,", "may", "Karvelas") == pytest.approx((0.5 + 1 + 1) / 3)


@pytest.mark.parametrize(
    ("text", "references", "expected"),
    [
        (" CANNOTANSWER", ("CANNOTANSWER", "a composer"), 1),  # half of them
        ("a composer", ("CANNOTANSWER", "a composer"), 0),
        ("cannotanswer", ("CANNOTANSWER",), 0),
        ("CANNOTANSWER", ("a composer", "a composer", "CANNOTANSWER"), 0),  # a minority is left out
        ("composer", ("a composer", "the composer", "CANNOTANSWER"), 1),
        ("", ("CANNOTANSWER",), 0),
    ],
)
def test_quac_counts_who_could_not_answer(text: str, references: tuple[str, ...], expected: float) -> None:
    assert score("quac_f1", text, *references) == expected


@pytest.mark.parametrize("name", ["exact_match", "squad_em", "squad_f1", "contains_match", "coqa_em", "coqa_f1"])
def test_score_is_the_mean_over_examples(name: str) -> None:
    right, wrong = wrote("Rome", "Rome", id="a"), wrote("", "Rome", id="b")

    assert estimate(METRICS[name], [[right, wrong, wrote("x", "Rome", id="c")]]).value == pytest.approx(1 / 3)


@given(written())
def test_stricter_scores_are_never_greater(predictions: list[TextPrediction]) -> None:
    def value(name: str) -> float:
        return estimate(METRICS[name], [predictions]).value

    assert value("exact_match") <= value("squad_em") <= value("squad_f1")
    assert value("squad_em") <= value("contains_match")
    assert value("coqa_em") <= value("coqa_f1") <= value("squad_f1") + 1e-12


SPACED = st.text(st.characters(max_codepoint=0xDFF, exclude_categories=["Cs"]), max_size=9)  # scripts with spaces


@given(SPACED, SPACED)
def test_two_texts_agree_either_way_round(one: str, other: str) -> None:
    for name in ("exact_match", "squad_em", "squad_f1", "coqa_f1", "char_f1"):
        assert score(name, one, other) == score(name, other, one)


@pytest.mark.parametrize(
    ("text", "noun", "named"),
    [
        # the cases of the T5 code's own test
        ("potato", "turnip", False),
        ("turnip", "turnip", True),
        ("the cat", "cat", True),
        ("Bob's hat", "Bob", False),
        ("Bob's hat", "Bob's hat", True),
        ("potato", "Potato", True),
        ("a potato", "my potato", True),
        ("fuzzy bunny", "fuzzy hungry bunny", True),
        # by hand from its rule
        (" bunny\n", "the fuzzy bunny", True),
        ("the very fuzzy bunny", "fuzzy bunny", True),
        ("fuzzy cat", "fuzzy bunny", False),  # neither has all the words of the other
        ("Bob", "Bob's hat", False),
        ("hat", "Bob's hat", False),
        ("Bob's hat", "hat", False),
        ("bunny.", "bunny", False),  # marks are part of a word
        ("his", "his", False),  # nothing is left of either
        ("bunny", "the", False),
    ],
)
def test_referent_is_named_where_one_noun_has_all_words_of_the_other(text: str, noun: str, named: bool) -> None:
    words_are_left = text != "his"

    assert estimate(METRICS["referent_match"], [[wrote(text, noun)]]).value == named
    assert estimate(METRICS["referent_match"], [[wrote(text, noun, right=False)]]).value == (
        words_are_left and not named
    )


@pytest.mark.parametrize("text", ["", " ", "\n", "the", "This whose"])
@pytest.mark.parametrize("right", [True, False])
def test_referent_without_words_is_neither_named_nor_avoided(text: str, right: bool) -> None:
    assert estimate(METRICS["referent_match"], [[wrote(text, "bunny", right=right)]]).value == 0


def test_referent_is_judged_by_a_rule_that_the_signature_names() -> None:
    metric = METRICS["referent_match"]

    assert isinstance(metric, Signed)
    assert metric.signature([wrote("a", "a")]) == "referent:T5-wsc_simple"
