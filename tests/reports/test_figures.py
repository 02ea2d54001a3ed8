from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icl_eval.errors import RunError, UnknownName
from icl_eval.metrics.scaling import Law, fit_logistic, fit_power_law
from icl_eval.reports.curves import BySize, by_size, curves_of, named_curves
from icl_eval.reports.figures import FORMATS, curve_figure, difference_figure, save, size_figure
from icl_eval.reports.items import ReportRun
from icl_eval.reports.report import report
from icl_eval.reports.svg import curve_chart, size_chart
from icl_eval.results.pair import Pair
from icl_eval.results.result import Comparison, Result, Sweep
from icl_eval.results.scaling import HeldOut, Interval, ScalingFit

from .lines import MANIFEST, RTE, RTE_32

SCORES = (RTE, RTE_32)
SIZES = [MANIFEST.model_copy(update={"model_name": f"m{n}", "parameters": 10**n}) for n in (6, 7, 8)]
PAIR = Pair(RTE, replace(RTE, value=0.6132), 0.05, 0.0123, 0.0259, 0.0741, "normal", "delta", None)


def test_a_curve_shows_scores_bands_and_references() -> None:
    figure: Any = Result(SCORES, MANIFEST).plot()
    (axis,) = figure.axes
    line = axis.lines[0]
    (band,) = [each.get_paths()[0].vertices for each in axis.collections if len(each.get_paths()[0].vertices) > 4]

    assert list(line.get_ydata()) == [RTE.value, RTE_32.value]
    assert band[:, 1].min() == pytest.approx(RTE.value - RTE.standard_error)
    assert band[:, 1].max() == pytest.approx(RTE_32.value + RTE_32.standard_error)
    assert [float(each.get_ydata()[0]) for each in axis.lines if each.get_label() in ("random", "majority")] == [
        *(RTE.random, RTE.majority)
    ]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["0", "32"]


def test_every_model_has_a_line_and_a_name() -> None:
    figure: Any = Sweep((Result(SCORES, MANIFEST), Result(SCORES, SIZES[0]))).plot()

    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["small", "m6", "random", "majority"]


CROSS = [
    f"p{format}{changed}"
    for format in ("", "~mean of 3 formats")
    for changed in ("", *(f"~{each}" for each in ("labels=random", "labels=flipped", "select=bm25")))
    for changed in (changed, f"{changed},order=reversed" if changed else "~order=reversed")
]


def test_a_cross_of_axes_names_what_changes_one_thing_and_draws_the_rest_in_grey(tmp_path: Path) -> None:
    scores = [replace(score, prompt=prompt) for prompt in CROSS for score in SCORES]
    curves = curves_of(scores)
    figure: Any = curve_figure(curves)
    (axis,) = figure.axes
    page = report([ReportRun("run", MANIFEST, scores, (), tmp_path, None)])
    one_change = [
        "p",
        "p~order=reversed",
        "p~labels=random",
        "p~labels=flipped",
        "p~select=bm25",
        "p~mean of 3 formats",
    ]

    named = [curve.prompt for curve in named_curves(curves)]
    assert len(CROSS) == 16
    assert len(named) == 8
    assert set(one_change) < set(named)
    legend = {text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()}
    assert legend == {*named, "others", "random", "majority"}
    assert sum(line.get_label() == "others" for line in axis.lines) == 8
    assert page.count('<path class="others" d="M5') == 8
    assert "<title>p~mean of 3 formats~select=bm25,order=reversed</title>" in page
    assert "8 others, with names in the table" in page


def test_every_one_of_many_models_has_a_name() -> None:
    curves = [curve for index in range(12) for curve in curves_of(SCORES, f"m{index}")]

    assert named_curves(curves) == curves


@pytest.mark.parametrize("longest", [5, 40, 60])
def test_the_legend_does_not_stick_out(longest: int) -> None:
    prompts = [f"{'p' * (longest - 1)}{index}" for index in range(5)]
    scores = [replace(score, prompt=prompt) for prompt in prompts for score in SCORES]
    figure: Any = curve_figure(curves_of(scores, "m"))
    figure.draw_without_rendering()
    legend, page = figure.legends[0].get_window_extent(), figure.bbox

    assert len(figure.legends[0].get_texts()) == 7
    assert page.x0 <= legend.x0
    assert legend.x1 <= page.x1


def test_a_model_has_the_same_colour_in_every_panel() -> None:
    alone = tuple(replace(score, task="other") for score in SCORES)
    figure: Any = Sweep((Result(SCORES, MANIFEST), Result((*SCORES, *alone), SIZES[0]))).plot()
    both, other = figure.axes

    colours = [{each.get_label(): each.get_color() for each in axis.lines} for axis in (both, other)]

    assert colours[1]["m6"] == colours[0]["m6"] != colours[0]["small"]


def test_each_prompt_and_scoring_of_each_model_has_a_different_colour() -> None:
    several = tuple(
        replace(score, prompt=prompt, normalization=scoring)
        for prompt in ("gpt3", "other")
        for scoring in ("token", "sum")
        for score in SCORES
    )
    figure: Any = Sweep((Result(several, MANIFEST), Result(several, SIZES[0]))).plot()
    colours = {each.get_label(): each.get_color() for each in figure.axes[0].lines if each.get_label()[0] in "sm"}
    names = {
        f"{model} {prompt} ({scoring})"
        for model in ("small", "m6")
        for prompt in ("gpt3", "other")
        for scoring in ("token", "sum")
    }

    assert names <= {*colours}
    assert len({colours[name] for name in names}) == 6  # all that there are


def test_scorings_of_one_model_and_prompt_are_named_without_brackets() -> None:
    scores = tuple(replace(score, normalization=scoring) for scoring in ("token", "batch") for score in SCORES)
    figure: Any = curve_figure(curves_of(scores, ""))

    assert [each.get_text() for each in figure.legends[0].get_texts()][:2] == ["token", "batch"]


def test_a_model_has_the_same_colour_in_every_chart_of_a_page() -> None:
    one, other = (curves_of(SCORES, model) for model in ("one", "other"))

    assert "var(--s1)" not in curve_chart(one, ["one", "other"])
    assert "var(--s0)" not in curve_chart(other, ["one", "other"])


def test_scores_by_size_have_the_line_of_least_squares() -> None:
    values = (0.2, 0.5, 0.6)
    runs = [(m.model_name, m, [replace(RTE, value=v)]) for m, v in zip(SIZES, values, strict=True)]
    figure: Any = size_figure(*by_size(runs))
    (axis,) = figure.axes
    fitted = axis.lines[-1]

    assert axis.get_xlabel() == "parameters"
    assert list(fitted.get_xdata()) == [10**6, 10**7, 10**8]
    assert list(fitted.get_ydata()) == pytest.approx(np.polyval(np.polyfit([6, 7, 8], values, 1), [6, 7, 8]))


def fitted(values: Sequence[float], law: Law) -> tuple[str, list[BySize], ScalingFit]:
    """Scores of three models by their sizes, and their fit, which predicts 0.65 for the largest one."""
    runs = [(m.model_name, m, [replace(RTE, value=v)]) for m, v in zip(SIZES, values, strict=True)]
    names = (RTE.task, RTE.prompt, RTE.metric, RTE.normalization, RTE.shots)
    held_out = HeldOut("m8", 0.65, values[-1], Interval(0.6, 0.69))
    lines = (("m6", "m7", "m8"), (1e6, 1e7, 1e8), tuple(values), (0.03,) * 3)
    return *by_size(runs), ScalingFit(*names, "parameters", *lines, law, False, None, 0.01, held_out)


def test_a_fit_is_drawn_with_the_prediction_for_the_largest_model() -> None:
    law = fit_logistic(np.array([1e6, 1e7, 1e8]), np.array([0.55, 0.6, 0.7]), 0.5, 1.0)
    unit, scores, fit = fitted((0.55, 0.6, 0.7), law)
    figure: Any = size_figure(unit, scores, [fit])
    (axis,) = figure.axes
    (curve,) = [each for each in axis.lines if len(each.get_xdata()) == 100]
    (mark,) = [each for each in axis.lines if each.get_markerfacecolor() == "white"]

    assert list(curve.get_ydata()) == pytest.approx(law.at(curve.get_xdata()).tolist())
    assert (*mark.get_xdata(), *mark.get_ydata()) == (1e8, 0.65)
    assert [tuple(each.get_segments()[0][:, 1]) for each in axis.collections][-1] == pytest.approx((0.6, 0.69))


def test_the_chart_of_a_report_draws_a_fit_through_scores_that_follow_it() -> None:
    unit, (scores,), fit = fitted((0.8, 0.4, 0.2), fit_power_law(np.array([1e6, 1e7]), np.array([0.8, 0.4])))
    charts = [size_chart("", unit, scores.series, scores.fits_of(fits)) for fits in ([fit], [replace(fit, shots=99)])]
    marks = [re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="3.4" fill="(\w+)', chart) for chart in charts]
    (curve,) = re.findall(r'd="M([\d. L]+)" fill="none"', charts[0])
    line = [tuple(map(float, point.split())) for point in curve.split("L")]
    points = [tuple(map(float, mark[:2])) for mark in marks[0]]

    assert np.array(line)[[0, 20, 40]] == pytest.approx(np.array(points[:3]), abs=0.11)
    assert [fill for *_, fill in marks[0]] == ["var", "var", "var", "none"]
    assert points[1][1] > points[3][1] > points[0][1]  # 0.4, 0.65 and 0.8: y grows downwards
    assert "0.650 predicted" in charts[0]
    assert [fill for *_, fill in marks[1]] == ["var", "var", "var"]  # a fit of another score


def test_models_are_ordered_by_the_step_that_their_revisions_name() -> None:
    at = [
        MANIFEST.model_copy(update={"config": MANIFEST.config.model_copy(update={"revision": f"step{n}"})})
        for n in (1000, 512)
    ]
    unit, ((_),) = by_size([(str(i), each, [RTE]) for i, each in enumerate(at)])

    assert unit == "training step"
    assert [size for size, _ in _.series[0][1]] == [512, 1000]


def test_differences_have_their_intervals() -> None:
    figure: Any = Comparison((PAIR,), (), MANIFEST, SIZES[0]).plot()
    (axis,) = figure.axes
    ((low, _), (high, _)) = axis.collections[0].get_segments()[0]

    assert (low, high) == pytest.approx((PAIR.low, PAIR.high))
    assert axis.get_xlabel() == "m6 minus small"


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_figure_is_the_same_file(format: str, tmp_path: Path) -> None:
    for name in ("one", "other"):
        save(curve_figure(curves_of(SCORES, "$x_{1}$ \u202e")), tmp_path / f"{name}.{format}")

    assert (tmp_path / f"one.{format}").read_bytes() == (tmp_path / f"other.{format}").read_bytes()


def test_mistakes_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName, match=r"no format of plots is named 'jpg'; did you mean png\?"):
        save(curve_figure(curves_of(SCORES)), tmp_path / "a.jpg")
    with pytest.raises(RunError, match="there is no learning curve to plot"):
        curve_figure(curves_of([RTE]))
    with pytest.raises(RunError, match="there are no models of different sizes"):
        size_figure(*by_size([("one", SIZES[0], [RTE])]))
    with pytest.raises(RunError, match="there is no difference to plot"):
        difference_figure([], "one", "other")
    with pytest.raises(RunError, match=r"nowhere/a.png: cannot be written: No such file or directory"):
        save(curve_figure(curves_of(SCORES)), tmp_path / "nowhere" / "a.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RunError, match="a plot needs matplotlib, which is not installed: pip install matplotlib"):
        curve_figure(curves_of(SCORES))
