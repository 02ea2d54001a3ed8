"""Exact match and F1 of short answers, as in the SQuAD scripts (Rajpurkar et al. 2016, section 6.1).

ReCoRD compares the chosen entity with each right one in this way and takes the best score (Wang et al. 2019,
section 3.2).
"""

from __future__ import annotations

import re
import string
from collections import Counter

from icl_eval.metrics.prediction import Prediction

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def best_exact_match(prediction: Prediction) -> float:
    """1 if the chosen option equals a right option after normalisation, else 0."""
    chosen, *golds = _chosen_then_gold(prediction)
    return float(any(chosen == gold for gold in golds))


def best_token_f1(prediction: Prediction) -> float:
    """The highest F1 of words between the chosen option and a right option, after normalisation."""
    chosen, *golds = _chosen_then_gold(prediction)
    return max(token_f1(chosen, gold) for gold in golds)


def normalize(answer: str) -> str:
    """Lower case, without ASCII punctuation and English articles, words separated by one space."""
    return " ".join(_ARTICLE.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def token_f1(answer: str, gold: str) -> float:
    """F1 of two bags of words; 0 if they share no word, also if both are empty."""
    words, gold_words = answer.split(), gold.split()
    shared = (Counter(words) & Counter(gold_words)).total()
    return 2 * shared / (len(words) + len(gold_words)) if shared else 0.0


def squad2_f1(answer: str, gold: str) -> float:
    """`token_f1`, but 1 if both texts are empty: no answer is the right answer (script of Rajpurkar et al. 2018)."""
    return token_f1(answer, gold) if answer or gold else 1.0


def _chosen_then_gold(prediction: Prediction) -> list[str]:
    return [normalize(prediction.options[index]) for index in (prediction.chosen, *prediction.gold)]
