"""Scores along an axis of the grid, such as prompts or formats: differences from the first value, mean and range.

An axis is a dimension of the grid of a task. The score at its first value is the baseline. Every other score gets its
paired difference from the baseline, and after the scores of the task comes a summary over the axis.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from icl_eval.analysis.signature import spread_signature
from icl_eval.metrics import Estimate, average, difference, lower_is_better
from icl_eval.results.score import Score, figures
from icl_eval.scoring import CALIBRATIONS

Estimated = tuple[Estimate, Score]
COUNTS = ("shortened", "truncated", "ties", "hit_max_tokens", "empty", "unfinished", "unextracted")
"""Counts that are 0 in a summary, because the averaged scores have them."""


@dataclass(frozen=True)
class Axis:
    """A dimension of the grid.

    Attributes:
        name: name of its values, in the plural.
        part: part of a prompt's name that varies along the axis.
        is_summarised: whether the mean and the range over the axis are meaningful.
    """

    name: str
    part: str
    is_summarised: bool = True

    def others(self, score: Score) -> Hashable:
        """A key that is equal for scores that differ only on this axis; formats of different prompts do not compare."""
        parts = score.prompt_parts
        changed = {"format": f"{parts['base']}~{parts['format']}" if parts["format"] else ""}
        return tuple(changed.get(part, value) for part, value in parts.items() if part != self.part)

    def summary(self, first: Score, variants: int) -> str:
        """The name in place of a prompt's for the mean of some scores, of which `first` is the baseline."""
        words, base = f"mean of {variants} {self.name}", first.prompt_parts["base"]
        rest = first.prompt.removeprefix(base)
        return {"base": f"{words}{rest}", "format": f"{base}~{words}{rest}"}.get(self.part, f"{first.prompt}~{words}")


AXES = (
    Axis("prompts", "base"),
    Axis("formats", "format"),
    Axis("selections", "select"),
    Axis("labels", "labels", is_summarised=False),
    Axis("orders", "order"),
)
"""The axes, outermost first. A score has a difference along the last axis on which it is not the baseline. Calibrations
are another, innermost axis, whose baseline is the normalisation."""


def with_spreads(lines: Sequence[Estimated]) -> list[Estimated]:
    """Scores with their differences from baselines; after the scores of each task, the summaries over its axes.

    Args:
        lines: estimates and scores, grouped by task and in the order of the grid, so that baselines come first.
    """
    found, spreads = [*lines], defaultdict[str, list[Estimated]](list)
    for axis in AXES:
        for group in _groups(lines, axis):
            members = [lines[index] for index in group]
            first = members[0][1]
            for index in group[1:]:
                found[index] = _with_difference(lines[index], members[0], axis.name, first.prompt)
            if axis.is_summarised and _can_be_averaged([line for _, line in members]):
                spreads[first.task].append(_spread(members, axis))
    for index, baseline in _uncalibrated(lines).items():
        found[index] = _with_difference(lines[index], baseline, "calibrations", baseline[1].normalization)
    tasks = dict.fromkeys(line.task for _, line in lines)
    return [each for task in tasks for each in (*(one for one in found if one[1].task == task), *spreads[task])]


def _can_be_averaged(lines: Sequence[Score]) -> bool:
    """Whether scores can be averaged: they are of all examples, not found by a search, and have the same seeds."""
    is_whole = not lines[0].category and not any(line.is_found for line in lines[1:])
    return is_whole and len({line.seeds for line in lines}) == 1


def _groups(lines: Sequence[Estimated], axis: Axis) -> list[list[int]]:
    """Groups of indices of scores that differ only on an axis; groups of one are left out."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index, (_, line) in enumerate(lines):
        same = line.task, line.metric, line.normalization, line.shots, line.average, line.category
        groups[same, axis.others(line)].append(index)
    return [members for members in groups.values() if len(members) > 1]


def _uncalibrated(lines: Sequence[Estimated]) -> dict[int, Estimated]:
    """The score with the first normalisation for each calibrated score, by the index of the latter."""
    keys = [(line.task, line.prompt, line.metric, line.shots, line.average, line.category) for _, line in lines]
    is_calibrated = [line.normalization in CALIBRATIONS for _, line in lines]
    of_key = [*zip(keys, lines, is_calibrated, strict=True)]
    first = {key: each for key, each, calibrated in reversed(of_key) if not calibrated}
    return {i: first[key] for i, (key, _, calibrated) in enumerate(of_key) if calibrated and key in first}


def _with_difference(one: Estimated, baseline: Estimated, axis: str, value: str) -> Estimated:
    """A score with its difference from the baseline, whose value on the axis is `value`."""
    found = difference(baseline[0], one[0])
    return one[0], replace(
        one[1],
        axis=axis,
        baseline=value,
        difference=found.value,
        difference_error=found.standard_error,
        difference_low=found.low,
        difference_high=found.high,
    )


def _spread(members: Sequence[Estimated], axis: Axis) -> Estimated:
    """The mean, with its standard error over examples, and the range of scores over an axis."""
    found, lines = average([each for each, _ in members]), [line for _, line in members]
    low, high = min(lines, key=lambda line: line.value), max(lines, key=lambda line: line.value)
    best, worst = (low, high) if lower_is_better(lines[0].metric) else (high, low)
    counts: dict[str, Any] = dict.fromkeys(COUNTS, 0)
    return found, replace(
        lines[0],
        prompt=axis.summary(lines[0], len(lines)),
        axis=axis.name,
        variants=len(lines),
        median=statistics.median(line.value for line in lines),
        minimum=low.value,
        maximum=high.value,
        best=best.prompt,
        worst=worst.prompt,
        effective_shots=statistics.fmean(line.effective_shots for line in lines),
        close_calls=None,
        noise_low=None,
        noise_high=None,
        reference=None,
        signature=spread_signature(lines, axis.name),
        **counts,
        **figures(found),
    )
