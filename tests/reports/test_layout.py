from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from icl_eval.errors import UnknownName
from icl_eval.reports import View, render
from icl_eval.results.result import Result, Sweep
from icl_eval.results.score import Score

from .lines import AVERAGE, MANIFEST, RTE, RTE_32

TASKS = ("superglue/multirc", "superglue/rte", "天气预报")
SHOTS = (0, 1, 4, 16, 32, 64)
GRID = [
    replace(RTE_32, task=task, metric=metric, shots=shots, value=shots / 100 + 0.1)
    for task in TASKS
    for metric in ("accuracy", "group_exact_match")
    for shots in SHOTS
]
SINGLE = [replace(RTE, task=f"{task}/{'long' * 12}") for task in TASKS]


def widest(lines: Sequence[str]) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, lines))


@pytest.mark.parametrize("width", [80, 100, 120, 200])
@pytest.mark.parametrize("scores", [GRID, SINGLE, [RTE, RTE_32, AVERAGE]], ids=["grid", "single", "mixed"])
def test_a_table_fits_the_width(scores: list[Score], width: int) -> None:
    one = render(scores, MANIFEST, view=View(width))
    several = Sweep((Result(tuple(scores), MANIFEST), Result(tuple(scores), MANIFEST))).table(width=width)

    for text in (one, several):
        assert " ──" in text
        assert widest([line for line in text.splitlines() if line.startswith(" ")]) <= width


@pytest.mark.parametrize("width", [80, 200])
def test_every_score_and_error_of_a_grid_is_in_the_table(width: int) -> None:
    text = render(GRID, MANIFEST, view=View(width))

    for shots in SHOTS:
        assert text.count(f" {shots}-shot") == 1
        assert text.count(f" {shots / 100 + 0.1:.3f}") == len(TASKS) * 2
    assert text.count("±") >= len(GRID)


def test_a_cross_of_axes_has_a_line_for_each_row_below_the_name_of_its_task() -> None:
    prompts, scorings = ("gpt3", "gpt3~labels=random", "gpt3~mean of 2 labels"), ("token", "contextual", "prototypical")
    scores = [
        replace(RTE_32, prompt=prompt, normalization=scoring, metric=metric, shots=shots, value=shots / 100 + 0.1)
        for prompt in prompts
        for scoring in scorings
        for metric in ("accuracy", "macro_f1")
        for shots in (0, 4)
    ]
    manifest = MANIFEST.model_copy(
        update={"tasks": tuple(MANIFEST.tasks[0].model_copy(update={"prompt": each}) for each in prompts)}
    )
    by_task, by_prompt, stacked = (
        render(scores, manifest, view=View(width)).split("\n\n")[1].splitlines() for width in (100, 80, 60)
    )

    assert len(by_task) == 2 + 1 + 18
    assert [line for line in by_task if "rte" in line] == [" superglue/rte"]
    assert by_task[0].split() == ["prompt", "metric", "scoring", "0-shot", "4-shot", "random", "majority"]
    assert by_task[3].split()[:4] == ["gpt3", "accuracy", "token", "0.100"]
    assert len(by_prompt) == 2 + 3 + 18
    assert [line for line in by_prompt if "rte" in line] == [f" superglue/rte {each}" for each in prompts]
    assert len(stacked) > 2 * 18
    for lines, width in ((by_task, 100), (by_prompt, 80), (stacked, 60)):
        assert widest(lines) <= width
        assert "\n".join(lines).count("0.100") == 18
    heads = by_prompt[0].index("0-shot") + len("0-shot")
    assert by_prompt[3][heads - 11 : heads] == "0.100 ±.030"


def test_many_numbers_of_shots_take_several_tables() -> None:
    scores = [replace(RTE, shots=shots) for shots in range(30)]
    text = render(scores, MANIFEST, view=View(80))

    assert [text.count(f" {shots}-shot") for shots in range(30)] == [1] * 30
    assert text.count(" ──") > 1


def test_columns_are_those_that_were_requested_after_those_that_name_the_row() -> None:
    text = render([RTE, RTE_32], MANIFEST, view=View(columns=("sd-seeds", "SE", "GPT-3 175B")))
    head = next(line for line in text.splitlines() if line.startswith(" task"))

    assert head.split() == ["task", "metric", "scoring", "shots", "sd", "seeds", "±", "GPT-3", "175B"]


def test_columns_with_a_plus_are_added_to_the_usual_ones() -> None:
    usual, more = (
        next(line for line in text.splitlines() if line.startswith(" task")).split()
        for text in (
            render([RTE_32], MANIFEST),
            render([RTE_32], MANIFEST, view=View(columns=("+ties", "+score"))),
        )
    )

    assert "ties" not in usual
    assert more == [*usual, "ties"]


def test_all_columns_are_those_of_markdown() -> None:
    head = next(line for line in render([RTE_32], MANIFEST, "md").splitlines() if line.startswith("| "))
    headings = next(
        line for line in render([RTE_32], MANIFEST, view=View(250, ("all",))).splitlines() if line.startswith(" task")
    )

    assert headings.split() == head.replace("|", " ").split()
    assert render([RTE_32], MANIFEST, view=View(250, ("+all",))) == render([RTE_32], MANIFEST, view=View(250, ("all",)))


def test_a_column_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no column is named 'majorty'; did you mean majority\?"):
        render([RTE], MANIFEST, view=View(columns=("majorty",)))


def test_published_numbers_that_are_left_out_are_mentioned() -> None:
    assert "published numbers: --columns all\n" in render([RTE, RTE_32], MANIFEST)
    assert "GPT-3: Table H.1" in render([RTE, RTE_32], MANIFEST, view=View(300, ("all",)))
    assert "published" not in render([replace(RTE, reference=None)], MANIFEST)
