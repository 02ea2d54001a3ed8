"""The metrics that a task file can name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from icl_eval.errors import MetricError, UnknownName
from icl_eval.metrics import answer_text, drop, external, likelihood, mathematics, means, multilingual, written
from icl_eval.metrics.confusion import MacroF1, MatthewsCorrelation, PositiveF1
from icl_eval.metrics.derived import PASS_AT, VOTE, Extracted, over_samples
from icl_eval.metrics.likelihood import InContextScore, Loss, MinK, Perplexity
from icl_eval.metrics.means import ExampleMean, GroupMean
from icl_eval.metrics.overlap import TRANSLATION_METRICS, rouge
from icl_eval.metrics.overlap import refuse as refuse_for_rouge
from icl_eval.metrics.prediction import AnyPrediction, Kind, TextPrediction
from icl_eval.metrics.refusals import refuse_unspaced, refuse_unspaced_texts
from icl_eval.metrics.statistics import SWITCH, AnyMetric, Checked, CorpusMetric, Metric, MetricFamily
from icl_eval.tasks.extraction import Rule
from icl_eval.tasks.metric_names import EVALUATE, PYTHON, split_extraction, split_metric_name

_OF_CHOICES: tuple[Metric[Any], ...] = (
    ExampleMean("accuracy", "choice", means.is_right),
    MacroF1(),
    MatthewsCorrelation(),
    PositiveF1(),
    GroupMean("group_exact_match", "choice", means.all_right),
    GroupMean("gender_parity", "choice", means.all_alike),
    ExampleMean("record_em", "choice", answer_text.best_exact_match),
    ExampleMean(
        "record_f1",
        "choice",
        answer_text.best_token_f1,
        refuse=partial(refuse_unspaced, "record_f1", advice="`record_em` fits"),
    ),
    ExampleMean("probability_mass", "choice", means.probability_mass),
    ExampleMean("answer_loss", "choice", means.answer_loss, bounds=(-math.inf, math.inf), proportion=False),
    ExampleMean("multiple_choice_grade", "choice", means.chosen_grade),
    ExampleMean("expected_grade", "choice", means.expected_grade),
)


def _of_words(name: str, of_example: Callable[[TextPrediction], float]) -> ExampleMean[TextPrediction]:
    """A mean of scores that compare words, which are separated by spaces."""
    advice = "`char_f1` fits, or for Chinese `mlqa_f1: {language: zh}`"
    return ExampleMean(name, "text", of_example, refuse=partial(refuse_unspaced, name, advice=advice))


def _exact_match(name: str, settings: Mapping[str, str]) -> Metric[Any]:
    case, punctuation = (settings.get(setting) == "true" for setting in ("ignore_case", "ignore_punctuation"))
    form = partial(written.exact_form, ignore_case=case, ignore_punctuation=punctuation)
    rule = "|".join(f"{setting}=true" for setting in sorted(settings) if settings[setting] == "true")
    return ExampleMean(name, "text", partial(written.exact_match, form=form), rule=rule, form=form)


_EXACT_MATCH = MetricFamily("exact_match", {"ignore_case": SWITCH, "ignore_punctuation": SWITCH}, _exact_match)

_OF_TEXTS: tuple[Metric[Any], ...] = (
    _EXACT_MATCH.configured({}),
    ExampleMean("number_match", "text", written.number_match, form=written.as_number),
    ExampleMean("math_match", "text", mathematics.math_match, form=mathematics.canonical),
    ExampleMean("squad_em", "text", written.squad_em, form=answer_text.normalize),
    _of_words("squad_f1", written.squad_f1),
    _of_words("contains_match", written.contains_match),
    ExampleMean("referent_match", "text", written.referent_match, rule="referent:T5-wsc_simple"),
    ExampleMean("coqa_em", "text", written.coqa_em),
    _of_words("coqa_f1", written.coqa_f1),
    _of_words("quac_f1", written.quac_f1),
    ExampleMean("drop_em", "text", drop.drop_em),
    _of_words("drop_f1", drop.drop_f1),
    ExampleMean("char_f1", "text", multilingual.char_f1),
    *(
        ExampleMean(name, "text", rouge(name), refuse=partial(refuse_for_rouge, name))
        for name in ("rouge1", "rouge2", "rougeL")
    ),
)

PER_SHOT_LOSS = "per_shot_loss"

_OF_LIKELIHOODS: tuple[Metric[Any], ...] = (
    ExampleMean("greedy_accuracy", "likelihood", likelihood.is_greedy),
    Perplexity("perplexity", lambda _: 1),  # per text; the texts of LAMBADA are single words
    Perplexity("token_perplexity", lambda prediction: prediction.tokens),
    Perplexity(
        "word_perplexity",
        lambda prediction: prediction.words,
        refuse=partial(refuse_unspaced_texts, "word_perplexity", advice="`byte_perplexity` or `bits_per_byte` fits"),
    ),
    Perplexity("byte_perplexity", lambda prediction: prediction.bytes),
    Loss(PER_SHOT_LOSS, lambda _: 1),  # per answer of a demonstration
    Loss("token_loss", lambda prediction: prediction.tokens),
    Loss("bits_per_byte", lambda prediction: prediction.bytes, nats=math.log(2)),
    ExampleMean("zlib_ratio", "likelihood", likelihood.zlib_ratio, bounds=(-math.inf, 0.0), proportion=False),
)


_IN_CONTEXT = MetricFamily("in_context_score", {}, InContextScore.configured, of="likelihood", counts=("early", "late"))
_PERCENT = {"k": tuple(map(str, range(1, 101)))}
_MIN_K = MetricFamily("min_k", _PERCENT, MinK.configured, of="likelihood")
_MIN_K_PLUS_PLUS = MetricFamily("min_k_plus_plus", _PERCENT, MinK.standardized, of="likelihood")
MOMENT_METRIC = _MIN_K_PLUS_PLUS.name

FAMILIES: Mapping[str, MetricFamily] = MappingProxyType(
    {
        each.name: each
        for each in (
            _EXACT_MATCH,
            *multilingual.MLQA_METRICS,
            *TRANSLATION_METRICS,
            _IN_CONTEXT,
            _MIN_K,
            _MIN_K_PLUS_PLUS,
        )
    }
)
"""Metrics with settings, by name."""

METRICS: Mapping[str, Metric[Any]] = MappingProxyType(
    {each.name: each for each in (*_OF_CHOICES, *_OF_TEXTS, *_OF_LIKELIHOODS)}
    | {name: family.configured({}) for name, family in FAMILIES.items() if family.required is None}
)
"""The metrics that can be named without a setting."""

METRIC_NAMES: Mapping[str, Kind] = MappingProxyType(
    {name: each.of for name, each in METRICS.items()} | {name: each.of for name, each in FAMILIES.items()}
)
"""The names of all metrics, without settings, and the kind of answers that each measures."""

OF_LABELLED_REFERENCES = frozenset({"referent_match"})
"""Metrics that can use wrong references; all others take every reference for a right answer."""

_MEASURED: Mapping[Kind, str] = MappingProxyType({"choice": "choices", "text": "texts", "likelihood": "likelihoods"})


def metric(
    name: str,
    extraction: Mapping[str, Sequence[Rule]] = MappingProxyType({}),
    *,
    trust_remote_code: bool = False,
    given: Mapping[str, Any] = MappingProxyType({}),
    kind: Kind = "choice",
    path: Path | None = None,
    line: int | None = None,
) -> AnyMetric:
    """The metric of a name, with settings as in `bleu:tokenize=zh` and extraction rules as in `exact_match@strict`.

    Args:
        name: the name.
        extraction: lists of extraction rules by name.
        trust_remote_code: whether the metric may run code that is not part of icl-eval. This is needed for
            `evaluate:NAME`, a metric of the `evaluate` library, and `python:module:name`, a function or class.
        given: functions and classes by name, which are trusted.
        kind: kind of answers of a metric in Python that does not state it.
        path, line: position in a task file, for errors.

    Raises:
        UnknownName: the metric, a setting, its value or a list of rules does not exist.
        MetricError: a setting is missing, or the code of a metric is not trusted or cannot be loaded.
    """
    if name.startswith(EVALUATE):
        return external.load(name, trust_remote_code=trust_remote_code, path=path, line=line)
    name, rules = split_extraction(name)
    if rules is not None:
        if rules not in extraction:
            raise UnknownName("extraction", rules, extraction, path, line, hint="the task file has none")
        trust: dict[str, Any] = {"trust_remote_code": trust_remote_code, "given": given}
        inner = metric(name, **trust, kind="text", path=path, line=line)
        check_kind(inner, "text", path, line)
        if isinstance(inner, CorpusMetric):
            raise MetricError(f"{name} scores all texts together, so it cannot be combined with `extract`", path, line)
        return Extracted(cast(Metric[TextPrediction], inner), tuple(extraction[rules]), f"{name}@{rules}")
    if name.startswith(PYTHON):
        return external.python_metric(name, kind, given, trust_remote_code=trust_remote_code, path=path, line=line)
    return _of_the_package(name, path, line)


def _of_the_package(name: str, path: Path | None, line: int | None) -> AnyMetric:
    base, settings = split_metric_name(name)
    sampled = {setting: settings.pop(setting) for setting in (VOTE, PASS_AT) if setting in settings}
    if base in FAMILIES:
        found: AnyMetric = FAMILIES[base].configured(settings, path, line)
    elif base not in METRICS:
        raise UnknownName("metric", base, METRIC_NAMES, path, line, hint=external.python_hint(name))
    elif settings and METRICS[base].of == "text":
        raise UnknownName(f"setting of {base}", next(iter(settings)), (VOTE, PASS_AT), path, line)
    elif settings:
        raise MetricError(f"{base} takes no settings; {', '.join(FAMILIES)} do", path, line)
    else:
        found = METRICS[base]
    return over_samples(found, sampled, name, path, line) if sampled else found


def lower_is_better(name: str) -> bool | None:
    """Whether lower values of a metric are better; None if neither is better, or if unknown, as for Python metrics."""
    if name.startswith((EVALUATE, PYTHON)):
        return None
    base, _ = split_metric_name(split_extraction(name)[0])
    if base in (_MIN_K.name, _MIN_K_PLUS_PLUS.name, "zlib_ratio"):
        return None
    return base.endswith("perplexity") or base in (
        "answer_loss",
        "bits_per_byte",
        "in_context_score",
        PER_SHOT_LOSS,
        "ter",
        "token_loss",
    )


def needs_moments(names: Iterable[str]) -> bool:
    """Whether any metric needs the expectation and standard deviation of each token's log-probability."""
    return any(split_metric_name(name)[0] == MOMENT_METRIC for name in names)


def fitting(kind: Kind) -> list[str]:
    """The names of the metrics for a kind of answers."""
    return [name for name, of in METRIC_NAMES.items() if of == kind]


def check_kind(chosen: AnyMetric, kind: Kind, path: Path | None = None, line: int | None = None) -> None:
    """Raise `MetricError`, with file and line if given, unless the metric is for this kind of answers."""
    if chosen.of != kind:
        raise MetricError(
            f"{chosen.name} measures {_MEASURED[chosen.of]}, but these answers are {_MEASURED[kind]}; choose from "
            f"{', '.join(fitting(kind))}",
            path,
            line,
        )


def takes_any_example(chosen: AnyMetric) -> bool:
    """Whether a metric can score answers to any examples of its kind."""
    chosen = chosen.metric if isinstance(chosen, Extracted) else chosen
    return isinstance(chosen, ExampleMean) and chosen.refuse is None


def check_examples(chosen: AnyMetric, predictions: Sequence[AnyPrediction]) -> None:
    """Raise `MetricError` if a metric cannot score any answers to these examples.

    Args:
        chosen: the metric.
        predictions: any answer to each example, of the metric's kind.
    """
    if isinstance(chosen, Checked):
        chosen.check(predictions)
    elif isinstance(chosen, CorpusMetric):
        chosen.score(predictions)
    else:
        chosen.statistics(predictions)


def check_labels(chosen: AnyMetric, path: Path | None = None, line: int | None = None) -> None:
    """Raise `MetricError`, with file and line if given, unless the metric can use references that are wrong answers."""
    if split_extraction(chosen.name)[0] not in OF_LABELLED_REFERENCES:
        knowing = ", ".join(sorted(OF_LABELLED_REFERENCES))
        raise MetricError(
            f"{chosen.name} treats every reference as right, but `gold` says which are; choose from {knowing}",
            path,
            line,
        )
