"""Learning curves as small plots of dots: eight to a character, in the Braille patterns of Unicode."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from icl_eval.errors import counted
from icl_eval.reports.curves import Curve, first_of_each_task, scoring_words, title_of
from icl_eval.reports.layout import cells_of

COLUMNS, ROWS = 27, 5  # characters of a plot, without its axes
AXIS = 6  # characters of the numbers at the left
MOST_PLOTS = 12
FEWEST_POINTS = 3  # of a plot: a table says as much of two scores
BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a dot by its row and column in a character
BLANK = 0x2800
CAPTION = "Scores by shots, with standard errors"
DOTTED = "; dotted: the better of random and majority"


def plots(curves: Sequence[Curve], width: int) -> list[str]:
    """Plots of the first metric of each task with at least three numbers of shots, as lines; none if there is none."""
    chosen = [curve for curve in first_of_each_task(curves) if len(curve.points) >= FEWEST_POINTS]
    shown = chosen[:MOST_PLOTS]
    across = max((width + 2) // (AXIS + COLUMNS + 3), 1)
    lines: list[str] = []
    for start in range(0, len(shown), across):
        drawn = [_plot(curve, _title(curve, curves)) for curve in shown[start : start + across]]
        lines += [""] * bool(lines) + ["   ".join(parts).rstrip() for parts in zip(*drawn, strict=True)]
    more = len(chosen) - len(shown)
    rest = [f"{counted(more, 'more curve')} {'is' if more == 1 else 'are'} not drawn"] if more else []
    caption = f"{CAPTION}{DOTTED if any(curve.baseline is not None for curve in shown) else ''}."
    return [*lines, caption, *rest] if lines else []


def _title(curve: Curve, curves: Sequence[Curve]) -> str:
    """What the curve is of, with its model, prompt and scoring where there are others."""
    models = {each.model for each in curves}
    prompts = {each.prompt for each in curves if each.task == curve.task}
    scoring = scoring_words((each.task, each.metric, each.scoring) for each in curves)[
        curve.task, curve.metric, curve.scoring
    ]
    model, prompt = curve.model if len(models) > 1 else "", curve.prompt if len(prompts) > 1 else ""
    return title_of(model, curve.task, curve.metric, prompt, scoring=scoring)


def _plot(curve: Curve, title: str) -> list[str]:
    """A title, the dots with two numbers at the left, and the shots below."""
    low, high = _range(curve)
    dots = _Dots()
    positions = [round(1 + i * (2 * COLUMNS - 4) / max(len(curve.points) - 1, 1)) for i in range(len(curve.points))]
    if curve.baseline is not None:
        for x in range(0, 2 * COLUMNS, 3):
            dots.set(x, _height(curve.baseline, low, high))
    heights = [_height(point.value, low, high) for point in curve.points]
    for (x, y), (next_x, next_y) in pairwise(zip(positions, heights, strict=True)):
        dots.line(x, y, next_x, next_y)
    for x, point in zip(positions, curve.points, strict=True):
        ends = (_height(point.value + sign * point.error, low, high) for sign in (-1, 1))
        dots.line(x, next(ends), x, next(ends))
        dots.mark(x, _height(point.value, low, high))
    numbers = [_number(high), *[""] * (ROWS - 2), _number(low)]
    body = [f"{number:>{AXIS - 1}} {line}" for number, line in zip(numbers, dots.lines(), strict=True)]
    return [_cut(title), *body, f"{'':{AXIS}}{_ticks(curve, positions)}"]


def _range(curve: Curve) -> tuple[float, float]:
    """The values at the lower and the upper edge, which differ; below zero only if the curve is."""
    ends = [point.value + sign * point.error for point in curve.points for sign in (-1, 1)]
    ends += [curve.baseline] if curve.baseline is not None else []
    low, high = min(ends), max(ends)
    return (low, high) if high - low > 1e-9 else (low - 0.5 * (low >= 0.5 or low < 0), high + 0.5)


def _height(value: float, low: float, high: float) -> int:
    """The row of dots of a value, from the top."""
    return round((high - min(max(value, low), high)) / (high - low) * (4 * ROWS - 1))


def _number(value: float) -> str:
    return f"{value:z.2f}" if abs(value) < 100 else f"{value:.3g}"


def _ticks(curve: Curve, positions: Sequence[int]) -> str:
    """The numbers of shots below their points, of those that have room."""
    line = ""
    for position, point in zip(positions, curve.points, strict=True):
        label = str(point.shots)
        start = min(position // 2, COLUMNS - len(label))
        if not line or start > len(line):
            line = line.ljust(start) + label
    return line.ljust(COLUMNS)


def _cut(title: str) -> str:
    """A title as wide as its plot."""
    room = AXIS + COLUMNS
    cut = title if cells_of(title) <= room else f"...{title[3 - room :]}"
    return cut + " " * (room - cells_of(cut))


class _Dots:
    """A grid of dots, two columns and four rows to a character."""

    def __init__(self) -> None:
        self._cells = [[0] * COLUMNS for _ in range(ROWS)]

    def set(self, x: int, y: int) -> None:
        """Set a dot, if it is on the grid."""
        if 0 <= x < 2 * COLUMNS and 0 <= y < 4 * ROWS:
            self._cells[y // 4][x // 2] |= BITS[y % 4][x % 2]

    def line(self, x: int, y: int, to_x: int, to_y: int) -> None:
        """Set the dots between two, both included."""
        steps = max(abs(to_x - x), abs(to_y - y), 1)
        for step in range(steps + 1):
            self.set(round(x + (to_x - x) * step / steps), round(y + (to_y - y) * step / steps))

    def mark(self, x: int, y: int) -> None:
        """Set a dot and its neighbours."""
        for dx, dy in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
            self.set(x + dx, y + dy)

    def lines(self) -> list[str]:
        """The characters, row by row."""
        return ["".join(chr(BLANK | cell) if cell else " " for cell in row) for row in self._cells]
