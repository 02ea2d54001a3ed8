"""Metrics of generated answers in any language: exact match and F1 of MLQA, and F1 of characters."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Mapping
from functools import partial

from icl_eval.metrics.answer_text import squad2_f1, token_f1
from icl_eval.metrics.means import ExampleMean
from icl_eval.metrics.prediction import TextPrediction
from icl_eval.metrics.refusals import refuse_unspaced
from icl_eval.metrics.statistics import MetricFamily

_ARTICLES: Mapping[str, re.Pattern[str] | None] = {
    "en": re.compile(r"\b(?:a|an|the)\b"),
    "es": re.compile(r"\b(?:el|la|los|las|un|una|unos|unas)\b"),
    "hi": None,
    "vi": re.compile(r"\b(?:của|là|cái|chiếc|những)\b"),
    "de": re.compile(r"\b(?:der|die|das|den|dem|des|ein|eine|einen|einem|eines|einer)\b"),
    "ar": re.compile("ال"),  # anywhere in a word, as in the script
    "zh": None,
}
"""The articles that the script replaces by a space, by language."""

_CHINESE = re.compile("[\u4e00-\u9fa5]")
_NO_WORD = re.compile(r"[^\w\s]|_")  # candidates for punctuation


def mlqa_em(language: str, prediction: TextPrediction) -> float:
    """1 if the text equals a reference after MLQA's normalisation, else 0."""
    text = _normalized(prediction.text, language)
    return float(any(_normalized(reference, language) == text for reference in prediction.references))


def mlqa_f1(language: str, prediction: TextPrediction) -> float:
    """The highest F1 of tokens with a reference, after MLQA's normalisation."""
    text = _normalized(prediction.text, language)
    return max(token_f1(text, _normalized(reference, language)) for reference in prediction.references)


def char_f1(prediction: TextPrediction) -> float:
    """The highest F1 of characters with a reference, in lower case and without white space and punctuation.

    It is 1 if text and reference are both empty, as in SQuAD 2.0.
    """
    text = _characters(prediction.text)
    return max(squad2_f1(text, _characters(reference)) for reference in prediction.references)


def _normalized(text: str, language: str) -> str:
    """Tokens separated by spaces, as in the MLQA script (Lewis et al. 2020, arXiv 1910.07475).

    The text is converted to lower case, then punctuation is removed, then articles. In Chinese, every character from
    U+4E00 to U+9FA5 is a token.
    """
    articles = _ARTICLES[language]
    plain = _without_punctuation(text.lower())
    plain = plain if articles is None else articles.sub(" ", plain)
    plain = _CHINESE.sub(lambda found: f" {found[0]} ", plain) if language == "zh" else plain
    return " ".join(plain.split())


def _characters(text: str) -> str:
    """The characters without punctuation and white space, separated by spaces."""
    return " ".join("".join(_without_punctuation(text.lower()).split()))


def _without_punctuation(text: str) -> str:
    """A text without Unicode punctuation and ASCII symbols."""
    return _NO_WORD.sub(_kept, text)


def _kept(found: re.Match[str]) -> str:
    mark = found[0]
    return "" if mark in string.punctuation or unicodedata.category(mark)[0] == "P" else mark


def _mlqa(
    score: Callable[[str, TextPrediction], float], name: str, settings: Mapping[str, str]
) -> ExampleMean[TextPrediction]:
    language = settings["language"]
    refuse = partial(
        refuse_unspaced, name, advice="`char_f1` or the `language` of the references fits", splits_han=language == "zh"
    )
    return ExampleMean(name, "text", partial(score, language), rule=f"mlqa:{language}", refuse=refuse)


MLQA_METRICS = (
    MetricFamily("mlqa_em", {"language": tuple(_ARTICLES)}, partial(_mlqa, mlqa_em), required="language"),
    MetricFamily("mlqa_f1", {"language": tuple(_ARTICLES)}, partial(_mlqa, mlqa_f1), required="language"),
)
