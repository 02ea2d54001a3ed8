"""Errors about a record name its file and line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from icl_eval.errors import DataError
from icl_eval.prompts import Prompt
from icl_eval.tasks import HubSource, LocalSource, Source, Task, TaskDefinition

RANGE = "the label 7 is out of range for 2 options (sky: split 'test')"
RIGHT, WRONG = {"text": "t", "label": "1"}, {"text": "u", "label": "7"}


def task(local: str | list[str] = "", **overrides: Any) -> Task:
    default = {
        "task": "sky",
        "about": "",
        "data": {"local": {"test": local}},
        "splits": {"demonstrations": "test", "evaluation": "test"},
        "gold": {"field": "label"},
        "options": ["no", "yes"],
        "prompts": ["plain"],
    }
    return Task(TaskDefinition.model_validate(default | overrides), {"plain": Prompt("?")})


def complaint(faulty: Task, source: Source) -> str:
    with pytest.raises(DataError) as caught:
        faulty.evaluation(source)
    return str(caught.value)


def xml(record: Mapping[str, str]) -> str:
    return f"<s>{''.join(f'<{name}>{value}</{name}>' for name, value in record.items())}</s>\n"


@pytest.mark.parametrize(
    ("name", "content", "position"),
    [
        ("d.jsonl", f"{json.dumps(RIGHT)}\n\n\n{json.dumps(WRONG)}\n", ":4: "),
        ("d.csv", 'text,label\n"two\nlines",1\nu,7\n', ":4: "),
        ("d.csv", 'text,label\nt,1\n\n"two\nlines",7\nt,1\n', ":4: "),
        ("d.tsv", "text\tlabel\nt\t1\nu\t7\n", ":3: "),
        ("d.lst", "1\n7\n", ":2: "),
        ("d.json", json.dumps({"data": [RIGHT, WRONG]}, indent=1), ": record 2: "),
        ("d.xml", f"<r>\n{xml(RIGHT)}{xml(WRONG)}</r>", ": record 2: "),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_record_is_named_by_its_line_or_else_by_its_number(
    name: str, content: str, position: str, packed: bool, tmp_path: Path
) -> None:
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())

    assert complaint(task(name), LocalSource(tmp_path)) == f"{path}{position}{RANGE}"


def test_a_record_of_a_parquet_file_is_named_by_its_number(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.Table.from_pylist([RIGHT, WRONG]), tmp_path / "d.parquet")

    assert complaint(task("d.parquet"), LocalSource(tmp_path)) == f"{tmp_path / 'd.parquet'}: record 2: {RANGE}"


def test_the_file_that_stands_for_another_is_named(tmp_path: Path) -> None:
    path = tmp_path / "d.first2.jsonl"
    path.write_text(f"{json.dumps(RIGHT)}\n{json.dumps(WRONG)}\n")

    assert complaint(task("d.jsonl"), LocalSource(tmp_path)) == f"{path}:2: {RANGE}"


def test_all_of_line_aligned_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"text": "t"}\n\n{"text": "u"}\n')
    (tmp_path / "d.lst").write_text("1\n7\n")
    message = complaint(task(["d.jsonl", "d.lst"]), LocalSource(tmp_path))

    assert message == f"{tmp_path / 'd.jsonl'}:3 and {tmp_path / 'd.lst'}:2: record 2: {RANGE}"


def test_of_a_folder_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name, record in {"2.txt": WRONG, "1.txt": RIGHT}.items():
        (tmp_path / "d" / name).write_text(json.dumps(record))

    assert complaint(task("d/"), LocalSource(tmp_path)) == f"{tmp_path / 'd' / '2.txt'}:1: {RANGE}"


def test_of_the_hub_the_data_set_and_the_record_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> Iterable[Mapping[str, str]]:
        return [RIGHT, WRONG]

    monkeypatch.setattr(datasets, "load_dataset", load)
    named = complaint(task(data={"hub": {"path": "owner/sky", "name": "blue"}}), HubSource())
    only = complaint(task(data={"hub": {"path": "owner/sky"}}), HubSource())

    assert named == f"the Hub's 'owner/sky' (blue, split test): record 2: {RANGE}"
    assert only == f"the Hub's 'owner/sky' (split test): record 2: {RANGE}"


def test_an_empty_split_is_named_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("\n")

    assert complaint(task("d.jsonl"), LocalSource(tmp_path)) == f"{tmp_path / 'd.jsonl'}: sky: split 'test' is empty"


def test_an_id_that_two_records_have_is_reported_with_both_lines(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(RIGHT | {"id": n}) + "\n" for n in (5, 6, 5)))
    message = complaint(task("d.jsonl", id="id"), LocalSource(tmp_path))

    assert message == f"{tmp_path / 'd.jsonl'}:3: the id '5' is also that of line 1 (sky: split 'test')"


ARC = {"id": "q", "question": "?", "choices": {"label": ["A", "B"], "text": ["no", "yes"]}, "answerKey": "A"}
RACE = {"example_id": "1.txt", "article": "", "question": "?", "options": ["no", "yes"], "answer": "A"}


def test_a_record_that_an_adapter_stumbles_over_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(f"{json.dumps(ARC)}\n{json.dumps(ARC | {'answerKey': 'C'})}\n")
    message = complaint(task("d.jsonl", data={"local": {"test": "d.jsonl"}, "adapter": "arc"}), LocalSource(tmp_path))

    assert message.startswith(
        f"{tmp_path / 'd.jsonl'}:2: not in a known layout (the answer 'C' of q is not among A, B)"
    )


def test_a_record_that_an_adapter_has_made_is_named_by_the_line_it_comes_from(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(f"{json.dumps(ARC)}\n{json.dumps(ARC | {'choices': ARC['choices']})}\n")
    arc = task(id="id", data={"local": {"test": "d.jsonl"}, "adapter": "arc"})

    assert complaint(arc, LocalSource(tmp_path)).startswith(
        f"{tmp_path / 'd.jsonl'}:2: the id 'q' is also that of line 1"
    )


def test_where_an_adapter_takes_all_records_first_the_one_that_it_made_is_numbered(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(f"{json.dumps(RACE)}\n{json.dumps(RACE | {'answer': 'D'})}\n")
    race = task(options=["no", "yes"], data={"local": {"test": "d.jsonl"}, "adapter": "race"})
    message = complaint(race, LocalSource(tmp_path))

    assert message.startswith(f"{tmp_path / 'd.jsonl'}: record 2, as converted: ")


@pytest.mark.parametrize(
    ("adapter", "record"),
    [
        ("sat", {"text": "ML:MM\nmason\na b\na b\na b\na b\na b\na\n"}),
        ("translation", {"translation": 3}),
        ("hellaswag", {"activity_label": None, "ctx": "", "endings": [], "label": 0}),
        ("winograd", {"text": "", "pronoun": "", "pronoun_loc": 0, "options": ["", ""], "label": 0}),
        ("wsc", {"text": "", "idx": 0}),
        ("coqa", {"id": "a", "story": "", "questions": [{"turn_id": 1, "input_text": "?"}], "answers": []}),
    ],
)
def test_a_record_of_another_layout_is_never_a_crash(adapter: str, record: Mapping[str, Any], tmp_path: Path) -> None:
    lines = record["text"] if adapter == "sat" else f"{json.dumps(record)}\n"
    path = tmp_path / ("d.txt" if adapter == "sat" else "d.jsonl")
    path.write_text(lines)
    message = complaint(task(data={"local": {"test": path.name}, "adapter": adapter}), LocalSource(tmp_path))

    assert message.startswith(str(path))
    assert "not in a known layout" in message or "the record has no field" in message
