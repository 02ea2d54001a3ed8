"""Exact match and F1 of DROP (Dua et al. 2019, official `drop_eval.py`).

Numbers are compared as numbers, and the spans of an answer are matched one to one. A text is one span, or several spans
separated by ` | `. The best reference counts; references whose first span is empty are ignored. The script uses answer
types only for its breakdown, so they are not needed here. A date is day, month and year, as in the script.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from icl_eval.metrics.answer_text import normalize
from icl_eval.metrics.prediction import TextPrediction

SPAN_SEPARATOR = " | "


def drop_em(prediction: TextPrediction) -> float:
    """1 if the text has as many spans as a reference and the same distinct spans, in any order, else 0."""
    spans = _spans(prediction.text)
    return float(any(set(spans) == set(gold) and len(spans) == len(gold) for gold in _golds(prediction)))


def drop_f1(prediction: TextPrediction) -> float:
    """The highest F1 with a reference, rounded to two digits as in the script."""
    bags = [frozenset(span.split()) for span in _spans(prediction.text)]
    golds = [[frozenset(span.split()) for span in gold] for gold in _golds(prediction)]
    return max((float(np.round(_aligned_f1(bags, gold), 2)) for gold in golds), default=0.0)


def _golds(prediction: TextPrediction) -> list[list[str]]:
    """The normalised spans of each reference that is not ignored."""
    return [
        _spans(reference) for reference in prediction.references if reference.split(SPAN_SEPARATOR)[0].strip() != ""
    ]


def _spans(text: str) -> list[str]:
    return [_normalized(span) for span in text.split(SPAN_SEPARATOR)]


def _normalized(span: str) -> str:
    """Normalise a span word by word, split at spaces and hyphens: numbers as floats, others as in SQuAD."""
    words = [_normalized_word(word) for word in re.split("[ -]", span)]
    return " ".join(word for word in words if word)


def _normalized_word(word: str) -> str:
    if _is_number(word):
        return str(float(word))
    plain = normalize(word)
    return str(float(plain)) if _is_number(plain) else plain


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _aligned_f1(bags: Sequence[frozenset[str]], golds: Sequence[frozenset[str]]) -> float:
    """The F1 of the best one-to-one matching of spans, summed and divided by the larger number of spans."""
    scores: NDArray[np.float64] = np.array([[_f1(bag, gold) for bag in bags] for gold in golds])
    longer = max(len(bags), len(golds))
    if min(len(bags), len(golds)) == 1:
        return float(scores.max()) / longer
    from scipy.optimize import linear_sum_assignment  # slow to import, and only needed for answers with several spans

    return float(scores[linear_sum_assignment(scores, maximize=True)].sum()) / longer


def _f1(bag: frozenset[str], gold: frozenset[str]) -> float:
    """F1 of two sets of words; 0 if the gold span has numbers but the answer has none of them."""
    numbers = {word for word in gold if _is_number(word)}
    if numbers and not numbers & bag:
        return 0.0
    shared = len(bag & gold)
    precision = shared / len(bag) if bag else 1.0
    recall = shared / len(gold) if gold else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
