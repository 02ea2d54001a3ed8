"""Figures for papers with matplotlib: learning curves, scores by model size, and differences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from icl_eval.errors import RunError, UnknownName, counted
from icl_eval.reports.curves import BySize, Curve, Point, first_of_each_task, named_curves, scoring_words, title_of
from icl_eval.reports.html import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from icl_eval.results.pair import Pair
    from icl_eval.results.scaling import ScalingFit

FORMATS = ("pdf", "png", "svg")
WIDTH, HEIGHT = 3.3, 2.3  # inches of a panel; the width is a column of a paper
MAX_COLUMNS = 3
MARKER, LETTER, LINE = 0.65, 0.055, 0.14  # inches in the legend: mark with margins, letter, line height
CURVE_POINTS = 100  # number of points of a fitted curve
COLOURS = ("#0b62a8", "#c1440e", "#00785a", "#8e3b87", "#7a6000", "#444b55")
MARKS, LINES = "os^Dvp", ("-", "--", ":", "-.")
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "pdf.fonttype": 42,  # embed fonts, so that text stays text
    "svg.hashsalt": "icl-eval",
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
}


def curve_figure(curves: Sequence[Curve]) -> Figure:
    """Learning curves, with a panel for the first metric of each task and a line for each model and prompt.

    In a panel with many lines, only those with the fewest changes of the prompt are named; the others are thin and
    grey. Bands are one standard error over examples. Bars are the standard deviation over draws of demonstrations.

    Raises:
        RunError: there is no curve, or matplotlib is not installed.
    """
    panels: dict[tuple[str, str], list[Curve]] = {}
    for curve in first_of_each_task(curves):
        panels.setdefault((curve.task, curve.metric), []).append(curve)
    if not panels:
        raise RunError("there is no learning curve to plot: evaluate with several numbers of shots")
    labels: dict[str, int] = {}
    figure, axes = _panels(len(panels))
    for axis, ((task, metric), found) in zip(axes, panels.items(), strict=False):
        shots = sorted({point.shots for curve in found for point in curve.points})
        named = named_curves(found)
        for curve in found:
            positions = [shots.index(point.shots) for point in curve.points]
            if curve in named:
                index = labels.setdefault(label := _label(curve, found), len(labels))  # the panels share one legend
                _line(axis, index, positions, curve.points, label)
            else:
                values = [point.value for point in curve.points]
                axis.plot(positions, values, color="#999999", linewidth=0.5, alpha=0.6, zorder=1, label="others")
        for name, style in (("random", "--"), ("majority", ":")):
            if (value := getattr(found[0], name)) is not None:
                axis.axhline(value, color="#777777", linestyle=style, linewidth=0.8, label=name)
        axis.set_xticks(range(len(shots)), [str(each) for each in shots])
        _name(axis, task, "shots", metric)
    return _with_legend(figure)


def size_figure(unit: str, tasks: Sequence[BySize], fits: Sequence[ScalingFit] = ()) -> Figure:
    """Scores by the size of models on a logarithmic scale, with the fit of each number of shots.

    A hollow mark with a bar is the prediction for the largest model from the smaller ones, with its 95 % interval.
    Scores without a fit have a straight line.

    Raises:
        RunError: all models have the same size, or matplotlib is not installed.
    """
    if not tasks:
        raise RunError("there are no models of different sizes or training steps to plot")
    scored = scoring_words((each.task, each.metric, each.normalization) for each in tasks)
    figure, axes = _panels(len(tasks))
    for axis, each in zip(axes, tasks, strict=False):
        for index, ((label, points), fit) in enumerate(zip(each.series, each.fits_of(fits), strict=True)):
            sizes = [size for size, _ in points]
            _line(axis, index, sizes, [point for _, point in points], label, joined=False)
            if fit is not None:
                _fitted(axis, index, fit)
            elif len(sizes) > 2:
                slope, start = np.polyfit(np.log10(sizes), [point.value for _, point in points], 1)
                axis.plot(sizes, slope * np.log10(sizes) + start, color=COLOURS[index % 6], linewidth=0.9)
        axis.set_xscale("log")
        _name(axis, title_of(each.task, scoring=scored[each.task, each.metric, each.normalization]), unit, each.metric)
    return _with_legend(figure)


def difference_figure(pairs: Sequence[Pair], one: str, other: str) -> Figure:
    """A forest plot of paired differences with their 95 % intervals.

    Raises:
        RunError: there is no difference, or matplotlib is not installed.
    """
    if not pairs:
        raise RunError("there is no difference to plot")
    names = [f"{pair.one.task} {pair.one.metric}, {counted(pair.one.shots, 'shot')}" for pair in reversed(pairs)]
    width = WIDTH + 0.04 * max(map(len, names))  # room for the names
    figure, (axis, *_) = _panels(1, width, height=0.5 + 0.19 * len(pairs))
    for position, pair in enumerate(reversed(pairs)):
        known = pair.interval != "bounds"
        errors = [[pair.value - pair.low], [pair.high - pair.value]] if known else None
        axis.errorbar([pair.value], [position], xerr=errors, fmt="o", color=COLOURS[0], markersize=3.5, linewidth=1.2)
    axis.set_yticks(range(len(pairs)), [_plain(name) for name in names])
    axis.axvline(0, color="#777777", linewidth=0.8)
    axis.set_xlabel(_plain(f"{other} minus {one}"))
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure to a file, in the format of its suffix. Equal figures give equal files.

    Raises:
        UnknownName: the format is not supported.
        RunError: the file cannot be written.
    """
    format = check_format(path)
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": None}[format]
    try:
        with _style():
            figure.savefig(path, format=format, dpi=300, metadata=metadata)
    except OSError as error:
        raise RunError(f"cannot be written: {error.strerror}", path) from error


def check_format(path: Path) -> str:
    """The format that belongs to the suffix of a file.

    Raises:
        UnknownName: the format is not supported.
    """
    format = path.suffix.removeprefix(".")
    if format not in FORMATS:
        raise UnknownName("format of plots", format, FORMATS)
    return format


def _style() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise RunError("a plot needs matplotlib, which is not installed: pip install matplotlib") from error
    return matplotlib.rc_context(STYLE)


def _panels(count: int, width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, list[Any]]:
    """A figure with a number of panels, which is not shown in a window."""
    with _style():
        from matplotlib.figure import Figure

        columns = min(count, MAX_COLUMNS)
        rows = -(-count // columns)
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
        axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    return figure, axes


def _line(
    axis: Any, index: int, positions: Sequence[float], points: Sequence[Point], label: str, *, joined: bool = True
) -> None:
    """Draw a curve with its band and its bars, or unjoined points with error bars."""
    values, errors = (np.array([getattr(point, name) for point in points]) for name in ("value", "error"))
    style = {"color": COLOURS[index % len(COLOURS)], "marker": MARKS[index % len(MARKS)], "markersize": 3.5}
    line = LINES[index % len(LINES)] if joined else ""
    axis.plot(positions, values, linewidth=1.3, linestyle=line, label=_plain(label) or None, **style)
    if joined:
        axis.fill_between(positions, values - errors, values + errors, color=style["color"], alpha=0.18, linewidth=0)
        spread = [point.sd for point in points]
        axis.errorbar(positions, values, yerr=spread, fmt="none", color=style["color"], linewidth=0.8, capsize=2)
    else:
        axis.errorbar(positions, values, yerr=errors, fmt="none", color=style["color"], linewidth=0.8, capsize=2)


def _fitted(axis: Any, index: int, fit: ScalingFit) -> None:
    """Draw a fitted curve and the prediction for the largest model."""
    colour, sizes = COLOURS[index % len(COLOURS)], np.geomspace(fit.sizes[0], fit.sizes[-1], CURVE_POINTS)
    axis.plot(sizes, fit.at(sizes), color=colour, linewidth=0.9)
    if fit.held_out is None:
        return
    predicted, ends = fit.held_out.predicted, fit.held_out.interval
    bar = None if ends is None else [[max(predicted - ends.low, 0)], [max(ends.high - predicted, 0)]]
    style = {"color": colour, "marker": MARKS[index % len(MARKS)], "markerfacecolor": "white", "markersize": 5}
    axis.errorbar([fit.sizes[-1]], [predicted], yerr=bar, linestyle="", linewidth=0.8, capsize=3, **style)


def _name(axis: Any, task: str, x: str, y: str) -> None:
    axis.set_title(_plain(task), fontsize=8)
    axis.set_xlabel(x)
    axis.set_ylabel(_plain(y))


def _with_legend(figure: Figure) -> Figure:
    """Add one legend for all panels below them, with as many columns as fit the width."""
    found: dict[str, Any] = {}
    for axis in figure.axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    if found:
        width = figure.get_figwidth()
        column = MARKER + LETTER * max(map(len, found))
        columns = max(min(int(width / column), len(found), 4), 1)
        names = ["\n".join(wrap(name, int((width - MARKER) / LETTER))) for name in found]
        placement: dict[str, Any] = {"loc": "outside lower center", "ncols": columns}
        figure.legend(found.values(), names, fontsize=7, frameon=False, **placement)
        rows = sum(name.count("\n") + 1 for name in names) / columns
        figure.set_figheight(figure.get_figheight() + LINE * max(rows - 2, 0))
    return figure


def _plain(text: str) -> str:
    """Text that matplotlib shows literally, not as mathematics."""
    return visible(text).replace("$", r"\$")


def _label(curve: Curve, curves: Sequence[Curve]) -> str:
    """The model of a curve, with its prompt and its normalisation if there are several."""
    prompt = curve.prompt if len({each.prompt for each in curves}) > 1 else ""
    scoring = curve.scoring if len({each.scoring for each in curves}) > 1 else ""
    return title_of(curve.model, prompt, scoring=scoring) if curve.model or prompt else scoring
