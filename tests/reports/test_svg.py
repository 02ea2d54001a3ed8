"""Charts of the report, read back from their markup."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from report_pages import Tables

from icl_eval.reports.categories import LENGTH, category_tables
from icl_eval.reports.curves import curves_of
from icl_eval.reports.svg import RIGHT, curve_chart

from .lines import RTE, RTE_32

SUBJECTS = [
    replace(RTE, task="mmlu", by="subject", category=f"subject_{i}", value=(i * 7 % 57) / 57, examples=i + 1)
    for i in range(57)
]


def references(chart: str) -> dict[str, tuple[float, float, float]]:
    """The height of the line of each reference, and the position of its name."""
    found = re.findall(r'"reference" d="M\d+ ([\d.]+)H.*?</path><text x="(\d+)" y="([\d.]+)">(\w+)<', chart)
    return {name: (float(line), float(x), float(y)) for line, x, y, name in found}


@pytest.mark.parametrize(("random", "majority"), [(0.5, 0.5), (0.5, 0.501), (0.501, 0.5), (0.5, 0.6), (0.3, 0.3)])
def test_names_of_references_are_beside_the_plot_and_apart(random: float, majority: float) -> None:
    scores = [replace(each, random=random, majority=majority) for each in (RTE, RTE_32)]
    found = references(curve_chart(curves_of(scores, "m"), ["m"]))

    assert {*found} == {"random", "majority"}
    assert all(x > RIGHT for _, x, _ in found.values())
    assert abs(found["random"][2] - found["majority"][2]) >= 11  # pixels, the size of the letters
    assert all(abs(line - y) <= 16 for line, _, y in found.values())


@pytest.mark.parametrize("majority", [0.4, 0.6])
def test_guessing_is_drawn_as_in_a_figure(majority: float) -> None:
    scores = [replace(each, random=0.5, majority=majority) for each in (RTE, RTE_32)]
    chart = curve_chart(curves_of(scores, "m"), ["m"])

    assert {*re.findall(r'stroke-dasharray="(.*?)"><title>(\w+)', chart)} == {("5 3", "random"), ("1 3", "majority")}


def test_draws_of_six_models_are_within_the_plot() -> None:
    scores = [replace(each, seed_values=(0.4, 0.6)) for each in (RTE, RTE_32)]
    models = [f"m{i}" for i in range(6)]
    chart = curve_chart([curve for name in models for curve in curves_of(scores, name)], models)
    draws = re.findall(r'class="draws" d="(.*?)"', chart)
    across = [float(x) for path in draws for x in re.findall(r"M([\d.]+) ", path)]

    assert len(across) == 6 * 2 * 2
    assert max(across) <= RIGHT - 2  # pixels, the radius of a dot


def test_ticks_have_the_same_decimals_and_none_is_above_a_perfect_score() -> None:
    scores = [replace(each, value=value, standard_error=1 - value) for each, value in ((RTE, 0.9), (RTE_32, 0.7))]
    scores = [replace(each, random=None, majority=None, seed_values=(0.9, 1 + 1e-12)) for each in scores]
    chart = curve_chart(curves_of(scores, "m"), ["m"])

    assert re.findall(r'text-anchor="end">([\d.]+)<', chart) == ["0.4", "0.6", "0.8", "1.0"]


def test_categories_are_sorted_and_their_bars_are_as_long_as_their_scores() -> None:
    hostile = replace(SUBJECTS[0], category="<script>", value=1.0)
    page = category_tables([("m", [RTE, *SUBJECTS[1:], hostile, replace(hostile, metric="macro_f1")])])
    values = {"<script>": 1.0, **{each.category: each.value for each in SUBJECTS[1:]}}
    head, *rows = (row for row in Tables(page).rows)
    widths = [int(width) for width in re.findall(r'<rect x="0" y="\d+" width="(\d+)"', page)]

    assert head == ["subject", "n", "accuracy", "01"]
    assert [row[0] for row in rows] == sorted(values, key=lambda name: -values[name])
    assert widths == [round(values[row[0]] * LENGTH) for row in rows]
    assert [row[2] for row in rows] == [f"{values[row[0]]:.3f} ± 0.030" for row in rows]
    assert "script" not in Tables(page).tags


def test_categories_of_two_runs_are_beside_one_another_at_the_most_shots() -> None:
    few = SUBJECTS[:3]
    many = [replace(each, shots=5, value=0.5, standard_error=math.nan, low=-math.inf, high=math.inf) for each in few]
    rows = Tables(category_tables([("one", [*few, *many]), ("other", many[:2])])).rows

    assert [cell.strip() for cell in rows[0][:4]] == ["subject", "n", "one", "other"]
    assert [row[:4] for row in rows[1:]] == [
        ["subject_0", "1", "0.500", "0.500"],
        ["subject_1", "2", "0.500", "0.500"],
        ["subject_2", "3", "0.500", ""],
    ]


def test_scores_without_categories_have_no_table() -> None:
    assert category_tables([("m", [RTE, RTE_32])]) == ""
