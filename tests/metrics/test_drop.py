"""DROP against cases computed by hand from the definitions of the official `drop_eval.py`."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_eval.metrics import METRICS, estimate
from icl_eval.metrics.drop import drop_em, drop_f1

from .answered import wrote


@pytest.mark.parametrize(
    ("text", "references", "em", "f1"),
    [
        (" 3", ("3",), 1, 1),
        ("3.0", ("3",), 1, 1),
        ("1,200", ("1200",), 1, 1),
        ("4 yards", ("3 yards",), 0, 0),  # a number is wrong, whatever words agree
        ("3", ("3 yards",), 0, 0.67),
        ("about 3 yards", ("3 yards",), 0, 0.8),
        ("40-yard", ("40 yard",), 1, 1),  # a hyphen parts words
        ("the Houston Texans", ("Texans",), 0, 0.67),
        ("The Texans!", ("texans",), 1, 1),
        ("1 May 1983", (" May 1983",), 0, 0.8),
        ("May 1983", (" May 1983",), 1, 1),  # a date without a day, as the script joins it
        ("Schilens", ("Russell", "Chaz Schilens"), 0, 0.67),
        ("go go go", ("go",), 0, 1),  # bags are sets, spans are not
        ("", ("3",), 0, 0),
        ("", ("Texans",), 0, 0),
        ("", ("", "Texans"), 0, 0),  # the empty reference does not count
        ("x", ("",), 0, 0),
        ("x | x", ("x",), 0, 0.5),  # the same spans, but not as many
        ("a | a", ("a",), 0, 0.5),  # which articles leave empty
        ("3.5,", ("35",), 1, 1),  # punctuation goes before a number is read
        ("12.5%", ("125",), 1, 1),
        ("12.5", ("125",), 0, 0),
    ],
)
def test_one_span(text: str, references: tuple[str, ...], em: float, f1: float) -> None:
    prediction = wrote(text, *references)

    assert (drop_em(prediction), drop_f1(prediction)) == (em, f1)


@pytest.mark.parametrize(
    ("text", "reference", "em", "f1"),
    [
        ("Peru | Eurasia", "Eurasia | Peru", 1, 1),
        ("Peru", "Eurasia | Peru", 0, 0.5),
        ("Peru | Eurasia | Africa", "Eurasia | Peru", 0, 0.67),
        (
            "Peru and Eurasia",
            "Eurasia | Peru",
            0,
            0.25,
        ),  # one span of three words: F1 1/2 with one, nothing for the other
        ("49-yard | 33-yard", "33-yard | 49-yard field goal", 0, 0.83),  # (1 + 2/3) / 2, numbers keep them apart
        # each alone fits best to Peru (1 and 2/3); one to one it is 1 and 4/5
        ("Peru | Peru proper", "Peru proper coast | Peru", 0, 0.9),
    ],
)
def test_several_spans_are_matched_one_to_one(text: str, reference: str, em: float, f1: float) -> None:
    prediction = wrote(text, reference)

    assert (drop_em(prediction), drop_f1(prediction)) == (em, f1)


WORDS = st.lists(st.lists(st.sampled_from("uvwxyz"), min_size=1, max_size=3).map(" ".join), min_size=1, max_size=4)


@given(WORDS, WORDS)
def test_matching_is_the_best_of_all(spans: list[str], golds: list[str]) -> None:
    def f1(span: str, gold: str) -> float:
        bag, gold_bag = set(span.split()), set(gold.split())
        return 2 * len(bag & gold_bag) / (len(bag) + len(gold_bag))

    few, many = sorted([spans, golds], key=len)
    orders = itertools.permutations(many, len(few))
    best = max(sum(f1(a, b) for a, b in zip(few, order, strict=True)) for order in orders) / len(many)

    assert drop_f1(wrote(" | ".join(spans), " | ".join(golds))) == pytest.approx(best, abs=0.005 + 1e-9)


@given(WORDS)
def test_order_of_spans_does_not_matter(spans: list[str]) -> None:
    turned = wrote(" | ".join(spans), " | ".join(spans[::-1]))

    assert (drop_em(turned), drop_f1(turned)) == (1, 1)


def test_f1_is_rounded_for_each_question() -> None:
    predictions = [wrote("3", "3 yards", id="a"), wrote("Texans", "Houston Texans", id="b")]

    assert estimate(METRICS["drop_f1"], [predictions]).value == pytest.approx(np.mean([0.67, 0.67]))


def test_one_of_several_numbers_of_a_span_is_enough_for_its_f1() -> None:
    assert drop_f1(wrote("3 yards", "3 4 yards")) == 0.8
    assert drop_f1(wrote("5 yards", "3 4 yards")) == 0.0
