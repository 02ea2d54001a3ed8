"""Scores along an axis of the grid, such as prompts or formats: differences from the first value, mean and range.

An axis is one dimension in which the cells of a task differ. The score at its first value is the baseline: every other
score gets its paired difference from it, and a line after those of the task summarises all of them.
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
"""What a summary does not count again."""


@dataclass(frozen=True)
class Axis:
    """A dimension of the grid.

    Attributes:
        name: of its values, in the plural.
        part: the part of a prompt's name that differs along the axis.
        is_summarised: whether the mean and the range over its values mean anything.
    """

    name: str
    part: str
    is_summarised: bool = True

    def others(self, score: Score) -> Hashable:
        """What scores have in common that differ only on this axis; formats of two prompts have nothing in common."""
        parts = score.prompt_parts
        own = {"format": f"{parts['base']}~{parts['format']}" if parts["format"] else ""}
        return tuple(own.get(part, value) for part, value in parts.items() if part != self.part)

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
"""From the outermost: a score gets its difference along the last axis on which it is not the baseline. The very last
are calibrations, whose baseline is the normalisation."""


def with_spreads(lines: Sequence[Estimated]) -> list[Estimated]:
    """The lines of tasks, each with its difference from a baseline, and after those of a task its spreads.

    Args:
        lines: of all tasks, those of a task together and in the order of the grid, so that baselines come first.
    """
    found, spreads = [*lines], defaultdict[str, list[Estimated]](list)
    for axis in AXES:
        for group in _groups(lines, axis):
            members = [lines[index] for index in group]
            first = members[0][1]
            for index in group[1:]:
                found[index] = _with_difference(lines[index], members[0], axis.name, first.prompt)
            if axis.is_summarised and _have_a_mean([line for _, line in members]):
                spreads[first.task].append(_spread(members, axis))
    for index, baseline in _uncalibrated(lines).items():
        found[index] = _with_difference(lines[index], baseline, "calibrations", baseline[1].normalization)
    tasks = dict.fromkeys(line.task for _, line in lines)
    return [each for task in tasks for each in (*(one for one in found if one[1].task == task), *spreads[task])]


def _have_a_mean(lines: Sequence[Score]) -> bool:
    """Whether scores are all those of an axis, by the same seeds; a selection may be the same for all seeds."""
    is_whole = not lines[0].category and not any(line.is_found for line in lines[1:])
    return is_whole and len({line.seeds for line in lines}) == 1


def _groups(lines: Sequence[Estimated], axis: Axis) -> list[list[int]]:
    """The indices of lines that differ only on an axis, if there are several."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index, (_, line) in enumerate(lines):
        same = line.task, line.metric, line.normalization, line.shots, line.average, line.category
        groups[same, axis.others(line)].append(index)
    return [members for members in groups.values() if len(members) > 1]


def _uncalibrated(lines: Sequence[Estimated]) -> dict[int, Estimated]:
    """By the index of each calibrated score: the same score by the first normalisation, if there is one."""
    keys = [(line.task, line.prompt, line.metric, line.shots, line.average, line.category) for _, line in lines]
    is_calibrated = [line.normalization in CALIBRATIONS for _, line in lines]
    of_key = [*zip(keys, lines, is_calibrated, strict=True)]
    first = {key: each for key, each, calibrated in reversed(of_key) if not calibrated}
    return {i: first[key] for i, (key, _, calibrated) in enumerate(of_key) if calibrated and key in first}


def _with_difference(one: Estimated, baseline: Estimated, axis: str, value: str) -> Estimated:
    """A score with its difference from the baseline, which stands at `value` of the axis."""
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
    """The mean over an axis, whose error is that over examples, and the range; of equal scores the first is named."""
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
