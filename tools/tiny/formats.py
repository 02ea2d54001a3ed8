"""Solved records as texts of training documents, rendered by the bundled `gpt3` prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from icl_eval.prompts import Prompt
from icl_eval.tasks import Example, Library, Task
from icl_eval.tasks.records import Examples
from tools.tiny.world import Record

TASKS = {
    "BoolQ": "superglue/boolq",
    "CB": "superglue/cb",
    "COPA": "superglue/copa",
    "MultiRC": "superglue/multirc",
    "ReCoRD": "superglue/record",
    "RTE": "superglue/rte",
    "WiC": "superglue/wic",
    "WSC": "superglue/wsc",
    "AX-b": "superglue/axb",
    "AX-g": "superglue/axg",
}
"""The task file of each release folder."""


@dataclass(frozen=True)
class Turn:
    """What is given and what is answered; an answer begins with the white space a continuation begins with."""

    given: str
    answer: str


@cache
def task_file(task: str) -> Task:
    """The package's task for a release folder."""
    return Library().task(TASKS[task])


def prompt_of(task: str) -> Prompt:
    """The prompt in the format of the GPT-3 paper."""
    return task_file(task).prompt("gpt3")


def examples_of(task: str, records: list[Record]) -> list[Example]:
    """Numbered records of one split as the harness sees them."""
    return list(Examples(task_file(task).definition, records, f"the sample of {task}"))


def solved(task: str, records: list[Record]) -> Iterator[Turn]:
    """Each example with its right answer; a question of MultiRC once, with all its answers."""
    prompt = prompt_of(task)
    seen = set()
    for example in examples_of(task, records):
        if example.group in seen:
            continue
        seen.add(example.group)
        gold = example.gold[0]
        given = prompt.query(example.fields, example.options, gold)
        whole = prompt.demonstration(example.fields, example.options, gold)
        if not whole.startswith(given):
            raise ValueError(f"a demonstration of {task} does not begin like its query")
        yield Turn(given, whole[len(given) :])
