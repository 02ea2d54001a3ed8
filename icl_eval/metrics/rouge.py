"""ROUGE-1, ROUGE-2 and ROUGE-L: F measure of one or two words, or of the longest common subsequence (Lin 2004).

Computed by the package `rouge-score`: words are runs of ASCII letters and digits in lower case, without stemming.
All else separates them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from icl_eval.metrics.prediction import TextPrediction
from icl_eval.metrics.refusals import refuse_blank, refuse_without_ascii_words


def rouge(name: str) -> Callable[[TextPrediction], float]:
    """The score of one text by `rouge1`, `rouge2` or `rougeL`: the best over its references."""

    def score(prediction: TextPrediction) -> float:
        return max(
            float(_scorer(name).score(reference, prediction.text)[name].fmeasure) for reference in prediction.references
        )

    return score


def refuse(metric: str, predictions: Sequence[TextPrediction]) -> None:
    """Raise `MetricError` where a reference is blank, or has no word for ROUGE."""
    refuse_blank(metric, predictions)
    refuse_without_ascii_words(metric, predictions, "`chrf` or `char_f1` fits")


@cache
def _scorer(name: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # brings nltk, which takes seconds to import

    return RougeScorer([name])
