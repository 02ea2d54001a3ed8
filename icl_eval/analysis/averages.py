"""The averages of suites and of categories, with propagated errors."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from icl_eval.analysis.signature import macro_signature, suite_signature
from icl_eval.metrics import Estimate, average, average_of_parts, difference_of_parts, independent_average
from icl_eval.results.contamination import CLEAN, DIRTY
from icl_eval.results.contamination import FIELD as CONTAMINATION
from icl_eval.results.score import AVERAGE, Score, figures
from icl_eval.tasks import SuiteDefinition, tasks_of

SUMMED = (
    *("examples", "total_examples", "shortened", "truncated", "ties"),
    *("hit_max_tokens", "empty", "unfinished", "unextracted"),
)
Members = Mapping[str, Sequence[tuple[Estimate, Score]]]


def suite_score(
    suite: SuiteDefinition, suites: Mapping[str, SuiteDefinition], members: Members
) -> tuple[Estimate, Score] | None:
    """The average of a suite: the weighted mean over tasks of the mean of their primary metrics.

    Standard errors are propagated, not averaged.

    Args:
        suite: the suite.
        suites: all suites of the run by name.
        members: estimates and scores of the primary metrics of each task.

    Returns:
        The average; None if the metrics have different scales, such as 0-1 and 0-100.
    """
    per_task = {name: [line for _, line in members[name]] for name in tasks_of(suite, suites)}
    if len({each.bounds[1] for name in per_task for each, _ in members[name]}) > 1:
        return None
    firsts = [lines[0] for lines in per_task.values()]
    seeds = max((line.seeds for line in firsts), key=len)
    means = [_for_seeds(average([each for each, _ in members[name]]), members[name][0][1], seeds) for name in per_task]
    shares = task_weights(suite, suites, {name: lines[0].units for name, lines in per_task.items()})
    found = independent_average(means, [shares[name] for name in per_task])
    data = "+".join(dict.fromkeys(line.data for line in firsts))
    splits = {name: _shared(firsts, name) for name in ("split", "fewshot_split")}
    return found, Score(
        task=suite.suite,
        metric=AVERAGE,
        shots=max(line.shots for line in firsts),
        seeds=seeds,
        data=data,
        effective_shots=sum(line.effective_shots for line in firsts) / len(firsts),
        close_calls=_sum_or_none([line.close_calls for line in firsts]),
        majority=None,
        reference=suite.reference,
        signature=suite_signature(
            suite.suite,
            str(suite.average),
            [line for lines in per_task.values() for line in lines],
            len(firsts),
            seeds,
            data=data,
            **splits,
        ),
        average=str(suite.average),
        averaged=_averaged(per_task),
        **{name: _shared(firsts, name) for name in ("prompt", "normalization", "draw")},
        **splits,
        **_summed(firsts),
        **_weighted_figures([(line, shares[name] / len(each)) for name, each in per_task.items() for line in each]),
        **figures(found),
    )


def _shared(lines: Iterable[Score], field: str) -> Any:
    """The value that a field has in all scores, or `mixed`."""
    distinct = {getattr(line, field) for line in lines}
    return distinct.pop() if len(distinct) == 1 else "mixed"


def _summed(lines: Sequence[Score]) -> dict[str, Any]:
    """The sums of counts over scores, by field."""
    return {name: sum(getattr(line, name) for line in lines) for name in SUMMED}


def _weighted_figures(weighted: Sequence[tuple[Score, float]]) -> dict[str, Any]:
    """The weighted means of numbers that are not estimates, by field."""
    return {
        name: _weighted([(getattr(line, name), weight) for line, weight in weighted])
        for name in ("noise_low", "noise_high", "random")
    }


def score_over_categories(whole: Score, categories: Sequence[tuple[Estimate, Score]]) -> tuple[Estimate, Score] | None:
    """The mean of a metric over the categories of a task, or the difference between clean and dirty examples.

    Args:
        whole: the score of all examples.
        categories: estimate and score of each category.

    Returns:
        None without categories, and if all examples are clean or all are dirty.
    """
    if whole.by != CONTAMINATION:
        return macro_score(whole, categories) if categories else None
    by_name = {line.category: (estimate, line) for estimate, line in categories}
    return difference_score(whole, by_name[CLEAN], by_name[DIRTY]) if len(by_name) == 2 else None


def macro_score(whole: Score, categories: Sequence[tuple[Estimate, Score]]) -> tuple[Estimate, Score]:
    """The mean of a metric over the categories of a task.

    Args:
        whole: the score of all examples.
        categories: estimate and score of each category.
    """
    found = average_of_parts([each for each, _ in categories])
    lines = [line for _, line in categories]
    share = 1 / len(lines)
    return found, replace(
        whole,
        majority=_weighted([(line.majority, share) for line in lines]),
        reference=None,
        signature=macro_signature(whole, lines),
        average="macro",
        averaged=f"{whole.metric} of {len(lines)} values of {whole.by}",
        **_weighted_figures([(line, share) for line in lines]),
        **figures(found),
    )


def difference_score(
    whole: Score, one: tuple[Estimate, Score], other: tuple[Estimate, Score]
) -> tuple[Estimate, Score]:
    """The score of one category minus that of another.

    Args:
        whole: the score of all examples.
        one, other: estimate and score of the two categories.
    """
    found = difference_of_parts(one[0], other[0])
    names = one[1].category, other[1].category
    return found, replace(
        whole,
        noise_low=None,
        noise_high=None,
        random=None,
        majority=None,
        reference=None,
        signature=macro_signature(whole, [one[1], other[1]], " minus ".join(names)),
        average=" - ".join(names),
        averaged=f"the {whole.metric} of {names[0]} examples minus that of {names[1]} ones",
        **figures(found),
    )


def task_weights(
    suite: SuiteDefinition, suites: Mapping[str, SuiteDefinition], units: Mapping[str, int]
) -> dict[str, float]:
    """The weight of each task in the average of a suite; weights sum to 1.

    With `micro`, tasks are weighted by their number of examples (or groups, for a metric of groups). With `macro`, all
    entries of the suite have the same weight. The weight of a nested suite is divided as in its own average; a nested
    suite without an average counts as its tasks. A task in several nested suites has the sum of its weights.
    """
    if suite.average == "micro":
        tasks = tasks_of(suite, suites)
        total = sum(units[name] for name in tasks)
        return {name: units[name] / total for name in tasks}
    entries = list(_entries(suite, suites))
    weights: dict[str, float] = defaultdict(float)
    for entry in entries:
        within = task_weights(suites[entry], suites, units) if entry in suites else {entry: 1.0}
        for name, weight in within.items():
            weights[name] += weight / len(entries)
    return dict(weights)


def _entries(suite: SuiteDefinition, suites: Mapping[str, SuiteDefinition]) -> Iterator[str]:
    for name in suite.tasks:
        if name in suites and not suites[name].average:
            yield from _entries(suites[name], suites)
        else:
            yield name


def _averaged(per_task: Mapping[str, Sequence[Score]]) -> str:
    """The averaged metrics and tasks, such as `accuracy of a, b; mean of f1a and group_exact_match of c`."""
    tasks: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, lines in per_task.items():
        tasks[tuple(line.metric for line in lines)].append(name)
    mean = {metrics: ("mean of " if len(metrics) > 1 else "") + " and ".join(metrics) for metrics in tasks}
    return "; ".join(f"{mean[metrics]} of {', '.join(names)}" for metrics, names in tasks.items())


def _for_seeds(found: Estimate, line: Score, seeds: tuple[int, ...]) -> Estimate:
    """An estimate with one value per seed: the mean over a seed's samples; a single seed's value is repeated."""
    samples = len(found.seed_values) // len(line.seeds)
    values = [
        math.fsum(found.seed_values[start : start + samples]) / samples
        for start in range(0, len(found.seed_values), samples)
    ]
    return replace(found, seed_values=tuple(values * len(seeds) if len(values) == 1 else values))


def _weighted(values: Sequence[tuple[float | None, float]]) -> float | None:
    """The weighted sum; None if a value is unknown."""
    known = [value * weight for value, weight in values if value is not None]
    return math.fsum(known) if len(known) == len(values) else None


def _sum_or_none(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
