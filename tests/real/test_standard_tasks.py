"""The standard tasks on the official releases under `ICL_EVAL_DATA`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from icl_eval.tasks import Library, LocalSource

pytestmark = pytest.mark.skipif("ICL_EVAL_DATA" not in os.environ, reason="ICL_EVAL_DATA names no official release")

SIZES = {
    ("mmlu", "dev"): 285,
    ("mmlu", "validation"): 1531,
    ("mmlu", "test"): 14042,
    ("classification/sst2", "validation"): 872,
    ("classification/sst2", "test"): 1821,
    ("classification/trec", "test"): 500,
    ("classification/agnews", "test"): 7600,
}


@pytest.fixture
def source() -> LocalSource:
    return LocalSource(Path(os.environ["ICL_EVAL_DATA"]))


@pytest.mark.parametrize(("name", "split"), SIZES)
def test_the_official_release_is_read_whole(name: str, split: str, source: LocalSource) -> None:
    examples = Library().task(name).split(split, source)

    assert len(examples) == SIZES[name, split]
    assert len({example.id for example in examples}) == len(examples)


def test_mmlu_has_five_development_questions_of_each_of_57_subjects(source: LocalSource) -> None:
    task = Library().task("mmlu")
    shown = [example.fields["subject"] for example in task.demonstrations(source)]

    assert {shown.count(subject) for subject in shown} == {5}
    assert set(shown) == {example.fields["subject"] for example in task.evaluation(source)}
    assert len(set(shown)) == 57
