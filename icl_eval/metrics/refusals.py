"""Rejection of references that a metric cannot score: empty texts, and scripts that it cannot split into words.

For a metric that splits texts at spaces, a sentence in Chinese, Japanese or Thai is a single word. ROUGE ignores it.
Almost every answer would silently score 0.
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
    """Raise `MetricError` if a reference is empty, because no text would match it."""
    for prediction in predictions:
        if not all(reference.strip() for reference in prediction.references):
            raise MetricError(f"example {prediction.id!r} has an empty reference, which {metric} cannot compare with")


def refuse_unspaced(
    metric: str, predictions: Iterable[Prediction | TextPrediction], advice: str, *, splits_han: bool = False
) -> None:
    """Raise `MetricError` if most letters of all references are of scripts without spaces between words.

    Args:
        metric: name of a metric that splits texts at spaces.
        predictions: any answers to all examples.
        advice: what to use instead, for the message.
        splits_han: whether the metric also splits at Chinese characters, which are then allowed.
    """
    if _most(_UNSPACED_BUT_HAN if splits_han else _UNSPACED, _references(predictions)):
        where = "spaces and Chinese characters" if splits_han else "spaces"
        raise MetricError(
            f"{metric} splits texts at {where}, and most letters of the references are of {_WITHOUT_SPACES}; {advice}"
        )


def refuse_unspaced_texts(metric: str, predictions: Sequence[LikelihoodPrediction], advice: str) -> None:
    """Raise `MetricError` if texts in scripts without spaces between words have most of the bytes."""
    if 2 * sum(each.bytes for each in predictions if each.unspaced) > sum(each.bytes for each in predictions):
        raise MetricError(f"{metric} counts words between spaces, and most texts are of {_WITHOUT_SPACES}; {advice}")


def refuse_without_ascii_words(metric: str, predictions: Sequence[TextPrediction], advice: str) -> None:
    """Raise `MetricError` if a metric that only reads words of ASCII letters and digits cannot score the references.

    This is so if an example has no reference with such a word, or if most letters of all references are not ASCII.
    """
    if _most(_NOT_ASCII, _references(predictions)):
        raise MetricError(
            f"{metric} reads only words of ASCII letters and digits, but most letters of the references are not ASCII; "
            f"{advice}"
        )
    for prediction in predictions:
        if not any(map(_ROUGE_WORD.search, prediction.references)):
            raise MetricError(
                f"example {prediction.id!r} has no reference with a word of ASCII letters or digits, and {metric} "
                "reads no others"
            )


def is_unspaced(text: str) -> bool:
    """Whether most letters of a text are of scripts without spaces between words."""
    return _most(_UNSPACED, [text])


def _references(predictions: Iterable[Prediction | TextPrediction]) -> list[str]:
    """The texts of all right answers."""
    return [
        text
        for each in predictions
        for text in (each.references if isinstance(each, TextPrediction) else [each.options[i] for i in each.gold])
    ]


def _most(script: re.Pattern[str], texts: Sequence[str]) -> bool:
    """Whether a pattern for a script matches most letters of all texts together."""
    inside = sum(_letters("".join(script.findall(text))) for text in texts if not text.isascii())
    return inside > 0 and 2 * inside > sum(map(_letters, texts))


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))
