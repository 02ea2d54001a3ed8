"""ROUGE-1, ROUGE-2 and ROUGE-L: F measure of one or two words, or of the longest common subsequence (Lin 2004).

Computed by the package `rouge-score`: words are runs of ASCII letters and digits in lower case, without stemming.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from icl_eval.errors import MetricError
from icl_eval.metrics.prediction import TextPrediction


def rouge(name: str) -> Callable[[TextPrediction], float]:
    """The score of one text by `rouge1`, `rouge2` or `rougeL`: the best over its references."""

    def score(prediction: TextPrediction) -> float:
        return max(
            float(_scorer(name).score(reference, prediction.text)[name].fmeasure) for reference in prediction.references
        )

    return score


def refuse_blank_references(metric: str, predictions: Sequence[TextPrediction]) -> None:
    """Raise `MetricError` where a reference is blank, since no text could agree with it."""
    for prediction in predictions:
        if not all(reference.strip() for reference in prediction.references):
            raise MetricError(f"example {prediction.id!r} has an empty reference, which {metric} cannot compare with")


@cache
def _scorer(name: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # brings nltk, which takes seconds to import

    return RougeScorer([name])
