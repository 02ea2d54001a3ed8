"""The whole suite of the GPT-3 paper, from files in the releases' layouts to scores."""

from __future__ import annotations

import math
import runpy
import sys
from pathlib import Path

import pytest

from icl_eval import Library, Result, evaluate, rescore
from icl_eval.testing import FakeLM


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the documented command writes."""
    folder, script = tmp_path_factory.mktemp("releases"), Path(__file__).parents[1] / "write_releases.py"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(script), str(folder)])
        runpy.run_path(str(script), run_name="__main__")
    return folder


@pytest.fixture(scope="module")
def result(releases: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return evaluate(FakeLM(), "gpt3", data=releases, shots=(0, 1), limit=1, out=tmp_path_factory.mktemp("gpt3"))


def test_every_task_has_every_metric_at_every_number_of_shots(result: Result) -> None:
    library = Library()
    expected = {
        (task.name, metric, shots)
        for task in library.tasks(["gpt3"])
        for metric in task.definition.metrics
        for shots in ((0,) if task.name == "ptb" else (0, 1))
    }

    assert {(score.task, score.metric, score.shots) for score in result} == expected
    assert len(expected) > 100


def test_translation_and_lambada_have_the_paper_s_prompts_with_and_without_demonstrations(result: Result) -> None:
    prompts = {(score.task.split("/")[0], score.shots, score.prompt) for score in result}

    assert {each for each in prompts if each[2] != "gpt3"} == {
        ("translation", 0, "gpt3-zero-shot"),
        ("lambada", 0, "plain"),
        ("ptb", 0, "detokenized"),
    }
    assert {("translation", 1, "gpt3"), ("lambada", 1, "gpt3")} <= prompts


def test_every_score_is_a_number_within_its_bounds(result: Result) -> None:
    for score in result:
        assert math.isfinite(score.value)
        assert score.seed_values == (score.value,)
        assert score.truncated == 0


def test_scores_are_taken_again_from_the_folder_alone(result: Result) -> None:
    assert result.folder is not None
    again = rescore(result.folder)

    assert [score.stored() for score in again] == [score.stored() for score in result]


def test_every_row_of_the_suite_is_in_the_table(result: Result) -> None:
    table = result.table("md")

    assert all(f"| {task.name} |" in table for task in Library().tasks(["gpt3"]))


def test_the_run_holds_all_kinds_of_answers(result: Result) -> None:
    assert result.folder is not None
    lines = (Path(result.folder) / "examples.jsonl").read_text(encoding="utf-8").splitlines()

    assert {line[: line.index(",")] for line in lines} == {f'{{"kind":"{k}"' for k in ("choice", "text", "likelihood")}


def test_tasks_run_at_four_shots_on_what_the_documented_command_writes(releases: Path) -> None:
    names = ["race/high", "race/middle", "storycloze", "sat", "summarization/cnn-dailymail"]
    scores = evaluate(FakeLM(), names, data=releases, shots=(0, 4), limit=4).scores

    found = {(score.task, score.shots, score.effective_shots, score.shortened) for score in scores}
    assert found == {(name, shots, shots, 0) for name in names for shots in (0, 4)}
    assert min(score.examples for score in scores) >= 4
