"""SVG charts: learning curves with uncertainties, and scores by model size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from icl_eval.errors import counted
from icl_eval.reports.curves import Curve, Point
from icl_eval.reports.html import escaped

if TYPE_CHECKING:
    from icl_eval.results.scaling import ScalingFit

WIDTH, HEIGHT = 380, 220
LEFT, RIGHT, TOP, BOTTOM = 44, 322, 10, 192  # edges of the plot; names of reference lines are to its right
FIRST, LAST = LEFT + 14, RIGHT - 30  # positions of the first and last points, with room for draws after the last
COLOURS = 6
LINE = 12  # height of a label
FITTED = 40  # number of segments of a fitted curve
GUESSING = {"random": "5 3", "majority": "1 3"}  # dash patterns of the lines of baselines
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 3", "10 4")  # dash patterns of the series, which also distinguish them
Position = tuple[float, float]


def curve_chart(curves: Sequence[Curve], models: Sequence[str]) -> str:
    """The learning curves of one task for each model, with bands of one standard error and a dot for each draw.

    Args:
        curves: the curves; models that are not in the legend have thin grey lines.
        models: names of the models in the legend of all charts, in order.
    """
    shots = sorted({point.shots for curve in curves for point in curve.points})
    positions = {each: FIRST + i * (LAST - FIRST) / max(len(shots) - 1, 1) for i, each in enumerate(shots)}
    points = [point for curve in curves for point in curve.points]
    references = {name: getattr(curves[0], name) for name in ("random", "majority")}
    known = {name: value for name, value in references.items() if value is not None}
    named = [point for curve in curves if curve.model in models for point in curve.points]
    ends = [point.value + sign * point.error for point in named for sign in (-1, 1)]
    values = [*(point.value for point in points), *(value for point in named for value in point.draws)]
    scale = _Scale.of([*ends, *known.values(), *values])
    parts = [*_axes(scale, [(positions[each], str(each)) for each in shots], "shots")]
    parts += _references(known, scale)
    series = [
        (models.index(curve.model), [(positions[point.shots], point) for point in curve.points])
        for curve in curves
        if curve.model in models
    ]
    parts += [_band(index, each, scale) for index, each in series]
    for curve in (each for each in curves if each.model not in models):
        line = _path([(positions[point.shots], scale.y(point.value)) for point in curve.points])
        parts.append(f'<path class="others" d="{line}"><title>{escaped(curve.model)}</title></path>')
    for index, each in series:
        parts += _series(index, each, scale, "shots")
    return _svg(parts, f"{curves[0].task} {curves[0].metric} by shots")


def _references(known: Mapping[str, float], scale: _Scale) -> list[str]:
    """Lines at the baselines, with their names to the right so that they do not overlap."""
    parts, taken = [], -math.inf
    for name, value in sorted(known.items(), key=lambda each: -each[1]):
        y = scale.y(value)
        taken = max(y + 4, taken + LINE)
        parts.append(
            f'<path class="reference" d="M{LEFT} {y:.1f}H{RIGHT}" stroke-dasharray="{GUESSING[name]}">'
            f'<title>{name} {value:.3f}</title></path><text x="{RIGHT + 4}" y="{taken:.1f}">{name}</text>'
        )
    return parts


def size_chart(
    title: str,
    unit: str,
    series: Sequence[tuple[str, Sequence[tuple[float, Point]]]],
    fits: Sequence[ScalingFit | None] = (),
) -> str:
    """Scores by model size or training step, on a logarithmic scale.

    Args:
        title: title of the chart.
        unit: unit of the sizes.
        series: name of each series, and its scores in ascending order of size.
        fits: fit of each series; None if it has none. The fitted curve replaces the line through the scores, and a
            hollow mark is the prediction for the largest model from the smaller ones.
    """
    fits = fits or [None] * len(series)
    curves = [_fitted(fit) if fit else [] for fit in fits]
    predictions = [fit.held_out.predicted if fit and fit.held_out else None for fit in fits]
    sizes = [size for _, points in series for size, _ in points]
    low, high = math.log10(min(sizes)), math.log10(max(sizes))

    def x(size: float) -> float:
        return FIRST + (math.log10(size) - low) / max(high - low, 1e-9) * (LAST - FIRST)

    values = [point.value + sign * point.error for _, points in series for _, point in points for sign in (-1, 1)]
    values += [value for curve in curves for _, value in curve]
    values += [each for each in predictions if each is not None]
    scale = _Scale.of(values)
    parts = [*_axes(scale, [(x(size), short_number(size)) for size in sorted({*sizes})], unit)]
    for index, ((_, points), curve, predicted) in enumerate(zip(series, curves, predictions, strict=True)):
        line = [(x(size), scale.y(value)) for size, value in curve]
        if not curve:
            parts.append(_band(index, [(x(size), point) for size, point in points], scale))
        parts += _series(index, [(x(size), point) for size, point in points], scale, "shots", line)
        if predicted is not None:
            mark = _marker(index, x(points[-1][0]), scale.y(predicted), hollow=True)
            parts.append(
                f"<g>{mark}<title>{counted(points[-1][1].shots, 'shot')}: {predicted:.3f} predicted</title></g>"
            )
    return _svg(parts, title)


def _fitted(fit: ScalingFit) -> list[tuple[float, float]]:
    """Points of a fitted curve, from the smallest to the largest model: sizes and scores."""
    low, high = fit.sizes[0], fit.sizes[-1]
    sizes = [low * (high / low) ** (i / FITTED) for i in range(FITTED + 1)]
    return list(zip(sizes, fit.at(np.array(sizes)).tolist(), strict=True))


def key(index: int) -> str:
    """The symbol of a series in a legend."""
    return (
        f'<svg viewBox="0 0 34 12" aria-hidden="true"><path d="M0 6H34" stroke="{series_colour(index)}" '
        f'stroke-width="2.2" stroke-dasharray="{DASHES[index % len(DASHES)]}"/>{_marker(index, 17, 6)}</svg>'
    )


def others_key() -> str:
    """The symbol of unnamed curves in a legend."""
    return '<svg viewBox="0 0 34 12" aria-hidden="true"><path class="others" d="M0 6H34"/></svg>'


def short_number(value: float) -> str:
    """A number of parameters or steps, such as `124M`."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"


def _band(index: int, points: Sequence[tuple[float, Point]], scale: _Scale) -> str:
    """The band of one standard error around a curve; empty for a single point."""
    upper = [(x, scale.y(point.value + point.error)) for x, point in points]
    lower = [(x, scale.y(point.value - point.error)) for x, point in reversed(points)]
    area = f'<path d="{_path([*upper, *lower])}Z" fill="{series_colour(index)}" fill-opacity=".16"/>'
    return area if len(points) > 1 else ""


def _series(
    index: int, points: Sequence[tuple[float, Point]], scale: _Scale, unit: str, fitted: Sequence[Position] = ()
) -> list[str]:
    """A curve, or its fit instead, with error bars, draws and marks."""
    colour, line = series_colour(index), fitted or [(x, scale.y(point.value)) for x, point in points]
    parts = []
    errors = "".join(f"M{x:.1f} {scale.y(p.value - p.error):.1f}V{scale.y(p.value + p.error):.1f}" for x, p in points)
    parts.append(f'<path d="{errors}" stroke="{colour}"/>')
    parts.append(
        f'<path d="{_path(line)}" fill="none" stroke="{colour}" stroke-width="2" '
        f'stroke-dasharray="{DASHES[index % len(DASHES)]}"/>'
    )
    aside = 6 + 4 * (index % COLOURS)  # draws are next to the line, each run at another distance
    draws = "".join(f"M{x + aside:.1f} {scale.y(value):.1f}h.01" for x, point in points for value in point.draws)
    parts.append(f'<path class="draws" d="{draws}" stroke="{colour}"/>' if draws else "")
    for x, point in points:
        tooltip = f"{point.shots} {unit}: {point.value:.3f} ± {point.error:.3f}"
        if point.draws:
            tooltip += (
                f", {len(point.draws)} draws from {min(point.draws):.3f} to {max(point.draws):.3f}, sd {point.sd:.3f}"
            )
        parts.append(f"<g>{_marker(index, x, scale.y(point.value))}<title>{tooltip}</title></g>")
    return parts


def _marker(index: int, x: float, y: float, *, hollow: bool = False) -> str:
    """The mark of a series; its shape depends on the index."""
    colour = series_colour(index)
    style = f'fill="none" stroke="{colour}" stroke-width="1.5"' if hollow else f'fill="{colour}"'
    shapes = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4" {style}/>',
        f'<rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6" {style}/>',
        f'<path d="M{x:.1f} {y - 4:.1f}L{x + 4:.1f} {y + 3:.1f}H{x - 4:.1f}Z" {style}/>',
        f'<path d="M{x:.1f} {y - 4.4:.1f}L{x + 4.4:.1f} {y:.1f}L{x:.1f} {y + 4.4:.1f}L{x - 4.4:.1f} {y:.1f}Z" '
        f"{style}/>",
    )
    return shapes[index % len(shapes)]


def series_colour(index: int) -> str:
    """The colour of a series."""
    return f"var(--s{index % COLOURS})"


def _path(points: Sequence[Position]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _axes(scale: _Scale, ticks: Sequence[tuple[float, str]], unit: str) -> list[str]:
    """Grid lines with their values, and the labels of the horizontal axis that do not overlap."""
    parts = []
    for value in scale.ticks:
        y = scale.y(value)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.{scale.decimals}f}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {BOTTOM}H{RIGHT}"/>')
    taken = 0.0
    for x, label in ticks:
        if x - 3.2 * len(label) >= taken:
            parts.append(f'<text x="{x:.1f}" y="{BOTTOM + 14}" text-anchor="middle">{escaped(label)}</text>')
            taken = x + 3.2 * len(label) + 4
    parts.append(f'<text x="{RIGHT}" y="{BOTTOM + 26}" text-anchor="end">{escaped(unit)}</text>')
    return parts


def _svg(parts: Sequence[str], label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escaped(label)}">{"".join(parts)}</svg>'


class _Scale:
    """The vertical scale of a chart, with ticks at round numbers."""

    def __init__(self, low: float, high: float, step: float) -> None:
        self._low, self._high = low, high
        self.decimals = max(0, -math.floor(math.log10(step) + 1e-9) + f"{step:e}".startswith("2.5"))  # of its ticks
        self.ticks = [round(low + i * step, 10) for i in range(round((high - low) / step) + 1)]

    @classmethod
    def of(cls, values: Sequence[float]) -> _Scale:
        """A scale that includes these values."""
        low, high = round(min(values), 9), round(max(values), 9)  # rounding errors add no tick
        span = max(high - low, abs(high) * 0.02, 0.02)
        rough = span / 4
        unit = 10.0 ** math.floor(math.log10(rough))
        step = unit * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * unit >= rough)
        return cls(math.floor(low / step) * step, math.ceil((low + span) / step) * step, step)

    def y(self, value: float) -> float:
        """The vertical position of a value."""
        return BOTTOM - (value - self._low) / (self._high - self._low) * (BOTTOM - TOP)
