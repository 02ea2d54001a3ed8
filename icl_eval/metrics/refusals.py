"""Reject references that a metric cannot score: empty ones, and scripts that it cannot split into words.

A metric that splits texts at spaces sees one word in a whole sentence of Chinese, Japanese or Thai, and ROUGE sees
nothing in it: every answer that is not equal would silently score 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from icl_eval.errors import MetricError
from icl_eval.metrics.prediction import LikelihoodPrediction, Prediction, TextPrediction

_HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_OTHERS = (
    "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # Hiragana and Katakana
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f"  # Thai, Lao, Tibetan, Burmese, Khmer
)
_UNSPACED = re.compile(f"[{_HAN}{_OTHERS}]+")
_UNSPACED_BUT_HAN = re.compile(f"[{_OTHERS}]+")
_NOT_ASCII = re.compile("[^\0-\x7f]+")
_ROUGE_WORD = re.compile("[A-Za-z0-9]")

_WITHOUT_SPACES = "scripts without spaces, such as Chinese, Japanese or Thai"


def refuse_blank(metric: str, predictions: Sequence[TextPrediction]) -> None:
    """Raise `MetricError` if a reference is empty, since no text could agree with it."""
    for prediction in predictions:
        if not all(reference.strip() for reference in prediction.references):
            raise MetricError(f"example {prediction.id!r} has an empty reference, which {metric} cannot compare with")


def refuse_unspaced(
    metric: str, predictions: Iterable[Prediction | TextPrediction], advice: str, *, splits_han: bool = False
) -> None:
    """Raise `MetricError` where most letters of all references are of scripts that write no spaces between words.

    Args:
        metric: the name of a metric that splits texts at spaces.
        predictions: answers to all examples.
        advice: what to do instead.
        splits_han: whether it also splits at Chinese characters, which then do not count.
    """
    if _most(_UNSPACED_BUT_HAN if splits_han else _UNSPACED, _references(predictions)):
        where = "spaces and Chinese characters" if splits_han else "spaces"
        raise MetricError(
            f"{metric} splits texts at {where}, and most letters of the references are of {_WITHOUT_SPACES}; {advice}"
        )


def refuse_unspaced_texts(metric: str, predictions: Sequence[LikelihoodPrediction], advice: str) -> None:
    """Raise `MetricError` where most bytes are those of texts of scripts that write no spaces between words."""
    if 2 * sum(each.bytes for each in predictions if each.unspaced) > sum(each.bytes for each in predictions):
        raise MetricError(f"{metric} counts words between spaces, and most texts are of {_WITHOUT_SPACES}; {advice}")


def refuse_without_ascii_words(metric: str, predictions: Sequence[TextPrediction], advice: str) -> None:
    """Raise `MetricError` where a metric that reads only words of ASCII letters and digits can measure nothing.

    This is the case if an example has no reference with such a word, or if most letters of all references are others.
    """
    if _most(_NOT_ASCII, _references(predictions)):
        raise MetricError(
            f"{metric} reads only words of ASCII letters and digits, but most letters of the references are others; "
            f"{advice}"
        )
    for prediction in predictions:
        if not any(map(_ROUGE_WORD.search, prediction.references)):
            raise MetricError(
                f"example {prediction.id!r} has no reference with a word of ASCII letters or digits, and {metric} "
                "reads no others"
            )


def is_unspaced(text: str) -> bool:
    """Whether most letters of a text are of scripts that write no spaces between words."""
    return _most(_UNSPACED, [text])


def _references(predictions: Iterable[Prediction | TextPrediction]) -> list[str]:
    """The texts of all right answers."""
    return [
        text
        for each in predictions
        for text in (each.references if isinstance(each, TextPrediction) else [each.options[i] for i in each.gold])
    ]


def _most(script: re.Pattern[str], texts: Sequence[str]) -> bool:
    """Whether most letters of all these texts together are in runs of a script beyond ASCII."""
    inside = sum(_letters("".join(script.findall(text))) for text in texts if not text.isascii())
    return inside > 0 and 2 * inside > sum(map(_letters, texts))


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))
