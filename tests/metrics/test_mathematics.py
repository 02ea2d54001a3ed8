from __future__ import annotations

import pytest

from icl_eval.metrics import TextPrediction
from icl_eval.metrics.mathematics import canonical, math_match


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("5", "5"),
        ("$5$.", "5"),
        ("x = 5", "5"),
        (r"5\text{ cm}", "5"),
        (r"5 \mbox{ square units}^2", "5"),
        (r"\text{(A)}", "(A)"),
        (r"\text{even}", "even"),
        (r"\dfrac{1}{2}", r"\frac12"),
        (r"\tfrac 12", "0.5"),
        ("1/2", r"\frac{1}{2}"),
        ("-1/2", r"-\frac{1}{2}"),
        (r"\frac{-1}{2}", r"-\frac{1}{2}"),
        (r"\frac{2}{4}", ".5"),
        (r"\frac{1}2", r"\frac1{2}"),
        (r"\sqrt3", r"\sqrt{3}"),
        (r"\left( 1, 2 \right)", "(1,2)"),
        ("1,000,000", "1000000"),
        (r"50\%", "50"),
        (r"90^\circ", "90"),
        (r"90^{\circ}", "90"),
        (r"\$3.50", "3.5"),
        (r"10\,000", "10000"),
        (r"x^2 + 1", "x^2+1"),
    ],
)
def test_what_does_not_change_an_expression_does_not_count(text: str, reference: str) -> None:
    assert math_match(TextPrediction("0", text, (reference,), "0", "0")) == 1.0
    assert math_match(TextPrediction("0", reference, ("other", text), "0", "0")) == 1.0


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("", "5"),
        ("5", "-5"),
        ("2x", "x + x"),
        ("(1,2)", "(2,1)"),
        ("(1,234)", "1234"),
        (r"\frac{1}{0}", "0"),
        ("x = y = 5", "5"),
        (r"\frac{1}{3}", "0.333"),
        ("5 cm", "5"),
        ("9" * 5000, "9"),
    ],
)
def test_other_expressions_are_different(text: str, reference: str) -> None:
    assert math_match(TextPrediction("0", text, (reference,), "0", "0")) == 0.0


def test_the_normal_form_is_that_of_itself() -> None:
    for text in (r"\dfrac12 \text{ cm}", "x = 1/2", r"\left[0,1\right)", "1,000", r"\sqrt2 + .5"):
        assert canonical(canonical(text)) == canonical(text)
