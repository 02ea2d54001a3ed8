"""How many examples and draws of demonstrations a comparison of two models on tasks needs."""

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
from icl_eval.runs.cells import Prepared
from icl_eval.runs.evaluate import planned
from icl_eval.tasks import Library, Task, runs_code, split_extraction

Score = tuple[str, str, int]  # task, metric, shots
Measured = Mapping[Score, PairedVariance]
MOST_RUNS = 2


@dataclass(frozen=True, slots=True)
class SampleSize:
    """What a comparison of two models on one task needs.

    Attributes:
        task, metric, shots: of the score that is compared.
        seeds: number of draws of demonstrations.
        examples: that the run would evaluate.
        clusters: of these, which are taken as independent.
        source: `measured` in runs, `assumed`, or empty if nothing is known of the metric's variance.
        needed: examples with which the difference is found; infinite if no number is enough, None if unknown.
        seeds_needed: draws with which `examples` are enough; None if no number of them is, or if it is unknown.
        detectable: the least difference that `examples` and `seeds` find; None if unknown.
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
        """Whether the examples are enough: `yes`, `no`, `with 5 seeds`, or nothing if that is unknown."""
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
    """How many examples and seeds are needed to find a difference between two models on the same examples.

    Args:
        tasks: names of tasks and suites, or `Task` objects.
        effect: the difference, in the unit of the metrics.
        runs: one or two finished runs, whose variance is used; without any it is assumed, as `metrics.power` says.
        power: the probability with which the difference is to be found.
        level: of the two-sided test.
        library: where names of tasks are looked up; the bundled library by default.
        options: those of `evaluate` that choose examples, shots and seeds.

    Returns:
        One for each task, number of shots and primary metric.

    Raises:
        IclEvalError: no task can be evaluated, or an option is wrong; the message says why in one sentence.
    """
    for name, value, most in (("difference to detect", effect, math.inf), ("power", power, 1), ("level", level, 1)):
        if not 0 < value < most:
            raise RunError(f"the {name} is {value:g}, but must be above 0{'' if most == math.inf else ' and below 1'}")
    known = _measured([runs] if isinstance(runs, str | Path) else list(runs))
    run = planned("tiny", tasks, library, **options)
    return tuple(
        _sample_size(prepared, name, shots, known, effect, power, level)
        for prepared in run.prepared
        for shots in prepared.record.shots
        for name in prepared.record.primary
    )


def _sample_size(
    prepared: Prepared, name: str, shots: int, known: Measured, effect: float, power: float, level: float
) -> SampleSize:
    record = prepared.record
    examples, clusters = len(prepared.examples), len({each.cluster for each in prepared.examples})
    variance, source = known.get((record.task, name, shots)), "measured"
    if variance is None:
        variance, source = (ASSUMED, "assumed") if _is_share(record, name) else (None, "")
    seeds = len(record.seeds) if shots else 1
    line = (record.task, name, shots, seeds, examples, clusters, source)
    if variance is None:
        return SampleSize(*line, None, None, None)
    if source == "assumed" and effect >= 1:
        raise RunError(
            f"{name} of {record.task} is between 0 and 1, so no difference is {effect:g}; 0.02 is two points"
        )
    needed = variance.clusters_needed(effect, seeds, power, level)
    draws = variance.draws_needed(effect, clusters, power, level)
    return SampleSize(
        *line,
        needed=math.ceil(needed * examples / clusters) if math.isfinite(needed) else needed,
        seeds_needed=draws if shots or draws == 1 else None,
        detectable=variance.detectable(clusters, seeds, power, level),
    )


def _is_share(record: TaskRecord, name: str) -> bool:
    """Whether a metric is a mean of scores in [0, 1], whose variance is at most that of right and wrong answers."""
    base = split_extraction(name)[0]
    if runs_code(name) or base not in METRICS:
        return False
    return bool(getattr(metric(name, record.extract, kind=record.answer), "proportion", False))


def _measured(folders: Sequence[str | Path]) -> Measured:
    """The variance of differences in one or two runs.

    Raises:
        RunError: there are more than two, or they have no score in common.
    """
    if len(folders) > MOST_RUNS:
        raise RunError(f"the variance of a difference is measured in two runs, not in {len(folders)}")
    runs = [read_scored(Path(each), (), ChosenMetrics.of((), False)) for each in folders]
    if len(runs) < MOST_RUNS:
        lines = [(line,) for run in runs for line in run.lines.values()]
        return _by_score(lines)
    found = match(*runs)
    if not found.pairs:
        raise RunError(f"no score of this run can be compared with one of {folders[1]}", Path(folders[0]))
    return _by_score(found.pairs)


def _by_score(lines: Sequence[tuple[ScoredLine, ...]]) -> dict[Score, PairedVariance]:
    """Variances by task, metric and shots, of whole tasks; of several prompts or normalisations the first one."""
    found: dict[Score, PairedVariance] = {}
    for each in lines:
        score = each[0].score
        if score.of_suite or score.of_part:
            continue
        same = len(each) > 1 and score.seeds == each[1].score.seeds
        variance = measured(*(line.estimate for line in each), same_draws=same)
        if variance is not None:
            found.setdefault((score.task, score.metric, score.shots), variance)
    return found
