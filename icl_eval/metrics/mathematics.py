"""Equality of answers to mathematical problems: as normalised text, or as numbers.

The normalisation is similar to the scripts of Hendrycks et al. 2021 (arXiv 2103.03874) and Lewkowycz et al. 2022 (arXiv
2206.14858, Appendix D.1). Expressions are not simplified: `2x` does not equal `x + x`.
"""

from __future__ import annotations

import re
from fractions import Fraction

from icl_eval.metrics.prediction import TextPrediction

DROPPED = re.compile(
    r"\\(?:left|right|displaystyle)(?![A-Za-z])|\\[!,;:$%\s]|\\q?quad(?![A-Za-z])|~|\^\{?\\circ\}?|[$%\s]"
)
WORDS = re.compile(r"\\(?:text|mbox|textrm|mathrm|textbf|mathbf)\{([^{}]*)\}")
UNIT = re.compile(rf"(?<=\S)\s*{WORDS.pattern}\s*(?:\^\{{?[23]\}}?)?$")
NAME = re.compile(r"^[A-Za-z]{1,2}=(?=[^=]+$)")
THOUSANDS = re.compile(r"-?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
RATIO = re.compile(r"(-?)\\frac\{(-?[0-9]{1,18})\}\{([0-9]{1,18})\}")
DECIMAL = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")


def math_match(prediction: TextPrediction) -> float:
    """1 if the text equals a reference after `canonical`, or is a number of the same value, else 0."""
    text = canonical(prediction.text)
    return float(any(_same(text, canonical(reference)) for reference in prediction.references))


def canonical(text: str) -> str:
    """Normalise a mathematical expression.

    These are removed: white space, dollar, percent and degree signs, `\\left` and `\\right`, a final full stop, a unit
    in `\\text{}` after the value, and a name of one or two letters before the only `=`. `\\text{x}` is x. `\\dfrac` and
    `\\tfrac` are `\\frac`, `\\frac12` is `\\frac{1}{2}`, `1/2` of whole numbers is `\\frac{1}{2}`, `\\sqrt3` is
    `\\sqrt{3}`, `1,000` is 1000, and `.5` is 0.5.
    """
    text = WORDS.sub(r"\1", UNIT.sub("", text.strip().strip("$").removesuffix(".")))
    text = NAME.sub("", DROPPED.sub("", text))
    if THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = re.sub(r"\\frac([0-9])([0-9])", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac([0-9])\{", r"\\frac{\1}{", text)
    text = re.sub(r"(\\frac\{[^{}]*\})([0-9])", r"\1{\2}", text)
    text = re.sub(r"\\sqrt([0-9A-Za-z])", r"\\sqrt{\1}", text)
    text = re.sub(r"^(-?)([0-9]+)/([0-9]+)$", r"\1\\frac{\2}{\3}", text)
    return re.sub(r"(?<![0-9])\.(?=[0-9])", "0.", text)


def _same(one: str, other: str) -> bool:
    value = _value(one)
    return one == other or (value is not None and value == _value(other))


def _value(text: str) -> Fraction | None:
    """The value of a decimal number or a ratio of whole numbers; None for other expressions."""
    if ratio := RATIO.fullmatch(text):
        sign, above, below = ratio.groups()
        return Fraction(int(f"{sign}{above}".replace("--", "")), int(below)) if int(below) else None
    return Fraction(text) if DECIMAL.fullmatch(text) else None
