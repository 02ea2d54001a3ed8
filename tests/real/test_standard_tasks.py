"""The standard tasks on the official releases under `ICL_EVAL_DATA`."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from icl_eval.demos import Pool
from icl_eval.tasks import Library, LocalSource, Task

pytestmark = pytest.mark.skipif("ICL_EVAL_DATA" not in os.environ, reason="ICL_EVAL_DATA names no official release")

SIZES = {
    ("mmlu/lettered", "dev"): 285,
    ("mmlu/lettered", "validation"): 1531,
    ("mmlu/lettered", "test"): 14042,
    ("classification/sst2", "validation"): 872,
    ("classification/sst2", "test"): 1821,
    ("classification/trec", "test"): 500,
    ("classification/agnews", "test"): 7600,
    ("truthfulqa/mc1", "validation"): 817,
    ("truthfulqa/mc2", "validation"): 817,
    ("gsm8k", "test"): 1319,
    ("bbh/snarks", "test"): 178,
    ("bbh/word-sorting", "test"): 250,
}


@pytest.fixture(scope="module")
def source() -> LocalSource:
    return LocalSource(Path(os.environ["ICL_EVAL_DATA"]))


@cache
def task_of(name: str) -> Task:
    """One task for all tests, because it reads a split once."""
    return Library().task(name)


@pytest.mark.parametrize(("name", "split"), SIZES)
def test_the_official_release_is_read_whole(name: str, split: str, source: LocalSource) -> None:
    examples = task_of(name).split(split, source)

    assert len(examples) == SIZES[name, split]
    assert len({example.id for example in examples}) == len(examples)


def test_mmlu_has_five_development_questions_of_each_of_57_subjects(source: LocalSource) -> None:
    task = task_of("mmlu/lettered")
    subjects = [example.fields["subject"] for example in task.demonstrations(source)]

    assert {subjects.count(subject) for subject in subjects} == {5}
    assert set(subjects) == {example.fields["subject"] for example in task.evaluation(source)}
    assert len(set(subjects)) == 57


def test_options_of_mmlu_that_begin_with_a_space_get_no_second_one(source: LocalSource) -> None:
    task = task_of("olmes/cloze/mmlu")
    spaced = [each for each in task.evaluation(source) if any(text != text.strip() for text in each.options)]

    assert spaced
    for each in spaced:
        answers = [task.prompt().answer(each.fields, each.options, index) for index in range(len(each.options))]
        assert answers == [f" {text.strip()}" for text in each.options]


def test_bbh_has_6511_examples(source: LocalSource) -> None:
    assert sum(len(task_of(name).evaluation(source)) for name in Library().suite("bbh").tasks) == 6511


def test_bbh_has_three_worked_demonstrations_of_each_task(source: LocalSource) -> None:
    for name in Library().suite("bbh-worked").tasks:
        demonstrations = list(task_of(name).demonstrations(source))

        assert len(demonstrations) == 3
        for each in demonstrations:
            (rule,) = task_of(name).definition.extract["answer"]
            assert rule.apply(each.fields["reasoning"]) == each.options[0]


def test_truthfulqa_has_true_and_false_answers_to_each_question(source: LocalSource) -> None:
    examples = task_of("truthfulqa/mc2").evaluation(source)

    assert all(0 < len(example.gold) < len(example.options) and not example.grades for example in examples)
    assert sum(len(example.gold) > 1 for example in examples) > 700


def test_truthfulqa_has_one_true_answer_which_is_the_first(source: LocalSource) -> None:
    assert {example.gold for example in task_of("truthfulqa/mc1").evaluation(source)} == {(0,)}


@pytest.mark.parametrize(
    ("name", "positions", "right"),
    [
        ("arc-challenge", [0, 1, 2, 3, 8], "ABBDC"),
        ("arc-easy", [1, 2, 3, 4, 5], "BDACC"),
        ("boolq", [0, 1, 7, 11, 3], "AABBA"),
        ("openbookqa", [1, 2, 4, 5, 13], "DCDAB"),
        ("piqa", [9, 3, 4, 5, 6], "AABBB"),
    ],
)
@pytest.mark.parametrize("form", ["cloze", "lettered"])
def test_olmes_draws_its_five_demonstrations_in_their_order(
    form: str, name: str, positions: list[int], right: str, source: LocalSource
) -> None:
    task = task_of(f"olmes/{form}/{name}")
    candidates = task.demonstrations(source)
    query = task.evaluation(source)[0]
    drawn = Pool.of(task, candidates).draw(query, 5, seed=3)

    assert [list(candidates).index(each) for each in drawn] == positions
    assert ["ABCDE"[each.gold[0]] for each in drawn] == [*right]
