from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from patience import impatient

from icl_eval.errors import DataError, IclEvalError, UnknownName
from icl_eval.tasks import LocalSource
from icl_eval.tasks.data import Data
from icl_eval.tasks.definition import TaskDefinition
from icl_eval.tasks.records import Examples


def records(root: Path, files: dict[str, str], split: str = "test", **data: Any) -> list[dict[str, Any]]:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    local = {"test": next(iter(files))}
    return [dict(each) for each in LocalSource(root).records(Data.model_validate({"local": local, **data}), split)]


def test_columns_name_what_a_table_without_a_header_holds(tmp_path: Path) -> None:
    content = 'great film,1\n"dull, long",0\n'

    assert records(tmp_path, {"a.csv": content}, columns=["text", "label"]) == [
        {"text": "great film", "label": "1"},
        {"text": "dull, long", "label": "0"},
    ]


def test_format_goes_before_the_suffix(tmp_path: Path) -> None:
    assert records(tmp_path, {"a.data": "x\ty\n1\t2\n"}, format="tsv") == [{"x": "1", "y": "2"}]
    assert records(tmp_path, {"b.txt": '{"x": 1}\n'}, format="jsonl") == [{"x": 1}]
    assert records(tmp_path, {"c.dev": "one\n"}, format="lines") == [{"text": "one"}]


def test_pattern_splits_lines_into_fields(tmp_path: Path) -> None:
    pattern = r"(?P<coarse>\w+):(?P<fine>\w+) (?P<text>.+?)(?P<mark> \?)?"

    assert records(tmp_path, {"trec.txt": "NUM:dist How far ?\nLOC:city Where is it\n"}, pattern=pattern) == [
        {"coarse": "NUM", "fine": "dist", "text": "How far", "mark": " ?"},
        {"coarse": "LOC", "fine": "city", "text": "Where is it", "mark": ""},
    ]


def test_a_cut_file_of_an_unknown_kind_may_say_so_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "stsa.train.first1").write_text("1 good\n")
    data = Data.model_validate({"local": {"train": "sst2/stsa.train"}, "format": "lines"})

    assert list(LocalSource(tmp_path).records(data, "train")) == [{"text": "1 good"}]


@pytest.mark.parametrize("content", [{"a": {"rows": [{"x": 1}]}}, {"a": {"rows": {"first": {"x": 1}}}}])
def test_records_is_the_path_to_the_array_of_a_json_file(content: Any, tmp_path: Path) -> None:
    assert records(tmp_path, {"a.json": json.dumps(content)}, records="a.rows") == [{"x": 1}]


def test_fields_in_the_name_of_a_file_are_fields_of_its_records(tmp_path: Path) -> None:
    for name in ("test/virology_test.csv", "test/art_of_war_test.csv.gz", "test/virology_dev.csv", "other/x_test.csv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        content = b"Q,A\n" if "virology" in name else b"R,B\nS,C\n"
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    data = Data.model_validate({"local": {"test": "mmlu/test/{subject}_test.csv"}, "columns": ["q", "answer"]})
    source = LocalSource(tmp_path)

    assert list(source.records(data, "test")) == [
        {"q": "R", "answer": "B", "subject": "art_of_war"},
        {"q": "S", "answer": "C", "subject": "art_of_war"},
        {"q": "Q", "answer": "A", "subject": "virology"},
    ]
    assert source.location(data, "test", 3).path == tmp_path / "test/virology_test.csv"
    assert source.location(data, "test", 3).line == 1
    assert source.location(data, "test", None).path == tmp_path / "mmlu/test/{subject}_test.csv"


def test_cut_files_are_found_by_fields_in_names(tmp_path: Path) -> None:
    for name in (
        "b_test.first1000.csv",
        "a_test.csv.first5.gz",
        "c_test.csv",
        "c_test.first9.csv",
        "d.first1000_test.csv",
    ):
        content = f"{name},A\n".encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    (tmp_path / "e.first1000.jsonl").write_text('{"q": 1}\n')
    cut = Data.model_validate({"local": {"test": "{subject}_test.csv"}, "columns": ["q", "answer"], "format": "csv"})
    source = LocalSource(tmp_path)

    assert {each["subject"]: each["q"] for each in source.records(cut, "test")} == {
        "a": "a_test.csv.first5.gz",
        "b": "b_test.first1000.csv",
        "c": "c_test.csv",
        "d.first1000": "d.first1000_test.csv",
    }
    assert [each["x"] for each in source.records(Data(local={"test": "{x}.jsonl"}), "test")] == ["e"]
    assert [each["x"] for each in source.records(Data(local={"test": "{x}.first1000.jsonl"}), "test")] == ["e"]


def test_many_fields_in_a_name_end_in_an_error_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch, "fullmatch")
    (tmp_path / ("z" + "-" * 120 + ".jsonl")).touch()
    name = "-".join(f"{{f{number}}}" for number in range(12)) + "z{last}.jsonl"
    with pytest.raises(DataError, match=r"matching '\{f0\}.*' takes more than 2 s; use fewer fields"):
        list(LocalSource(tmp_path).records(Data(local={"test": name}), "test"))


def test_folders_have_fields_in_their_names_too(tmp_path: Path) -> None:
    for language in ("de", "fr"):
        (tmp_path / language).mkdir()
        (tmp_path / language / "test.jsonl").write_text('{"x": 1}\n')
    data = Data(local={"test": "{language}/test.jsonl"})

    assert [each["language"] for each in LocalSource(tmp_path).records(data, "test")] == ["de", "fr"]


@pytest.mark.parametrize("field", ["whole", "x²"])
def test_a_field_in_the_name_of_a_file_may_have_any_name_and_is_not_of_a_hidden_file(
    field: str, tmp_path: Path
) -> None:
    for name in ("a_test.jsonl", "._a_test.jsonl"):  # the second as macOS leaves it in archives
        (tmp_path / name).write_text('{"q": 1}\n')
    data = Data(local={"test": f"{{{field}}}_test.jsonl"})

    assert list(LocalSource(tmp_path).records(data, "test")) == [{"q": 1, field: "a"}]


@pytest.mark.parametrize(
    ("name", "content", "data", "message"),
    [
        ("a.csv", "x,1\ny\n", {"columns": ["text", "label"]}, r"a\.csv:2: .*not have as many columns as `columns`"),
        (
            "a.csv",
            "text,label\nx,1\n",
            {"columns": ["text", "label"]},
            r"a\.csv:1: the first line is a header, so `columns` is not needed",
        ),
        ("a.txt", "1 a\nb\n", {"pattern": "(?P<n>[0-9]) (?P<t>.*)"}, r"a\.txt:2: this line does not match"),
        (
            "a.json",
            '{"a": {"rows": 5}}',
            {"records": "a.rows"},
            r"a\.json:1: `records` is 'a\.rows', which is not an array but int",
        ),
        ("a.json", '{"a": {"rows": []}}', {"records": "a.row"}, "no key of the file is named 'row'; did you mean rows"),
        ("a.json", '{"a": []}', {"records": "a.b"}, r"`records` is 'a\.b', but 'b' cannot be looked up in a list"),
        ("a.dat", "", {}, "use .*, or set `data.format`"),
        (
            "{x}.jsonl",
            '{"x": 1}',
            {},
            r"x\}\.jsonl:1: the record has a field 'x', which the file name defines, too",
        ),
    ],
)
def test_an_error_names_the_file_and_the_value_that_does_not_fit(
    name: str, content: str, data: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises((DataError, UnknownName), match=message):
        records(tmp_path, {name: content}, **data)


def test_a_pattern_that_takes_too_long_for_a_line_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch, "fullmatch")

    with pytest.raises(DataError, match=r"a\.txt:1: the `pattern` takes more than 2 s"):
        records(tmp_path, {"a.txt": "a" * 5000 + "b"}, pattern=r"(?P<x>(a|a|aa)+)$")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"columns": ["a", "a"]}, "the column 'a' is named twice"),
        ({"columns": ["a"], "local": {"test": "a.jsonl"}}, "`columns` is for csv and tsv files, and a.jsonl is jsonl"),
        ({"columns": ["a"], "local": {"test": "a.x"}}, "a.x is of an unknown kind; set `format` to one of"),
        ({"pattern": "(?P<a>.)", "local": {"test": "a.csv"}}, "`pattern` is for lines files, and a.csv is csv"),
        ({"records": "a", "local": {"test": ["b.csv", "c.txt"]}}, "`records` is for json files, and b.csv is csv"),
        ({"pattern": "("}, "this is not a regular expression"),
        ({"pattern": "(?P<x>(a{1000}){1000}){1000}"}, "times its repetitions is at most 1000000"),
        ({"pattern": "(a)"}, "the pattern has no named groups"),
        ({"format": "cvs"}, "Input should be 'jsonl', 'json', 'csv'"),
        ({"local": {"test": "{a}/{a}.csv"}}, "a field must be a name in braces that occurs once"),
        ({"local": {"test": "{a b}.csv"}}, "a field must be a name in braces that occurs once"),
        ({"local": {"test": "}.csv"}}, "a field must be a name in braces that occurs once"),
        ({"local": {"test": ["{a}.csv", "b.csv"]}}, "files that are read in parallel cannot have one"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        Data.model_validate(data)


def choices(record: dict[str, Any], **keys: Any) -> Examples:
    definition = TaskDefinition.model_validate(
        {"task": "t", "splits": {"evaluation": "test"}, "fields": {"q": "q"}, "prompts": ["p"], **keys}
    )
    return Examples(definition, [record], "t")


def test_a_mapping_gives_options_and_marks_the_right_ones() -> None:
    record = {"q": "?", "mc2": {"yes": 1, "no": 0, "maybe": True}}

    (example,) = choices(record, fields={"q": "q", "mc2": "mc2"}, options="mc2", gold={"field": "mc2"})

    assert example.options == ("yes", "no", "maybe")
    assert example.gold == (0, 2)


def test_of_graded_options_the_best_are_right() -> None:
    (graded,) = choices({"q": "?", "s": {"a": 0.5, "b": 0.25}}, options=["b", "c", "a"], gold={"field": "s"})
    (marked,) = choices({"q": "?", "s": {"a": True, "b": 0.0}}, options=["b", "c", "a"], gold={"field": "s"})

    assert (graded.gold, graded.grades) == ((2,), (0.25, 0, 0.5))
    assert (marked.gold, marked.grades) == ((2,), ())


def test_a_mapping_may_mark_options_that_the_task_names() -> None:
    (example,) = choices({"q": "?", "s": {"b": 1.0, "a": 0}}, options=["a", "b"], gold={"field": "s"})

    assert example.gold == (1,)


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ({"a": 0, "b": 0}, "no option is marked as right"),
        ({"a": 1, "c": 0}, "no option is named 'c'"),
        ({"a": 1.5, "b": 0}, r"the option 'a' has the grade 1\.5, not a number from 0 \(wrong\) to 1 \(right\)"),
        ({"a": "1", "b": 0}, r"the option 'a' has the grade '1', not a number"),
        ({"a": float("nan"), "b": 1}, "the option 'a' has the grade nan, not a number"),
    ],
)
def test_marks_that_cannot_be_scored_are_named(marks: dict[str, Any], message: str) -> None:
    with pytest.raises(IclEvalError, match=message):
        list(choices({"q": "?", "s": marks}, options=["a", "b"], gold={"field": "s"}))


def test_keys_at_their_defaults_leave_the_dump_of_a_task_as_it_was() -> None:
    definition = {"task": "t", "splits": {"evaluation": "test"}, "prompts": ["p"], "answer": "text", "references": "r"}
    dumped = TaskDefinition.model_validate(definition).model_dump()

    assert set(dumped["protocol"]) == {"shots", "draw", "within", "repeat"}
    assert set(dumped["data"]) == {"hub", "local", "adapter", "synthetic"}
    changed = TaskDefinition.model_validate({**definition, "protocol": {"ids": ["a"]}, "data": {"format": "csv"}})
    assert changed.model_dump()["protocol"]["ids"] == ["a"]
    assert changed.model_dump()["data"]["format"] == "csv"
