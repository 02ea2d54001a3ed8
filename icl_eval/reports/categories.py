"""Tables of scores by category with bars, for the first metric of each task."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from icl_eval.errors import counted
from icl_eval.reports.columns import number
from icl_eval.reports.html import breakable, escaped, scored
from icl_eval.reports.svg import key, series_colour
from icl_eval.results.score import Score

LENGTH, THICK, GAP = 1000, 9, 2  # of a bar, in units of its drawing, which is stretched to the column
Category = Mapping[int, Score]  # the scores of a category by run


@dataclass(frozen=True)
class _Scale:
    """The range of values of the bars."""

    low: float
    high: float

    @classmethod
    def of(cls, scores: Iterable[Score]) -> _Scale:
        """A scale from 0 to 1 if this includes all intervals, otherwise from 0 to the farthest end of an interval."""
        ends = [end for score in scores for end in (score.value, score.low, score.high) if math.isfinite(end)]
        low, high = min(0.0, *ends), max(0.0, *ends)
        return cls(0.0, 1.0) if low >= 0 and high <= 1 else cls(low, high)

    def x(self, value: float) -> float:
        """The position of a value, limited to the scale."""
        inside = min(max(value, self.low), self.high)
        return (inside - self.low) / ((self.high - self.low) or 1.0) * LENGTH


def category_tables(runs: Sequence[tuple[str, Sequence[Score]]]) -> str:
    """Tables of the scores by category at the most shots, best first; empty if no task has categories.

    Args:
        runs: label and scores of each run.
    """
    found: dict[tuple[str, str, str], list[tuple[int, Score]]] = {}
    for run, (_, scores) in enumerate(runs):
        for score in (each for each in scores if each.category):
            prompt = score.prompt if len(runs) == 1 else ""  # several runs can have different prompts
            members = found.setdefault((score.task, prompt, score.normalization), [])
            if not members or members[0][1].metric == score.metric:
                members.append((run, score))
    return "".join(_table([label for label, _ in runs], members) for members in found.values())


def _table(labels: Sequence[str], members: Sequence[tuple[int, Score]]) -> str:
    """The table of one task: a row for each category, with the score of each run and its bar."""
    first, shots = members[0][1], max(score.shots for _, score in members)
    rows: dict[str, dict[int, Score]] = {}
    for run, score in members:
        if score.shots == shots:
            rows.setdefault(score.category, {})[run] = score
    scale = _Scale.of([score for row in rows.values() for score in row.values()])
    shown = sorted({run for row in rows.values() for run in row})
    names = [f"{key(run)} {escaped(labels[run])}" if len(labels) > 1 else escaped(first.metric) for run in shown]
    head = "".join(f'<th style="text-align:right">{name}</th>' for name in ("n", *names))
    ends = f"<span>{scale.low:.3g}</span><span>{scale.high:.3g}</span>"
    body = "".join(_row(name, rows[name], shown, scale) for name in sorted(rows, key=lambda each: _rank(rows[each])))
    title = f"{first.task} {first.metric} by {first.by}, {counted(shots, 'shot')}"
    return (
        f'<details open><summary>{escaped(title)}</summary><div class="scroll"><table class="bars"><thead><tr>'
        f'<th>{escaped(first.by)}</th>{head}<th class="ends">{ends}</th></tr></thead><tbody>{body}</tbody></table>'
        "</div></details>"
    )


def _row(name: str, row: Category, shown: Sequence[int], scale: _Scale) -> str:
    cells = [scored(number(row[run].value), number(row[run].standard_error)) if run in row else "" for run in shown]
    count = str(next(iter(row.values())).examples)
    numbers = "".join(f'<td style="text-align:right">{cell}</td>' for cell in (count, *cells))
    return f"<tr><th>{breakable(name)}</th>{numbers}<td>{_bars(row, shown, scale)}</td></tr>"


def _bars(row: Category, shown: Sequence[int], scale: _Scale) -> str:
    """A bar for each run with a line for its 95 % interval, and dashed lines for guessing."""
    height = len(shown) * (THICK + GAP) + GAP
    parts, zero = [], scale.x(0.0)
    for index, run in enumerate(shown):
        if run not in row:
            continue
        score, top = row[run], GAP + index * (THICK + GAP)
        x, low, high = map(scale.x, (score.value, score.low, score.high))
        parts.append(
            f'<rect x="{min(zero, x):.0f}" y="{top}" width="{abs(x - zero):.0f}" height="{THICK}" '
            f'fill="{series_colour(run)}" fill-opacity=".6"/>'
            f'<path class="error" d="M{low:.0f} {top + THICK / 2}H{high:.0f}"/>'
        )
    guessing = {score.random for score in row.values() if score.random is not None}
    parts += [f'<path class="reference" stroke-dasharray="2 2" d="M{scale.x(r):.0f} 0V{height}"/>' for r in guessing]
    return (
        f'<svg viewBox="0 0 {LENGTH} {height}" preserveAspectRatio="none" style="height:{height}px" '
        f'aria-hidden="true">{"".join(parts)}</svg>'
    )


def _rank(row: Category) -> tuple[float, str]:
    """The sort key of a category: the score of the first run that has it, the highest first, then the name."""
    first = row[min(row)]
    return -first.value if math.isfinite(first.value) else math.inf, first.category
