"""JSON tasks in BIG-bench's form, written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from icl_eval import Library, Task
from icl_eval.errors import RunError, TaskError
from icl_eval.importing.bigbench import import_bigbench
from icl_eval.prompts import assemble
from icl_eval.tasks import LocalSource

CHOICE = {
    "name": "colours",
    "description": "Which colour is it?",
    "keywords": ["colour"],
    "preferred_score": "multiple_choice_grade",
    "metrics": ["multiple_choice_grade", "exact_str_match"],
    "examples": [
        {"input": "the sky", "target_scores": {"blue": 1, "red": 0}},
        {"input": "blood", "target_scores": {"blue": 0, "red": 1}},
    ],
}
TEXT = {
    "name": "capitals",
    "metrics": ["exact_str_match"],
    "example_input_prefix": "Country: ",
    "example_output_prefix": "\nCapital: ",
    "task_prefix": "Name capitals.\n",
    "few_shot_example_separator": "\n\n",
    "examples": [{"input": "France", "target": "Paris"}, {"input": "Italy", "target": ["Rome", "Roma"]}],
}
MIXED = {
    **CHOICE,
    "examples": [{"input": "the sky", "target_scores": {"blue": 1}}, {"input": "France", "target": "Paris"}],
}


def imported(tmp_path: Path, content: Any) -> Task:
    (tmp_path / "task.json").write_text(json.dumps(content))
    report = import_bigbench(tmp_path / "task.json", tmp_path / "out")
    return Library([tmp_path / "out"]).task(report.name)


def prompts(tmp_path: Path, task: Task) -> list[str]:
    """The prompt of the second example after the first one, with each option."""
    first, second = task.evaluation(LocalSource(tmp_path / "out/data"))
    demonstration = task.prompt().demonstration(first.fields, first.options, first.gold[0])
    text = assemble(task.prompt(), second.fields, second.options, [demonstration])
    return [text.context(index) + answer for index, answer in enumerate(text.answers)]


def test_choices_follow_the_question(tmp_path: Path) -> None:
    task = imported(tmp_path, CHOICE)
    start = "\nQ: the sky\n  choice: blue\n  choice: red\nA: blue\n\nQ: blood\n  choice: blue\n  choice: red\nA: "

    assert prompts(tmp_path, task) == [start + "blue", start + "red"]
    assert task.definition.metrics == ["multiple_choice_grade"]
    assert [each.gold for each in task.evaluation(LocalSource(tmp_path / "out/data"))] == [(0,), (1,)]


def test_choices_may_be_left_out(tmp_path: Path) -> None:
    task = imported(tmp_path, CHOICE | {"append_choices_to_input": False, "choice_prefix": "- "})

    assert prompts(tmp_path, task)[0] == "\nQ: the sky\nA: blue\n\nQ: blood\nA: blue"


def test_texts_are_generated(tmp_path: Path) -> None:
    task = imported(tmp_path, TEXT)

    assert prompts(tmp_path, task)[0].removeprefix("Name capitals.\n") == (
        "\n\nCountry: France\nCapital: Paris\n\nCountry: Italy\nCapital: Rome"
    )
    assert (task.definition.answer, task.definition.metrics) == ("text", ["exact_match"])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([], "must have a list `examples`"),
        ({"examples": []}, "must have a list `examples`"),
        ({**TEXT, "examples": [{"input": "x"}]}, "must have `target_scores`, or all must have a `target`"),
        (MIXED, "must have `target_scores`, or all must have a `target`"),
        ({**TEXT, "metrics": []}, "this task has no metrics"),
        ({**TEXT, "metrics": ["bleurt"]}, "none of its metrics can be expressed: bleurt"),
        ({**TEXT, "metrics": 3}, "`metrics`: "),
        ({**TEXT, "preferred_score": []}, "`preferred_score`: "),
        ({**TEXT, "example_input_prefix": None}, "`example_input_prefix`: "),
        ({**TEXT, "examples": [{"input": None, "target": "x"}]}, r"`examples\.input`: "),
        ({**CHOICE, "examples": [{"input": "x", "target_scores": {}}]}, r"`examples\.target_scores`: "),
    ],
)
def test_what_is_no_json_task_is_one_sentence(content: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=sentence):
        imported(tmp_path, content)
    assert not (tmp_path / "out").exists()


def test_a_task_of_the_same_name_is_not_replaced(tmp_path: Path) -> None:
    imported(tmp_path, CHOICE)

    with pytest.raises(RunError, match=r"colours\.json: a file with other content exists here"):
        imported(tmp_path, CHOICE | {"canary": "x"})


def test_a_file_that_is_no_json_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text("{")

    with pytest.raises(TaskError, match=r"task\.json: this file cannot be read as JSON"):
        import_bigbench(tmp_path / "task.json", tmp_path / "out")
