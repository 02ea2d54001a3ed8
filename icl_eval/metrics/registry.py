"""The metrics that a task file can name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from icl_eval.errors import MetricError, UnknownName
from icl_eval.metrics import answer_text, drop, evaluate_library, likelihood, means, written
from icl_eval.metrics.confusion import MacroF1, MatthewsCorrelation, PositiveF1
from icl_eval.metrics.likelihood import BitsPerByte, Perplexity
from icl_eval.metrics.means import ExampleMean, GroupMean
from icl_eval.metrics.prediction import AnyPrediction, Kind
from icl_eval.metrics.rouge import refuse_blank_references, rouge
from icl_eval.metrics.statistics import AnyMetric, Checked, CorpusMetric, Metric
from icl_eval.metrics.translation import TRANSLATION_METRICS

_OF_CHOICES: tuple[Metric[Any], ...] = (
    ExampleMean("accuracy", "choice", means.is_right),
    MacroF1(),
    MatthewsCorrelation(),
    PositiveF1(),
    GroupMean("group_exact_match", "choice", means.all_right),
    GroupMean("gender_parity", "choice", means.all_alike),
    ExampleMean("record_em", "choice", answer_text.best_exact_match),
    ExampleMean("record_f1", "choice", answer_text.best_token_f1),
)

_OF_TEXTS: tuple[Metric[Any], ...] = (
    ExampleMean("exact", "text", written.exact),
    ExampleMean("exact_match", "text", written.exact_match),
    ExampleMean("token_f1", "text", written.best_token_f1),
    ExampleMean("contains_match", "text", written.contains_match),
    ExampleMean("referent_match", "text", written.referent_match, rule="referent:T5-wsc_simple"),
    ExampleMean("coqa_em", "text", written.coqa_em),
    ExampleMean("coqa_f1", "text", written.coqa_f1),
    ExampleMean("quac_f1", "text", written.quac_f1),
    ExampleMean("drop_em", "text", drop.drop_em),
    ExampleMean("drop_f1", "text", drop.drop_f1),
    *(
        ExampleMean(name, "text", rouge(name), refuse=partial(refuse_blank_references, name))
        for name in ("rouge1", "rouge2", "rougeL")
    ),
    *TRANSLATION_METRICS,
)

_OF_LIKELIHOODS: tuple[Metric[Any], ...] = (
    ExampleMean("greedy_accuracy", "likelihood", likelihood.is_greedy),
    Perplexity("perplexity", lambda _: 1),  # of a text; LAMBADA's texts are one word
    Perplexity("token_perplexity", lambda prediction: prediction.tokens),
    Perplexity("word_perplexity", lambda prediction: prediction.words),
    Perplexity("byte_perplexity", lambda prediction: prediction.bytes),
    BitsPerByte(),
)

METRICS: Mapping[str, Metric[Any]] = MappingProxyType(
    {each.name: each for each in (*_OF_CHOICES, *_OF_TEXTS, *_OF_LIKELIHOODS)}
)

OF_LABELLED_REFERENCES = frozenset({"referent_match"})
"""Metrics that may be told of a reference that it is wrong; all others take every reference for a right answer."""

_MEASURED: Mapping[Kind, str] = MappingProxyType({"choice": "choices", "text": "texts", "likelihood": "likelihoods"})


def metric(name: str, *, trust_remote_code: bool = False) -> AnyMetric:
    """The metric of this name; `evaluate:NAME` loads one from the `evaluate` library, which runs its code.

    Raises `UnknownName`, or `MetricError` where the code of an `evaluate` metric is not trusted or cannot be loaded.
    """
    if name.startswith(evaluate_library.PREFIX):
        return evaluate_library.load(name, trust_remote_code=trust_remote_code)
    if name not in METRICS:
        raise UnknownName("metric", name, METRICS)
    return METRICS[name]


def fitting(kind: Kind) -> list[str]:
    """The names of the metrics that measure answers of this kind."""
    return [name for name, each in METRICS.items() if each.of == kind]


def check_kind(asked: AnyMetric, kind: Kind, path: Path | None = None, line: int | None = None) -> None:
    """Raise `MetricError`, for the place if one is given, unless the metric measures answers of this kind."""
    if asked.of != kind:
        raise MetricError(
            f"{asked.name} measures {_MEASURED[asked.of]}, and these answers are {_MEASURED[kind]}; there is "
            f"{', '.join(fitting(kind))}",
            path,
            line,
        )


def check_examples(asked: AnyMetric, predictions: Sequence[AnyPrediction]) -> None:
    """Raise `MetricError` where a metric cannot measure answers to these examples, whatever the answers are.

    Args:
        asked: the metric.
        predictions: an answer to each example, of the kind that it measures.
    """
    if isinstance(asked, Checked):
        asked.check(predictions)
    elif isinstance(asked, CorpusMetric):
        asked.score(predictions)
    else:
        asked.statistics(predictions)


def check_labels(asked: AnyMetric, path: Path | None = None, line: int | None = None) -> None:
    """Raise `MetricError`, for the place if one is given, unless the metric knows what to do with a wrong reference."""
    if asked.name not in OF_LABELLED_REFERENCES:
        knowing = ", ".join(sorted(OF_LABELLED_REFERENCES))
        raise MetricError(
            f"{asked.name} takes every reference for right, and `gold` says whether it is; there is {knowing}",
            path,
            line,
        )
