"""`compare`: paired differences between the scores of finished runs on the same examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from icl_eval.analysis.matching import Matching, ScoredLine, ScoredRun, match, read_scored
from icl_eval.analysis.rescore import ChosenMetrics
from icl_eval.analysis.score import chosen_normalizations
from icl_eval.errors import RunError
from icl_eval.metrics import Estimate, difference
from icl_eval.metrics.significance import detectable, holm, permutation_test, sign_test, t_test
from icl_eval.results.pair import Pair
from icl_eval.results.result import Comparison, Comparisons
from icl_eval.results.score import Score
from icl_eval.tasks.metric_names import GivenMetric

ROUNDING = 1e-6  # rounding error of differences that are 0 or 1
MAX_REASONS = 3  # in the message if nothing can be compared


def compare(
    folder: str | Path,
    other: str | Path,
    normalizations: str | Sequence[str] = (),
    metrics: GivenMetric | Sequence[GivenMetric] = (),
    *,
    trust_remote_code: bool = False,
) -> Comparison:
    """Compute paired differences between two finished runs: the scores of the second minus those of the first.

    Args:
        folder: folder of the first run.
        other: folder of the second run.
        normalizations: normalisations and calibrations to score by; each task's own if empty.
        metrics: names, functions or classes of metrics, which replace those of the tasks whose answers they fit.
        trust_remote_code: whether metrics may run code that is not part of icl-eval.

    Raises:
        RunError: a folder does not contain a finished run, one of its files is damaged, or the runs have no score on
            the same examples in common.
        UnknownName: a normalisation or metric does not exist.
        MetricError: a metric fits no task of a run, or cannot score the answers of a task.
    """
    (comparison,) = compare_with_first([folder, other], normalizations, metrics, trust_remote_code=trust_remote_code)
    return comparison


def compare_with_first(
    folders: Sequence[str | Path],
    normalizations: str | Sequence[str] = (),
    metrics: GivenMetric | Sequence[GivenMetric] = (),
    *,
    trust_remote_code: bool = False,
) -> Comparisons:
    """Compare several finished runs with the first of them. P-values are adjusted for all differences together.

    Args:
        folders: folders of two or more runs.
        normalizations: as for `compare`.
        metrics: as for `compare`.
        trust_remote_code: as for `compare`.

    Raises:
        RunError: there are fewer than two runs, or as from `compare`.
        UnknownName: a normalisation or metric does not exist.
        MetricError: a metric fits no task of a run, or cannot score the answers of a task.
    """
    listed = [folders] if isinstance(folders, str | Path) else list(folders)
    for each in listed:
        if not isinstance(each, str | Path):
            raise RunError(f"a run to compare is the path of its folder, not a {type(each).__name__}")
    paths = [Path(each) for each in listed]
    if len(paths) < 2:
        raise RunError("a comparison takes at least two runs")
    chosen, chosen_metrics = chosen_normalizations(normalizations), ChosenMetrics.of(metrics, trust_remote_code)
    first, *others = [read_scored(each, chosen, chosen_metrics) for each in paths]
    found = [_matched(first, other, paths[0], path) for other, path in zip(others, paths[1:], strict=True)]
    pairs = [[_pair(*lines) for lines in each.pairs] for each in found]
    adjusted = iter(holm([pair.p_value for each in pairs for pair in each]))
    compared = [tuple(replace(pair, p_holm=next(adjusted)) for pair in of_run) for of_run in pairs]
    return Comparisons(
        tuple(
            Comparison(of_run, each.unpaired, first.manifest, other.manifest, (str(folders[0]), str(folder)))
            for of_run, each, other, folder in zip(compared, found, others, folders[1:], strict=True)
        )
    )


def _matched(first: ScoredRun, second: ScoredRun, folder: Path, other: Path) -> Matching:
    """Match the scores of two runs.

    Raises:
        RunError: the runs have no score in common; the message gives reasons.
    """
    found = match(first, second)
    if not found.pairs:
        reasons = list(dict.fromkeys(each.why for each in found.unpaired))
        more = [f"and {len(reasons) - MAX_REASONS} more reasons"] if len(reasons) > MAX_REASONS else []
        sentence = f"no score of this run can be compared with one of {other}"
        raise RunError(f"{sentence}: {'; '.join([*reasons[:MAX_REASONS], *more])}", folder)
    return found


def _pair(one: ScoredLine, other: ScoredLine) -> Pair:
    found = difference(one.estimate, other.estimate)
    freedom = min(one.estimate.freedom, other.estimate.freedom)
    changes = _changes(one.estimate, other.estimate)
    counts = None if changes is None else [int((sign * changes > ROUNDING).sum()) for sign in (1, -1)]
    if changes is not None and counts and np.isclose(changes, np.round(changes), atol=ROUNDING).all():
        p_value, test = _Test(sign_test(*counts), "exact")
    else:
        p_value, test = _test(one.estimate, other.estimate, t_test(found.value, found.standard_error, freedom))
    return Pair(
        one=one.score,
        other=other.score,
        value=found.value,
        standard_error=found.standard_error,
        low=found.low,
        high=found.high,
        interval=found.interval,
        method=one.estimate.method,
        seed_sd=_spread(one.score, other.score),
        p_value=p_value,
        test=test,
        detectable=detectable(found.standard_error, freedom),
        wins=counts[0] if counts else None,
        losses=counts[1] if counts else None,
        equal=one.estimate.units - sum(counts) if counts else None,
    )


class _Test(NamedTuple):
    p_value: float | None
    name: str


def _test(one: Estimate, other: Estimate, by_t: float | None) -> _Test:
    """A permutation test, or the t test if answers cannot be exchanged."""
    found = permutation_test(one.sums, other.sums) if one.sums and other.sums else None
    if found is None:
        return _Test(by_t, "" if by_t is None else "t")
    return _Test(found.p_value, "exact" if found.exact else "permutation")


def _changes(one: Estimate, other: Estimate) -> NDArray[np.float64] | None:
    """The difference of each unit's score, averaged over seeds; None unless the metric is a mean of independent units.

    The influence of a unit on a mean is its distance from the mean, divided by the number of units.
    """
    if one.sums is None or not one.sums.metric.proportion or one.clusters != one.units:
        return None
    influences = np.array([[one.influence[name], other.influence[name]] for name in sorted(one.influence)])
    return np.asarray((influences[:, 1] - influences[:, 0]) * one.units + other.value - one.value)


def _spread(one: Score, other: Score) -> float | None:
    """Sample standard deviation of the difference over draws; None unless both runs have the same several draws."""
    if one.seeds != other.seeds or not 1 < len(one.seed_values) == len(other.seed_values):
        return None
    return float(np.std(np.subtract(other.seed_values, one.seed_values), ddof=1))
