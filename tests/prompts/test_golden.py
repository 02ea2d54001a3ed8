"""The exact prompt of every bundled (task, style): two demonstrations, then the query with each of its options.

Every file in `golden/` was read against the figures of Appendix G of the GPT-3 paper. `▷` marks where the context ends
and the scored continuation begins. After an intended change, regenerate them with

    ICL_EVAL_WRITE_GOLDEN=1 pytest tests/prompts/test_golden.py

and read the difference before you keep it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from bundled_tasks import bundled_task, bundled_tasks
from write_releases import write_releases

from icl_eval.prompts import assemble
from icl_eval.tasks import Example, LocalSource, MemorySource, Source, Task

GOLDEN = Path(__file__).parent / "golden"
WRITES = bool(os.environ.get("ICL_EVAL_WRITE_GOLDEN"))
PARTIAL = {
    ("superglue/wsc", "partial"),
    ("winograd", "gpt3"),
    ("winogrande", "gpt3"),
    ("olmes/cloze/winogrande", "cloze"),
}  # and every style `channel`


@cache
def prompts() -> dict[str, tuple[Task, str]]:
    """Every bundled task and style, by the stem of its golden file."""
    return {
        f"{name.replace('/', '-')}-{style}": (task, style)
        for name, task in bundled_tasks().items()
        for style in task.prompts
    }


FILES = sorted(prompts() if WRITES else (path.stem for path in GOLDEN.iterdir()))  # tasks load when tests run


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> LocalSource:
    return LocalSource(write_releases(tmp_path_factory.mktemp("release")))


@pytest.fixture(scope="module")
def symbols() -> MemorySource:
    labels = bundled_task("symbols").definition.options or []
    train = [{"idx": n, "mapping": 0, "symbol": ["luv", "byt"][n], "label": labels[n]} for n in range(2)]
    validation = [{"idx": 2, "mapping": 0, "symbol": "luv", "label": labels[0]}]
    return MemorySource({"train": train, "validation": validation})


def first_of_each_group(examples: Sequence[Example]) -> list[Example]:
    return list({example.group: example for example in reversed(examples)}.values())[::-1]


def rendered(task: Task, style: str, source: Source) -> str:
    """Two demonstrations and the query, once per option; a written answer or a likelihood has one continuation."""
    prompt = task.prompt(style)
    query = max(task.evaluation(source), key=lambda example: len(example.fields.get("history", ())))
    pool = first_of_each_group(task.demonstrations(source)) if task.definition.protocol.shots else []
    others = [each for each in pool if not (task.shares_split and each.cluster == query.cluster)]
    demonstrations = [prompt.demonstration(each.fields, each.options, each.gold[0]) for each in others[:2]]
    text = assemble(prompt, query.fields, query.options, demonstrations)
    if task.definition.answer != "choice":
        title = f"references: {' / '.join(query.options)}"
        return f"──── {title}\n{text.context(0)}▷{text.answers[0]}◁\n"
    pieces = [f"{text.context(index)}▷{answer}" for index, answer in enumerate(text.answers)]
    pieces.append(f"{prompt.answer_context(query.fields)}▷{text.answers[0]}")
    titles = [*(f"option {index}: {option}" for index, option in enumerate(query.options)), "option 0, without context"]
    return "".join(f"──── {title}\n{piece}◁\n" for title, piece in zip(titles, pieces, strict=True))


@pytest.mark.parametrize("file", FILES)
def test_prompt_is_golden_and_contexts_differ_only_in_partial_evaluation(
    file: str, release: LocalSource, symbols: MemorySource
) -> None:
    task, style = prompts()[file]
    source = symbols if task.name == "symbols" else release
    actual = rendered(task, style, source)
    path = GOLDEN / f"{file}.txt"
    if WRITES:
        path.write_text(actual, encoding="utf-8")

    assert actual == path.read_text(encoding="utf-8")
    query = task.evaluation(source)[0]
    queries = assemble(task.prompt(style), query.fields, query.options, []).queries
    assert (len(set(queries)) > 1) == ((task.name, style) in PARTIAL or style == "channel")


def test_every_prompt_has_a_golden_file_and_no_file_is_left_over() -> None:
    assert set(prompts()) == {path.stem for path in GOLDEN.iterdir()}
