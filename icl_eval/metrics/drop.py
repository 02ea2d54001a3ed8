"""DROP's exact match and F1: numbers count as numbers, and the spans of an answer are matched one to one.

Dua et al. 2019, as in the official `drop_eval.py`. A text is one span, or several separated by ` | `. The best
reference counts; one whose first span is empty does not. The script uses answer types only for its breakdown, so they
are not needed here. A date is day, month and year, as in the script.
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
    """Whether the spans of the text are those of a reference in any order: as many, and the same different ones."""
    spans = _spans(prediction.text)
    return float(any(set(spans) == set(gold) and len(spans) == len(gold) for gold in _golds(prediction)))


def drop_f1(prediction: TextPrediction) -> float:
    """Greatest F1 with a reference, rounded to two digits as the script rounds it."""
    bags = [frozenset(span.split()) for span in _spans(prediction.text)]
    golds = [[frozenset(span.split()) for span in gold] for gold in _golds(prediction)]
    return max((float(np.round(_aligned_f1(bags, gold), 2)) for gold in golds), default=0.0)


def _golds(prediction: TextPrediction) -> list[list[str]]:
    """The normalised spans of each reference that counts."""
    return [
        _spans(reference) for reference in prediction.references if reference.split(SPAN_SEPARATOR)[0].strip() != ""
    ]


def _spans(text: str) -> list[str]:
    return [_normalized(span) for span in text.split(SPAN_SEPARATOR)]


def _normalized(span: str) -> str:
    """Word by word, split at spaces and hyphens: a number as a float, else as SQuAD normalises it."""
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
    """Sum of the F1 of the best one-to-one matching, over the number of spans of the longer side."""
    scores: NDArray[np.float64] = np.array([[_f1(bag, gold) for bag in bags] for gold in golds])
    longer = max(len(bags), len(golds))
    if min(len(bags), len(golds)) == 1:
        return float(scores.max()) / longer
    from scipy.optimize import linear_sum_assignment  # slow to import, and only answers of several spans need it

    return float(scores[linear_sum_assignment(scores, maximize=True)].sum()) / longer


def _f1(bag: frozenset[str], gold: frozenset[str]) -> float:
    """F1 of two sets of words; 0 where the gold has numbers and none is in the answer. An empty side misses nothing."""
    numbers = {word for word in gold if _is_number(word)}
    if numbers and not numbers & bag:
        return 0.0
    shared = len(bag & gold)
    precision = shared / len(bag) if bag else 1.0
    recall = shared / len(gold) if gold else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
