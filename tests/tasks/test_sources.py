from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pyarrow
import pytest
from pyarrow import parquet

from icl_eval.errors import DataError, MissingData, TaskError, UnknownName
from icl_eval.tasks import LocalSource, MemorySource, Task
from icl_eval.tasks.data import Data, Hub
from icl_eval.tasks.definition import TaskDefinition
from icl_eval.tasks.files import LINES, SUFFIXES, read_file

RECORDS: list[dict[str, Any]] = [
    {"idx": "0", "text": "plain", "label": "yes"},
    {"idx": "1", "text": 'two\r\nlines, a "quote"\tand a tab', "label": "no"},
    {"idx": "2", "text": "日本語 עברית 🐦 \u2028 {{ label }}", "label": "yes"},
]


def jsonl(records: list[dict[str, Any]]) -> bytes:
    return "\n\n".join(json.dumps(record, ensure_ascii=False) for record in records).encode()


def json_array(records: list[dict[str, Any]]) -> bytes:
    return json.dumps(records, indent=1).encode()


def separated(delimiter: str) -> Callable[[list[dict[str, Any]]], bytes]:
    def write(records: list[dict[str, Any]]) -> bytes:
        import io

        file = io.StringIO(newline="")
        writer = csv.DictWriter(file, list(records[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(records)
        return file.getvalue().encode()

    return write


def in_parquet(records: list[dict[str, Any]]) -> bytes:
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist(records), sink)
    return bytes(sink.getvalue().to_pybytes())


def xml(records: list[dict[str, Any]]) -> bytes:
    rows = "".join(
        f"<row>{''.join(f'<{name}>{escaped(value)}</{name}>' for name, value in record.items())}</row>\n"
        for record in records
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<rows>\n{rows}</rows>\n'.encode()


def escaped(text: str) -> str:
    return escape(text, {"\r": "&#13;"})


WRITERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    ".jsonl": jsonl,
    ".json": json_array,
    ".csv": separated(","),
    ".tsv": separated("\t"),
    ".parquet": in_parquet,
    ".xml": xml,
}


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def failure(path: Path, content: bytes) -> str:
    with pytest.raises(DataError) as caught:
        list(read_file(written(path, content)))
    return str(caught.value)


def test_every_known_suffix_is_tested() -> None:
    assert tuple(WRITERS) == tuple(SUFFIXES)


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_kind_of_file_gives_the_same_records(suffix: str, packed: str, tmp_path: Path) -> None:
    path = written(tmp_path / f"v1.0.data{suffix}{packed}", WRITERS[suffix](RECORDS))

    assert list(read_file(path)) == RECORDS


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (
            b"great film,positive\ndull,negative\nfine,positive\nbad,negative\nawful,negative\n",
            "'positive' is the name",
        ),
        (b"3,Stocks fell,Oil rose\n3,Stocks rose,Gold fell\n1,Talks began,Both sides met\n", "'3' is the name"),
        (b"2 + 2,4\n2 + 3,5\n1 + 3,4\n", "'4' is the name"),
        (b"%b,yes\ndull,no\n" % (b"very long " * 12), "'very long very long very long ...'"),
        (b"who,no,no\nwhat,yes,no\n", "two columns are named 'no'"),
    ],
)
def test_a_table_without_a_header_does_not_lose_its_first_record(content: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    message = failure(path, content)

    assert message.startswith(f"{path}:1: ")
    assert name in message
    assert "list the columns in their order in the task file: `data.columns`" in message


@pytest.mark.parametrize(
    "content",
    [
        b"word,kind\nbird,noun\nword,noun\nsing,verb\n",  # a vocabulary holds the name of its column
        b"0,1\ngreat,yes\ndull,no\n",  # numbered columns, as data frames without names have them
        b",text,label\n0,great,yes\n1,dull,no\n2,fine,yes\n",  # an index without a name
        b"text,label\n",
    ],
)
def test_a_header_is_taken_for_one(content: bytes, tmp_path: Path) -> None:
    path = written(tmp_path / "data.csv", content)

    assert len(list(read_file(path))) == content.count(b"\n") - 1


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv"])
def test_byte_order_mark_is_not_part_of_the_data(suffix: str, tmp_path: Path) -> None:
    path = written(tmp_path / f"data{suffix}", b"\xef\xbb\xbf" + WRITERS[suffix](RECORDS))

    assert list(read_file(path)) == RECORDS


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_complete_lines_of_a_tsv_file_that_quotation_marks_join_are_an_error(end: bytes, tmp_path: Path) -> None:
    path = tmp_path / "data.tsv"
    content = end.join([b"text\tlabel", b"fine\t1", b'"Hello there\t0', b'good bye"\t1', b"x\t0"])

    assert failure(path, content).startswith(
        f"{path}:3: because of quotation marks, lines 3 to 4 would be one row, but each is complete; write the records"
    )


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_fields_of_tables_may_be_long(suffix: str, delimiter: str, tmp_path: Path) -> None:
    text = "word " * 40_000
    path = written(tmp_path / f"data{suffix}", f"text{delimiter}label\n{text}{delimiter}1\n".encode())

    assert list(read_file(path)) == [{"text": text, "label": "1"}]


def test_json_key_data_without_an_array_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.json"

    assert failure(path, b'{"data": {"x": 1}}') == (
        f"{path}:1: the value of 'data' is not an array of records but dict; set `data.records` to its dotted path"
    )


def test_task_without_data_is_told_which_key_is_missing(tmp_path: Path) -> None:
    keys = {"task": "t", "splits": {"evaluation": "test"}, "gold": {"field": "a"}, "options": ["b", "c"]}
    task = Task(TaskDefinition.model_validate({**keys, "prompts": ["plain"]}), {}, path=tmp_path / "t.yaml")

    with pytest.raises(TaskError, match=r"t\.yaml: the key `data`, which says where the records of t are, is missing"):
        task.evaluation(LocalSource(tmp_path))


def test_task_on_the_hub_has_no_local_files(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"the task lists no files under `data.local`; pass --data hub"):
        LocalSource(tmp_path).records(Data(hub=Hub(path="a/b")), "test")


def test_json_object_of_objects_is_its_records(tmp_path: Path) -> None:
    content = json.dumps({record["idx"]: record for record in RECORDS}).encode()

    assert list(read_file(written(tmp_path / "data.json", content))) == RECORDS


def test_parquet_keeps_nested_values(tmp_path: Path) -> None:
    records = [{"idx": {"paragraph": 0}, "answers": ["a", "b"]}]

    assert list(read_file(written(tmp_path / "data.parquet", in_parquet(records)))) == records


def test_bad_json_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"

    assert failure(path, b'{"a": 1}\n\n{"a": \n') == f"{path}:3: not valid JSON: Expecting value"


def test_bad_json_line_of_gzipped_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl.gz"

    assert failure(path, b'{"a": 1}\n{"a" 1}\n') == f"{path}:2: not valid JSON: Expecting ':' delimiter"


def test_bad_line_within_json_array_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.json"

    assert failure(path, b'[\n{"a": 1},\n{"a": ]\n') == f"{path}:3: not valid JSON: Expecting value"


def test_an_array_of_records_in_json_is_named(tmp_path: Path) -> None:
    content = b'{"name": "x", "keywords": ["a"], "examples": [{"a": 1}]}'

    assert failure(tmp_path / "d.json", content).endswith("; set `data.records` to 'examples'")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.jsonl", b"[1]\n", ":1: a record is a JSON object, not list"),
        ("d.json", b'{"a": 1}', ":1: the array of records is not named 'data'; set `data.records` to its"),
        ("d.json", b'{"data": {"a": 1}}', ":1: the value of 'data' is not an array of records but dict"),
        ("d.json", b"[{}, 1]", ": record 2: a record is a JSON object, not int"),
        ("d.jsonl", b'{"a": ' + b"9" * 5000 + b"}", ":1: not readable JSON"),
        ("d.jsonl", b'{"a": ' + b"[" * 200_000 + b"}", ":1: not readable JSON"),
        ("d.jsonl", b'{"a": 1}\n\n{"a": "\xff"}', ":3: not UTF-8: byte 0xff (invalid start byte)"),
        ("d.csv", b"a,b\n1,2\n3\n", ":3: this row does not have as many columns as the header: 1 instead of 2"),
        ("d.tsv", b"a\tb\n1\t2\t3\n", ":2: this row does not have as many columns as the header: 3 instead of 2"),
        ("d.csv", b"a,b,a\n1,2,3\n", ":1: two columns are named 'a'"),
        ("d.csv", b'a,b\n1,1\n1,"2\n3,4\n', ":3: a quotation mark in this row is never closed"),
        ("d.parquet", b"PAR1", ": not a parquet file"),
        ("d.parquet", b"PAR1" + b"\0" * 50 + b"PAR1", ": cannot be read: Could not open Parquet"),
        ("d.xml", b"<r><s>1", ": not readable XML: no element found"),
        ("d.xml", b"<r><s>1</s></r>", ": a record must have fields, but <s> has only text"),
        ("d.xml", b"<r><s>1<a>2</a></s></r>", ": <s> mixes text and fields"),
        ("d.xml", b'<?xml version="1.0" encoding="none"?><r/>', ": not readable XML: "),
        ("d.txt", b"a\r\n\xc3\n", ":2: not UTF-8: byte 0xc3 (invalid continuation byte)"),
        ("d.pdf", b"", ": this kind of file is not supported; use .jsonl, .json, .csv, .tsv, .parquet, .xml, .txt"),
        ("d.py", b"", ": this kind of file is not supported"),
        ("d", b"", ": this kind of file is not supported"),
        ("d.gz", b"", ": this kind of file is not supported"),
    ],
)
def test_unreadable_file_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    assert failure(tmp_path / name, content).startswith(f"{tmp_path / name}{message}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_gzip_is_named(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"data{suffix}.gz"
    whole = gzip.compress(WRITERS[suffix](RECORDS))
    for damaged in (b"no gzip", whole[:-12], whole[:12] + b"\xff" * 20 + whole[32:]):
        path.write_bytes(damaged)

        with pytest.raises(DataError, match=str(path)):
            list(read_file(path))


def test_json_object_holds_its_records_as_data(tmp_path: Path) -> None:
    for name in ("data", "Data"):  # TriviaQA's files capitalise it
        content = json.dumps({"version": "1.1", name: RECORDS}).encode()

        assert list(read_file(written(tmp_path / "data.json", content))) == RECORDS


def test_xml_keeps_repeated_and_nested_elements(tmp_path: Path) -> None:
    content = b"<c><s><text><a>x</a><b> y </b></text><answer>1</answer><answer>2</answer><none/></s></c>"

    assert list(read_file(written(tmp_path / "data.xml", content))) == [
        {"text": {"a": "x", "b": " y "}, "answer": ["1", "2"], "none": ""}
    ]


@pytest.mark.parametrize(("suffix", "field"), [(".txt", "text"), (".lst", "label"), (".en", "en"), (".ro", "ro")])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_every_line_of_a_text_file_is_a_record(suffix: str, field: str, packed: str, tmp_path: Path) -> None:
    path = written(tmp_path / f"data{suffix}{packed}", "one\r\n\n two\x0c\u2028\rthree \n".encode())

    assert list(read_file(path)) == [{field: "one"}, {field: ""}, {field: " two\x0c\u2028\rthree "}]


def test_last_line_of_a_text_file_needs_no_line_break(tmp_path: Path) -> None:
    assert list(read_file(written(tmp_path / "data.fr", b"a\nb"))) == [{"fr": "a"}, {"fr": "b"}]


def test_no_suffix_means_two_kinds_of_file() -> None:
    assert not set(LINES) & set(SUFFIXES)


def test_every_file_of_a_folder_is_one_record(tmp_path: Path) -> None:
    for name, record in {"20.txt": RECORDS[1], "10.txt": RECORDS[0]}.items():
        written(tmp_path / "high" / name, json.dumps(record, indent=1).encode())

    found = LocalSource(tmp_path).records(Data(local={"test": "race/test/high/", "dev": "high/"}), "dev")

    assert list(found) == RECORDS[:2]


def test_bad_file_of_a_folder_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "high" / "1.txt", b"{\n1}")

    with pytest.raises(DataError, match=rf"{path}:2: not valid JSON"):
        list(read_file(tmp_path / "high"))


def test_line_aligned_files_are_merged(tmp_path: Path) -> None:
    written(tmp_path / "valid.jsonl", b'{"goal": "a"}\n{"goal": "b"}\n')
    written(tmp_path / "valid-labels.lst.gz", b"0\n1\n")
    data = Data(local={"validation": ["piqa/valid.jsonl", "piqa/valid-labels.lst"]})

    assert list(LocalSource(tmp_path).records(data, "validation")) == [
        {"goal": "a", "label": "0"},
        {"goal": "b", "label": "1"},
    ]


def test_line_aligned_files_of_other_lengths_are_counted(tmp_path: Path) -> None:
    written(tmp_path / "valid.jsonl", b'{"goal": "a"}\n{"goal": "b"}\n')
    written(tmp_path / "valid-labels.lst", b"0\n1\n\n")
    data = Data(local={"validation": ["valid.jsonl", "valid-labels.lst"]})

    with pytest.raises(DataError, match=r"the same number of records, but valid\.jsonl has 2, valid-labels\.lst has 3"):
        list(LocalSource(tmp_path).records(data, "validation"))


def test_line_aligned_files_have_no_field_in_common(tmp_path: Path) -> None:
    written(tmp_path / "a.jsonl", b'{"id": 1, "goal": "a"}\n')
    written(tmp_path / "b.jsonl", b'{"id": 2, "label": 0}\n')

    with pytest.raises(DataError, match=r"several line-aligned files have the field 'id' \(record 1\)"):
        list(LocalSource(tmp_path).records(Data(local={"test": ["a.jsonl", "b.jsonl"]}), "test"))


@pytest.mark.parametrize("name", ["train.first2.jsonl", "train.first2.jsonl.gz", "train.preprocessed.jsonl.gz"])
def test_a_file_may_say_in_its_name_what_became_of_it(name: str, tmp_path: Path) -> None:
    written(tmp_path / "piqa" / name, jsonl(RECORDS))

    assert list(LocalSource(tmp_path).records(Data(local={"train": "piqa/train.jsonl"}), "train")) == RECORDS


def test_the_whole_file_goes_before_a_cut_one(tmp_path: Path) -> None:
    written(tmp_path / "train.first2.jsonl", jsonl(RECORDS[:2]))
    written(tmp_path / "train.jsonl.gz", jsonl(RECORDS))

    assert list(LocalSource(tmp_path).records(Data(local={"train": "train.jsonl"}), "train")) == RECORDS


@pytest.mark.parametrize(
    "name", ["train.second2.jsonl", "train.first.jsonl", "train.first2.json", "atrain.first2.jsonl"]
)
def test_other_names_do_not_stand_for_a_file(name: str, tmp_path: Path) -> None:
    written(tmp_path / name, jsonl(RECORDS))

    with pytest.raises(DataError, match="there is no file"):
        LocalSource(tmp_path).records(Data(local={"train": "train.jsonl"}), "train")


def test_two_cut_files_are_one_too_many(tmp_path: Path) -> None:
    for name in ("train.first1.jsonl", "train.first2.jsonl"):
        written(tmp_path / name, jsonl(RECORDS))

    with pytest.raises(
        DataError, match=r"train\.first1\.jsonl and train\.first2\.jsonl are both copies of train\.jsonl"
    ):
        LocalSource(tmp_path).records(Data(local={"train": "train.jsonl"}), "train")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl: cannot be read: .*No such file"):
        list(read_file(tmp_path / "gone.jsonl"))


def test_missing_data_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: this data directory does not exist"):
        LocalSource(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["suite/RTE/val.jsonl", "RTE/val.jsonl"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_local_file_is_found_with_and_without_its_first_folder(name: str, packed: str, tmp_path: Path) -> None:
    written(tmp_path / f"{name}{packed}", jsonl(RECORDS))
    data = Data(local={"validation": "suite/RTE/val.jsonl"})

    assert list(LocalSource(tmp_path).records(data, "validation")) == RECORDS


def test_missing_local_file_names_what_was_looked_for(tmp_path: Path) -> None:
    data = Data(local={"validation": "suite/RTE/val.jsonl"})

    with pytest.raises(DataError, match=r"there is no file suite/RTE/val\.jsonl or RTE/val\.jsonl for .*'validation'$"):
        LocalSource(tmp_path).records(data, "validation")


def test_missing_local_file_names_the_splits_that_are_there(tmp_path: Path) -> None:
    written(tmp_path / "dev.jsonl", jsonl(RECORDS))
    data = Data(local={"train": ["train.jsonl", "train.lst"], "dev": "dev.jsonl", "test": "test.jsonl"})

    with pytest.raises(DataError, match=r"no file train\.jsonl .* --split .* another split, and there is dev$"):
        LocalSource(tmp_path).records(data, "train")


@pytest.mark.parametrize("name", ["../secret.jsonl", "a/../../secret.jsonl", "/etc/hostname.jsonl"])
def test_file_outside_the_data_directory_is_refused(name: str, tmp_path: Path) -> None:
    inner = tmp_path / "data"
    inner.mkdir()
    written(tmp_path / "secret.jsonl", jsonl(RECORDS))

    with pytest.raises(DataError, match="must be in the data directory"):
        LocalSource(inner).records(Data(local={"train": name}), "train")


def test_unknown_local_split_names_the_nearest(tmp_path: Path) -> None:
    data = Data(local={"train": "t.jsonl", "validation": "v.jsonl"})

    with pytest.raises(UnknownName, match=r"no local split is named 'valid'; did you mean validation\?"):
        LocalSource(tmp_path).records(data, "valid")


def test_memory_gives_the_same_records_twice() -> None:
    source = MemorySource({"train": iter(RECORDS)})

    assert list(source.records(Data(), "train")) == list(source.records(Data(), "train")) == RECORDS


def test_unknown_split_in_memory_is_named() -> None:
    with pytest.raises(UnknownName, match=r"no split is named 'test'; choose from train"):
        MemorySource({"train": RECORDS}).records(Data(), "test")


def test_a_task_whose_table_has_no_header_says_which_one_to_write(tmp_path: Path) -> None:
    written(tmp_path / "data.tsv", b"great film\tgood\ndull\tbad\n")
    definition = TaskDefinition.model_validate(
        {
            "task": "films",
            "about": "",
            "data": {"local": {"test": "data.tsv"}},
            "splits": {"evaluation": "test"},
            "fields": {"text": "review"},
            "gold": {"field": "label", "names": ["good", "bad"]},
            "options": ["good", "bad"],
            "prompts": ["plain"],
        }
    )
    advice = r"if the first line is a record, list review, label in their order in the task file: `data.columns`"

    with pytest.raises(DataError, match=advice):
        Task(definition, {}).evaluation(LocalSource(tmp_path))
