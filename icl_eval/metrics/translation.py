"""BLEU, chrF and TER of a corpus, as sacreBLEU computes them (Post 2018); 0 to 100, as printed in papers.

sacreBLEU takes the statistics of each sentence. They are summed here, and the score of the sums is computed for many
resamples at once by `_bleu`, `_chrf` and `_ter`, which a test compares with sacreBLEU's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_eval.metrics.prediction import Kind, TextPrediction
from icl_eval.metrics.rouge import refuse_blank_references
from icl_eval.metrics.statistics import Statistics

Totals = NDArray[np.float64]

CHRF_BETA = 2  # recall counts twice as much as precision (Popović 2016)


@dataclass(frozen=True)
class TranslationMetric:
    """A metric of sacreBLEU with its default settings, but for those given."""

    name: str
    scorer: str
    """The class of `sacrebleu` that knows the statistics of a sentence."""
    of_totals: Callable[[Totals], Totals]
    settings: tuple[tuple[str, str], ...] = ()
    bounds: tuple[float, float] = (0.0, 100.0)
    proportion: bool = False
    of: Kind = "text"

    def check(self, predictions: Sequence[TextPrediction]) -> None:
        """Raise `MetricError` where a reference is blank."""
        refuse_blank_references(self.name, predictions)

    def statistics(self, predictions: Sequence[TextPrediction]) -> Statistics:
        """One unit per sentence; raises `MetricError` where a reference is blank."""
        return Statistics.of_examples(predictions, np.array(self._extract(predictions)[1], dtype=np.float64))

    def value(self, totals: Totals) -> Totals:
        """Shape (..., d) -> (...)."""
        return self.of_totals(totals)

    def signature(self, predictions: Sequence[TextPrediction]) -> str:
        """sacreBLEU's signature, such as `BLEU|nrefs:1|case:mixed|eff:no|tok:intl|smooth:exp|version:2.6.0`."""
        one_of_each = {len(prediction.references): prediction for prediction in predictions}
        return f"{self.scorer}|{self._extract([*one_of_each.values()])[0].get_signature()}"

    def _extract(self, predictions: Sequence[TextPrediction]) -> tuple[Any, list[list[float]]]:
        """A scorer of sacreBLEU that has seen these sentences, and their statistics."""
        import sacrebleu  # only tasks of translation need it

        self.check(predictions)
        scorer = getattr(sacrebleu, self.scorer)(**dict(self.settings))
        streams = [list(stream) for stream in zip_longest(*(prediction.references for prediction in predictions))]
        return scorer, scorer._extract_corpus_statistics([prediction.text for prediction in predictions], streams)


def _bleu(totals: Totals) -> Totals:
    """From (..., 10): length, reference length, matches and counts of 1- to 4-grams (Papineni et al. 2002).

    An order without matches counts as a half match, the next such one as a quarter, and so on (Chen & Cherry 2014,
    method 3). The score is 0 without any match, or where no sentence has four words.
    """
    length, reference, matches, counts = totals[..., 0], totals[..., 1], totals[..., 2:6], totals[..., 6:]
    missed = matches == 0
    smoothed = np.where(missed, 0.5 ** np.cumsum(missed, axis=-1), matches)
    defined = (counts > 0).all(axis=-1) & ~missed.all(axis=-1)
    logs = np.log(smoothed / np.where(counts > 0, counts, 1)).mean(axis=-1)
    brevity = np.minimum(1 - reference / np.where(length > 0, length, 1), 0)
    return np.asarray(np.where(defined, 100 * np.exp(brevity + logs), 0.0))


def _chrf(totals: Totals) -> Totals:
    """From (..., 18): counts in the text, in the reference and in both, of 1- to 6-grams of characters (Popović 2015).

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
    """From (..., 2): edits and words of the reference, averaged where there are several (Snover et al. 2006)."""
    edits, words = totals[..., 0], totals[..., 1]
    return 100 * _share(edits, words, words > 0)


def _share(part: Totals, whole: Totals, defined: NDArray[np.bool_]) -> Totals:
    """Part over whole, and 0 where that is not defined."""
    return np.divide(part, whole, out=np.zeros_like(whole), where=defined)


TRANSLATION_METRICS = (
    TranslationMetric("bleu", "BLEU", _bleu),
    TranslationMetric("bleu_intl", "BLEU", _bleu, (("tokenize", "intl"),)),
    TranslationMetric("chrf", "CHRF", _chrf),
    TranslationMetric("ter", "TER", _ter, bounds=(0.0, math.inf)),
)
