from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import pytest

from icl_eval.reports.curves import curves_of
from icl_eval.reports.plot_text import AXIS, BLANK, COLUMNS, ROWS, plots

from .lines import AVERAGE, RTE

SHOTS = (0, 1, 4, 32)
RISING = [replace(RTE, shots=k, value=v, standard_error=0.0) for k, v in zip(SHOTS, (0.2, 0.4, 0.6, 0.8), strict=True)]
GUESSING = [replace(score, random=0.2, majority=None) for score in RISING]


def dots(lines: list[str]) -> set[tuple[int, int]]:
    """The dots of a plot by column and row from the top, as Unicode's names of Braille patterns number them."""
    numbers = {1: (0, 0), 2: (0, 1), 3: (0, 2), 4: (1, 0), 5: (1, 1), 6: (1, 2), 7: (0, 3), 8: (1, 3)}
    found = set()
    for row, line in enumerate(lines):
        for column, character in enumerate(line[AXIS:]):
            pattern = ord(character) - BLANK if character != " " else 0
            found |= {(2 * column + x, 4 * row + y) for n, (x, y) in numbers.items() if pattern >> (n - 1) & 1}
    return found


def test_a_title_names_the_scoring_of_a_task_that_has_several() -> None:
    titles = plots(curves_of([*GUESSING, *(replace(each, normalization="sum") for each in GUESSING)]), 80)[0]

    assert re.split(r" {2,}", titles.strip()) == ["superglue/rte accuracy (token)", "superglue/rte accuracy (sum)"]


def test_a_curve_rises_from_the_lower_left_to_the_upper_right() -> None:
    title, *body, ticks, _caption = plots(curves_of(GUESSING), 80)
    drawn = dots(body)

    assert title.strip() == "superglue/rte accuracy"
    assert [line[:AXIS].strip() for line in body] == ["0.80", "", "", "", "0.20"]
    assert ticks.split() == list(map(str, SHOTS))
    tops = [min(y for x, y in drawn if x == column) for column in range(2, 2 * COLUMNS - 3)]
    assert all(after <= before + 1 for before, after in pairwise(tops))  # a mark is three dots high
    assert (tops[0], tops[-1]) == (4 * ROWS - 1, 0)


def test_an_error_is_a_vertical_line() -> None:
    certain, uncertain = (
        [replace(score, standard_error=error, random=0.2, majority=None) for score in RISING] for error in (0, 0.1)
    )
    flat = dots(plots(curves_of(certain), 80)[1:-2])
    high = dots(plots(curves_of(uncertain), 80)[1:-2])

    assert max(sum(x == column for x, _ in high) for column in range(2 * COLUMNS)) > max(
        sum(x == column for x, _ in flat) for column in range(2 * COLUMNS)
    )


@pytest.mark.parametrize(("value", "ends"), [(0.0, ("0.50", "0.00")), (-1.0, ("-0.50", "-1.50"))])
def test_a_flat_curve_at_zero_has_no_negative_axis(value: float, ends: tuple[str, str]) -> None:
    flat = [replace(score, value=value, random=None, majority=None) for score in RISING]
    _title, *body, _ticks, caption = plots(curves_of(flat), 80)

    assert caption == "Scores by shots, with standard errors."
    assert (body[0][:AXIS].strip(), body[-1][:AXIS].strip()) == ends


def test_an_edge_just_below_zero_is_zero() -> None:
    low, *rest = RISING
    curve = [replace(low, value=0.0, standard_error=0.001), *rest]
    _title, *body, _ticks, _caption = plots(curves_of(curve), 80)

    assert body[-1][:AXIS].strip() == "0.00"


def test_there_is_one_plot_for_the_first_metric_of_each_task() -> None:
    other = [replace(score, metric="macro_f1") for score in RISING]
    average = [replace(AVERAGE, shots=shots) for shots in SHOTS]
    text = "\n".join(plots(curves_of([*RISING, *other, *average]), 80))

    assert "superglue/rte accuracy" in text
    assert "superglue macro average" in text
    assert "macro_f1" not in text


@pytest.mark.parametrize("scores", [[], [RTE], [RTE, replace(RTE, task="other")], RISING[:2]])
def test_one_or_two_numbers_of_shots_have_no_plot(scores: list[object]) -> None:
    assert plots(curves_of(scores), 80) == []  # type: ignore[arg-type]


def test_more_plots_than_a_screen_shows_are_counted() -> None:
    scores = [replace(score, task=f"task{i}") for i in range(14) for score in RISING]

    assert plots(curves_of(scores), 80)[-1] == "2 more curves are not drawn"
