"""The exact prompt of every bundled (task, style): two demonstrations, then the query with each of its options.

Every file in `golden/` was read against the figures of Appendix G of the GPT-3 paper. `▷` marks where the context ends
and the scored continuation begins. After an intended change, write them anew with

    ICL_EVAL_WRITE_GOLDEN=1 pytest tests/prompts/test_golden.py

and read the difference before you keep it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from write_releases import write_releases

from icl_eval.prompts import assemble
from icl_eval.tasks import Example, Library, LocalSource, MemorySource, Source, Task

GOLDEN = Path(__file__).parent / "golden"
LIBRARY = Library()
TASKS = {name: LIBRARY.task(name) for name in LIBRARY.names() if not LIBRARY.is_suite(name)}
PROMPTS = [(name, style) for name, task in TASKS.items() for style in task.prompts]
PARTIAL = {
    ("superglue/wsc", "partial"),
    ("winograd", "gpt3"),
    ("winogrande", "gpt3"),
    ("olmes/cloze/winogrande", "cloze"),
    *((task, style) for task, style in PROMPTS if style == "channel"),
}
LABELS = TASKS["symbols"].definition.options or []
SYMBOLS = MemorySource(
    {
        "train": [
            {"idx": n, "mapping": 0, "symbol": name, "label": LABELS[n]} for n, name in enumerate(["luv", "byt"])
        ],
        "validation": [{"idx": 2, "mapping": 0, "symbol": "luv", "label": LABELS[0]}],
    }
)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> LocalSource:
    return LocalSource(write_releases(tmp_path_factory.mktemp("release")))


def first_of_each_group(examples: Sequence[Example]) -> list[Example]:
    return list({example.group: example for example in reversed(examples)}.values())[::-1]


def shown(task: Task, style: str, source: Source) -> str:
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


@pytest.mark.parametrize(("name", "style"), PROMPTS)
def test_prompt_is_golden_and_contexts_differ_only_in_partial_evaluation(
    name: str, style: str, release: LocalSource
) -> None:
    task, source = TASKS[name], SYMBOLS if name == "symbols" else release
    actual = shown(task, style, source)
    path = GOLDEN / f"{name.replace('/', '-')}-{style}.txt"
    if os.environ.get("ICL_EVAL_WRITE_GOLDEN"):
        path.write_text(actual, encoding="utf-8")

    assert actual == path.read_text(encoding="utf-8")
    query = task.evaluation(source)[0]
    queries = assemble(task.prompt(style), query.fields, query.options, []).queries
    assert (len(set(queries)) == 1) == ((name, style) not in PARTIAL)


def test_no_golden_file_is_left_over() -> None:
    assert {f"{name.replace('/', '-')}-{style}.txt" for name, style in PROMPTS} == {p.name for p in GOLDEN.iterdir()}
