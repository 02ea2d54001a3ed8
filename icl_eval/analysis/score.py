"""The second pass: compute scores from stored results, with uncertainties, signatures and counts of problems."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from math import fsum
from types import MappingProxyType
from typing import Any, Literal, cast

from icl_eval.analysis.averages import score_over_categories, suite_score
from icl_eval.analysis.calibration import Ranked, check_collected, rank_calibrated
from icl_eval.analysis.signature import task_signature
from icl_eval.analysis.spread import with_spreads
from icl_eval.errors import MetricError, RunError, UnknownName, counted
from icl_eval.metrics import (
    PER_SHOT_LOSS,
    AnyMetric,
    AnyPrediction,
    CorpusMetric,
    Estimate,
    LikelihoodPrediction,
    Prediction,
    Signed,
    estimate,
    value_range,
)
from icl_eval.metrics import metric as metric_of
from icl_eval.metrics.derived import Extracted, measures_samples
from icl_eval.metrics.means import ExampleMean
from icl_eval.references import majority_baseline, random_baseline
from icl_eval.results.examples import REPAIR, ExampleResult
from icl_eval.results.records import Cell, TaskRecord
from icl_eval.results.score import Score, figures
from icl_eval.scoring import CALIBRATIONS, NORMALIZATIONS, Scoring
from icl_eval.tasks import Normalization, SuiteDefinition, tasks_of

Choice = Scoring | Literal["own"]  # a normalisation or calibration for all tasks, or the normalisation of each task
_Estimated = tuple[Estimate, Score]
WHOLE = ""  # the name of the category of all examples


def chosen_normalizations(names: str | Sequence[str]) -> tuple[Scoring, ...]:
    """The normalisations and calibrations with these names, without duplicates. `all` stands for all normalisations.

    Raises:
        UnknownName: a normalisation or calibration does not exist.
    """
    known = [*NORMALIZATIONS, *CALIBRATIONS, "all"]
    chosen = names if isinstance(names, Iterable) and not isinstance(names, str) else (names,)
    for name in chosen:
        if name not in known:
            raise UnknownName("normalisation or calibration", str(name), known)
    each = [NORMALIZATIONS if name == "all" else (name,) for name in chosen]
    return cast(tuple[Scoring, ...], tuple(dict.fromkeys(chain.from_iterable(each))))


def score_examples(
    results: Iterable[ExampleResult],
    records: Sequence[TaskRecord],
    suites: Sequence[SuiteDefinition] = (),
    *,
    model_words: str,
    noise: float | None = None,
    normalizations: Sequence[Scoring] = (),
    trust_remote_code: bool = False,
    given: Mapping[str, Any] = MappingProxyType({}),
) -> list[Score]:
    """The scores by task, prompt, shots, normalisation and metric, then the averages of suites.

    After the scores of a task come the means over the axes of its grid. Arguments are those of `estimate_examples`.
    """
    estimated = estimate_examples(
        results,
        records,
        suites,
        model_words=model_words,
        noise=noise,
        normalizations=normalizations,
        trust_remote_code=trust_remote_code,
        given=given,
    )
    return [line for _, line in estimated]


def estimate_examples(
    results: Iterable[ExampleResult],
    records: Sequence[TaskRecord],
    suites: Sequence[SuiteDefinition] = (),
    *,
    model_words: str,
    noise: float | None = None,
    normalizations: Sequence[Scoring] = (),
    trust_remote_code: bool = False,
    given: Mapping[str, Any] = MappingProxyType({}),
) -> list[tuple[Estimate, Score]]:
    """The scores of `score_examples`, each with its estimate.

    Args:
        results: the results of all examples in all cells.
        records: the records of the manifest.
        suites: suites whose averages are computed.
        model_words: words of the signature for the model, such as `bos0|float32`.
        noise: arithmetic noise of the log-probability of a token in nats; None if unknown.
        normalizations: normalisations and calibrations to score by; if empty, each task's own and `--calibrate`.
        trust_remote_code: whether metrics may run code that is not part of icl-eval.
        given: metrics in Python by name, which are trusted.

    Raises:
        RunError: results of examples are missing in a cell.
        MetricError: a metric cannot be computed.
    """
    chosen = [name for name in CALIBRATIONS if any(name in record.calibrate for record in records)]
    choices: tuple[Choice, ...] = tuple(normalizations) or ("own", *chosen)
    check_collected(records, choices)
    answers = collect_answers(results, records, choices, noise)
    scorer = _Scorer(model_words, trust_remote_code, given)
    lines: list[_Estimated] = []
    columns: dict[_Column, dict[str, list[_Estimated]]] = defaultdict(dict)
    positions: dict[tuple[str, str], Iterator[int]] = defaultdict(count)  # a task can have another prompt for 0 shots
    for record in records:
        for shots in record.shots:
            position = next(positions[record.task, record.selection])
            scored: dict[Scoring, list[_Scored]] = {}
            for normalization in _applied(choices, record):
                found = answers[record.task, record.prompt, shots, normalization]
                _check_complete(found[WHOLE], record, shots)
                scored[normalization] = [
                    scorer.scored(each, found, record, shots, normalization) for each in record.metrics
                ]
                lines += [line for each in scored[normalization] for line in each.lines]
            lines += scorer.per_shot(found[WHOLE], record, shots)
            for choice in choices if not record.format else ():  # other formats do not enter averages
                columns[_Column(position, record.selection, choice)][record.task] = [
                    each.for_suites
                    for each in scored[_scoring_of(choice, record)]
                    if each.whole[1].metric in record.primary
                ]
    lines = with_spreads(lines)
    named = {suite.suite: suite for suite in suites}
    for suite in suites:
        for members in columns.values():
            if suite.average and all(task in members for task in tasks_of(suite, named)):
                lines += filter(None, [suite_score(suite, named, members)])
    return lines


@dataclass(frozen=True)
class _Scored:
    """The scores of one metric of a task: of all examples, of each category, and over the categories."""

    whole: _Estimated
    macro: _Estimated | None
    categories: Sequence[_Estimated]
    for_suites: _Estimated  # the score that enters the averages of suites

    @property
    def lines(self) -> list[_Estimated]:
        """All scores, in the order of the table."""
        return [self.whole, *([self.macro] if self.macro else []), *self.categories]


@dataclass
class _Answers:
    """The answers for one (task, prompt, shots) or one of its categories, by seed and sample."""

    predictions: dict[tuple[int, int], list[AnyPrediction]] = field(default_factory=lambda: defaultdict(list))
    rivals: dict[int, dict[int, tuple[int, ...]]] = field(default_factory=lambda: defaultdict(dict))
    """By seed and position of the prediction: options that could be chosen in another batch."""
    count: int = 0
    ties: int = 0
    shots: int = 0
    shortened: int = 0
    truncated: int = 0
    hit_max_tokens: int = 0
    empty: int = 0
    unfinished: int = 0
    per_shot: list[ExampleResult] = field(default_factory=list)  # results with scored answers of demonstrations
    knows_noise: bool = True  # whether `rivals` is known

    @property
    def seeds(self) -> tuple[int, ...]:
        """The distinct seeds."""
        return tuple(sorted({seed for seed, _ in self.predictions}))

    def draws(self, metric: AnyMetric) -> list[list[AnyPrediction]]:
        """The predictions of each seed and sample, or of each seed if the metric scores all samples together."""
        once = measures_samples(metric)
        return [found for (_, sample), found in sorted(self.predictions.items()) if not (once and sample)]

    def close_calls(self, metric: AnyMetric, value: float) -> dict[str, Any]:
        """The number of close calls and the range of values that they allow, by the names of a score's fields."""
        if not self.knows_noise or metric.of != "choice":
            return {}
        if not self.rivals:
            return {"close_calls": 0, "noise_low": value, "noise_high": value}
        close = {"close_calls": sum(map(len, self.rivals.values()))}
        if isinstance(metric, CorpusMetric):
            return close
        choices = {seed: cast(list[Prediction], self.predictions[seed, 0]) for seed in self.seeds}
        ranges = [value_range(metric, found, self.rivals.get(seed, {})) for seed, found in choices.items()]
        low, high = (fsum(ends) / len(ranges) for ends in zip(*ranges, strict=True))
        return {**close, "noise_low": low, "noise_high": high}

    def add(self, result: ExampleResult, ranked: Ranked, unfinished: int) -> None:
        ranking, rivals = ranked
        self.per_shot += [result] if result.demonstration_logprobs else []
        self.count += 1
        self.knows_noise &= rivals is not None
        if rivals:
            self.rivals[result.cell.seed][len(self.predictions[result.cell.seed, 0])] = rivals
        for sample, prediction in enumerate(result.predictions(ranking)):
            self.predictions[result.cell.seed, sample].append(prediction)
        self.ties += ranking.tied
        self.shots += result.shots
        self.shortened += result.shots < result.cell.shots
        self.truncated += result.truncated > 0
        self.hit_max_tokens += result.hit_max_tokens
        self.unfinished += unfinished
        self.empty += result.empty - unfinished


@dataclass(frozen=True, slots=True)
class _Column:
    """A key that is equal for the scores of tasks that are averaged for a suite."""

    shots: int  # index among the task's numbers of shots
    prompt: str  # name of the chosen prompt; empty for each task's default
    normalization: Choice


def _applied(choices: Sequence[Choice], record: TaskRecord) -> tuple[Scoring, ...]:
    """The distinct normalisations and calibrations by which a task is scored."""
    return tuple(dict.fromkeys(_scoring_of(choice, record) for choice in choices))


def _scoring_of(choice: Choice, record: TaskRecord) -> Scoring:
    """The chosen normalisation or calibration if it applies to a task, otherwise the task's own normalisation."""
    applies = record.has_labels if choice in CALIBRATIONS else record.answer == "choice"
    return choice if choice != "own" and applies else record.normalization


def collect_answers(
    results: Iterable[ExampleResult], records: Sequence[TaskRecord], choices: Sequence[Choice], noise: float | None
) -> dict[tuple[str, str, int, Scoring], dict[str, _Answers]]:
    """The answers of all examples (`WHOLE`) and of each category, by task, prompt, shots and normalisation."""
    record_of = {record.task_prompt: record for record in records}
    applied = {record.task_prompt: _applied(choices, record) for record in records}
    answers: dict[tuple[str, str, int, Scoring], dict[str, _Answers]] = defaultdict(lambda: defaultdict(_Answers))
    calibrations = [name for name in CALIBRATIONS if name in choices]
    if calibrations:  # calibrations need all examples of a cell at once
        results = list(results)
    calibrated: dict[str, dict[tuple[Cell, str], Ranked]] = {
        name: rank_calibrated(results, records, name, noise) for name in calibrations
    }
    for whole in results:
        cell = whole.cell
        each, unfinished = whole.without_reasoning(record_of[cell.task_prompt].reasoning_end)
        for scoring in applied[cell.task_prompt]:
            ranked = calibrated[scoring][cell, each.id] if scoring in calibrated else _ranked(each, scoring, noise)
            found = answers[cell.task, cell.prompt, cell.shots, scoring]
            found[WHOLE].add(each, ranked, unfinished)
            if record_of[cell.task_prompt].by is not None:
                found[_category(each, record_of[cell.task_prompt])].add(each, ranked, unfinished)
    return answers


def _ranked(result: ExampleResult, scoring: Scoring, noise: float | None) -> Ranked:
    """The ranking of a result under a normalisation."""
    normalization = cast(Normalization, scoring)
    return Ranked(result.rank(normalization), None if noise is None else result.rivals(normalization, noise))


def _category(result: ExampleResult, record: TaskRecord) -> str:
    if result.category not in record.categories:
        raise RunError(
            f"{record.task}: the category {result.category!r} of example {result.id!r} is not in the manifest; {REPAIR}"
        )
    return result.category


def _check_complete(answers: _Answers, record: TaskRecord, shots: int) -> None:
    """Raise `RunError` if results of examples are missing for a seed, instead of scoring the rest."""
    for seed in record.seeds if shots else record.seeds[:1]:
        if (count := len(answers.predictions.get((seed, 0), ()))) != record.examples:
            raise RunError(
                f"{record.task} ({record.prompt}, {counted(shots, 'shot')}, seed {seed}) has "
                f"{counted(count, 'answered example')} instead of {record.examples}; run the same command again to "
                "compute the missing ones"
            )


@dataclass
class _Scorer:
    """Computes scores. Baselines of a task are computed once, because they do not depend on the cell."""

    model_words: str
    trust_remote_code: bool
    given: Mapping[str, Any]
    baselines: dict[tuple[str, str, str], tuple[float | None, float | None]] = field(default_factory=dict)

    def scored(
        self,
        name: str,
        answers: Mapping[str, _Answers],
        record: TaskRecord,
        shots: int,
        normalization: Scoring,
    ) -> _Scored:
        """The scores of one metric for all examples and categories."""
        whole, *parts = (
            self.score(name, found, record, shots, normalization, category) for category, found in answers.items()
        )
        macro = score_over_categories(whole[1], parts)
        by_macro = record.by is not None and record.by.average == "macro"
        return _Scored(whole, macro, parts, macro if macro and by_macro else whole)

    def per_shot(self, answers: _Answers, record: TaskRecord, shots: int) -> Iterator[_Estimated]:
        """The mean loss of each demonstration's answer, by the number of demonstrations before it in the prompt.

        There is a score for every position at which all examples have a demonstration.
        """
        within = f"within {counted(shots, 'shot')}"
        scoring = {"answer": "likelihood", "scoring": within, "ending": "", "reference": None}
        record = record.model_copy(update=scoring)
        positions = min((len(each.demonstration_logprobs) for each in answers.per_shot), default=0)
        for before in range(positions if len(answers.per_shot) == answers.count else 0):
            of_answer = _Answers(count=answers.count, shots=before * answers.count)
            for each in answers.per_shot:
                logprob, units = min(each.demonstration_logprobs[before], 0.0), (each.cluster, each.group)
                prediction = LikelihoodPrediction(each.id, logprob, False, 1, 1, 1, *units)
                of_answer.predictions[each.cell.seed, 0].append(prediction)
            yield self.score(PER_SHOT_LOSS, of_answer, record, before, record.normalization, WHOLE)

    def score(
        self,
        name: str,
        answers: _Answers,
        record: TaskRecord,
        shots: int,
        normalization: Scoring,
        category: str,
    ) -> _Estimated:
        """The score of one metric for all examples or one category."""
        trust: dict[str, Any] = {"trust_remote_code": self.trust_remote_code, "given": self.given}
        metric = metric_of(name, record.extract, kind=record.answer, **trust)
        seeds, draws = answers.seeds, answers.draws(metric)
        try:
            found = estimate(metric, draws)
        except MetricError as error:
            where = f" ({category})" if category else ""
            raise MetricError(f"{record.task}{where} cannot be scored with {name}: {error.message}") from error
        first = answers.predictions[seeds[0], 0]
        key = record.task, name, category
        if key not in self.baselines:
            self.baselines[key] = random_baseline(metric, first), majority_baseline(metric, first)
        random, majority = self.baselines[key]
        metric_words = metric.signature(first) if isinstance(metric, Signed) else ""
        return found, Score(
            task=record.task,
            prompt=record.prompt,
            metric=name,
            normalization=record.scoring or normalization,
            shots=shots,
            seeds=seeds,
            draw=record.draw,
            data=record.data,
            split=record.split,
            fewshot_split=record.fewshot_split if shots else "",
            by=record.by.field if record.by else "",
            category=category,
            examples=len(first),
            total_examples=record.categories[category] if category else record.total_examples,
            effective_shots=answers.shots / answers.count,
            shortened=answers.shortened,
            truncated=answers.truncated,
            ties=answers.ties + _tied_votes(metric, draws),
            hit_max_tokens=answers.hit_max_tokens,
            empty=answers.empty,
            unfinished=answers.unfinished,
            unextracted=_unextracted(metric, answers.predictions.values()),
            random=random,
            majority=majority,
            reference=None if category else record.reference,
            signature=task_signature(record, shots, seeds, normalization, metric_words, self.model_words, category),
            **answers.close_calls(metric, found.value),
            **figures(found),
        )


def _unextracted(metric: AnyMetric, predictions: Iterable[Sequence[Any]]) -> int:
    """The number of texts in which the extraction rules of a metric find no answer."""
    return sum(map(metric.failures, predictions)) if isinstance(metric, Extracted) else 0


def _tied_votes(metric: AnyMetric, draws: Iterable[Sequence[Any]]) -> int:
    """The number of examples, summed over seeds, in which the vote of a metric is tied."""
    return sum(map(metric.ties, draws)) if isinstance(metric, ExampleMean | Extracted) else 0
