"""`sample_sizes`: the number of examples and seeds that a comparison of two models needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from icl_eval.analysis.matching import ScoredLine, match, read_scored
from icl_eval.analysis.rescore import ChosenMetrics
from icl_eval.config import RunOptions, takes_options
from icl_eval.errors import RunError, counted
from icl_eval.metrics import METRICS, metric
from icl_eval.metrics.power import ASSUMED, LEVEL, POWER, PairedVariance, measured
from icl_eval.results.records import TaskRecord
from icl_eval.runs.cells import PreparedTask
from icl_eval.runs.evaluate import planned
from icl_eval.tasks import Library, Task, runs_code, split_extraction

Score = tuple[str, str, int]  # task, metric, shots
Measured = Mapping[Score, PairedVariance]
MAX_RUNS = 2


@dataclass(frozen=True, slots=True)
class SampleSize:
    """The number of examples and seeds that a comparison of two models on one task needs.

    Attributes:
        task, metric, shots: the score that is compared.
        seeds: number of draws of demonstrations.
        examples: number of examples that the run would evaluate.
        clusters: number of clusters of these examples, which are assumed to be independent.
        source: where the variance comes from: `measured`, `assumed`, or empty if it is unknown.
        needed: number of examples that detects the difference; infinite if no number does, None if unknown.
        seeds_needed: number of seeds with which `examples` detects it; None if no number does, or if unknown.
        detectable: smallest difference that `examples` and `seeds` detect; None if unknown.
    """

    task: str
    metric: str
    shots: int
    seeds: int
    examples: int
    clusters: int
    source: str
    needed: float | None
    seeds_needed: int | None
    detectable: float | None

    @property
    def enough(self) -> str:
        """Whether the examples are enough: `yes`, `no`, or `with 5 seeds`; empty if unknown."""
        if self.needed is None:
            return ""
        if self.needed <= self.examples:
            return "yes"
        return f"with {counted(self.seeds_needed, 'seed')}" if self.seeds_needed is not None else "no"


@takes_options
def sample_sizes(
    tasks: str | Task | Sequence[str | Task],
    effect: float,
    runs: str | Path | Sequence[str | Path] = (),
    *,
    power: float = POWER,
    level: float = LEVEL,
    library: Library | None = None,
    **options: Unpack[RunOptions],
) -> tuple[SampleSize, ...]:
    """The number of examples and seeds needed to detect a difference between two models on the same examples.

    Args:
        tasks: names of tasks and suites, or `Task` objects.
        effect: the difference to detect, in the unit of the metrics.
        runs: one or two finished runs in which the variance is measured; without runs, `metrics.power.ASSUMED`.
        power: probability of detecting the difference.
        level: significance level of the two-sided test.
        library: where names of tasks are looked up; the bundled library by default.
        options: those of `evaluate` that choose examples, shots and seeds.

    Returns:
        A sample size for each task, number of shots and primary metric.

    Raises:
        IclEvalError: no task can be evaluated, or an option is wrong; the message says why in one sentence.
    """
    for name, value, limit in (("difference to detect", effect, math.inf), ("power", power, 1), ("level", level, 1)):
        if not isinstance(value, int | float):
            raise RunError(f"the {name} must be a number, not {value!r}")
        if not 0 < value < limit:
            raise RunError(f"the {name} is {value:g}, but must be above 0{'' if limit == math.inf else ' and below 1'}")
    variances = _measured([runs] if isinstance(runs, str | Path) else list(runs))
    run = planned("tiny", tasks, library, **options)
    return tuple(
        _sample_size(prepared, name, shots, variances, effect, power, level)
        for prepared in run.prepared
        for shots in prepared.record.shots
        for name in prepared.record.primary
    )


def _sample_size(
    prepared: PreparedTask, name: str, shots: int, variances: Measured, effect: float, power: float, level: float
) -> SampleSize:
    record = prepared.record
    examples, clusters = len(prepared.examples), len({each.cluster for each in prepared.examples})
    variance, source = variances.get((record.task, name, shots)), "measured"
    if variance is None:
        variance, source = (ASSUMED, "assumed") if _is_proportion(record, name) else (None, "")
    seeds = len(record.seeds) if shots else 1
    line = (record.task, name, shots, seeds, examples, clusters, source)
    if variance is None:
        return SampleSize(*line, None, None, None)
    if source == "assumed" and effect >= 1:
        raise RunError(
            f"{name} of {record.task} is between 0 and 1, so it cannot differ by {effect:g}; 0.02 is two points"
        )
    needed = variance.clusters_needed(effect, seeds, power, level)
    draws = variance.draws_needed(effect, clusters, power, level)
    return SampleSize(
        *line,
        needed=math.ceil(needed * examples / clusters) if math.isfinite(needed) else needed,
        seeds_needed=draws if shots or draws == 1 else None,
        detectable=variance.detectable(clusters, seeds, power, level),
    )


def _is_proportion(record: TaskRecord, name: str) -> bool:
    """Whether a metric is a mean of scores between 0 and 1, so that the assumed variance is an upper bound."""
    base = split_extraction(name)[0]
    if runs_code(name) or base not in METRICS:
        return False
    return bool(getattr(metric(name, record.extract, kind=record.answer), "proportion", False))


def _measured(folders: Sequence[str | Path]) -> Measured:
    """The variances of the differences between two models, measured in one or two runs.

    Raises:
        RunError: there are more than two runs, or they have no score in common.
    """
    if len(folders) > MAX_RUNS:
        raise RunError(f"the variance of a difference is measured in at most two runs, not in {len(folders)}")
    runs = [read_scored(Path(each), (), ChosenMetrics.of((), False)) for each in folders]
    if len(runs) < MAX_RUNS:
        lines = [(line,) for run in runs for line in run.lines.values()]
        return _by_score(lines)
    matched = match(*runs)
    if not matched.pairs:
        raise RunError(f"no score of this run can be compared with one of {folders[1]}", Path(folders[0]))
    return _by_score(matched.pairs)


def _by_score(lines: Sequence[tuple[ScoredLine, ...]]) -> dict[Score, PairedVariance]:
    """Variances by task, metric and shots, for whole tasks and the first prompt and normalisation."""
    variances: dict[Score, PairedVariance] = {}
    for each in lines:
        score = each[0].score
        if score.of_suite or score.of_part:
            continue
        same = len(each) > 1 and score.seeds == each[1].score.seeds
        variance = measured(*(line.estimate for line in each), same_draws=same)
        if variance is not None:
            variances.setdefault((score.task, score.metric, score.shots), variance)
    return variances
