from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from icl_eval.errors import DataError, UnknownName
from icl_eval.tasks import LocalSource, MemorySource
from icl_eval.tasks.definition import Data
from icl_eval.tasks.sources import SUFFIXES, read_file

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


WRITERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    ".jsonl": jsonl,
    ".json": json_array,
    ".csv": separated(","),
    ".tsv": separated("\t"),
    ".parquet": in_parquet,
}


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def failure(path: Path, content: bytes) -> str:
    with pytest.raises(DataError) as caught:
        list(read_file(written(path, content)))
    return str(caught.value)


def test_every_known_suffix_is_tested() -> None:
    assert tuple(WRITERS) == SUFFIXES


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_kind_of_file_gives_the_same_records(suffix: str, packed: str, tmp_path: Path) -> None:
    path = written(tmp_path / f"v1.0.data{suffix}{packed}", WRITERS[suffix](RECORDS))

    assert list(read_file(path)) == RECORDS


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv"])
def test_byte_order_mark_is_not_part_of_the_data(suffix: str, tmp_path: Path) -> None:
    path = written(tmp_path / f"data{suffix}", b"\xef\xbb\xbf" + WRITERS[suffix](RECORDS))

    assert list(read_file(path)) == RECORDS


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


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.jsonl", b"[1]\n", ":1: a record is a JSON object, not list"),
        ("d.json", b'{"a": 1}', ":1: a .json data file is an array of records"),
        ("d.json", b"[1]", ": a record is a JSON object, not int"),
        ("d.jsonl", b'{"a": ' + b"9" * 5000 + b"}", ":1: not readable JSON"),
        ("d.jsonl", b'{"a": ' + b"[" * 200_000 + b"}", ":1: not readable JSON"),
        ("d.jsonl", b'{"a": "\xff"}', ": cannot be read: 'utf-8' codec can't decode byte 0xff"),
        ("d.csv", b"a,b\n1,2\n3\n", ":3: this row has another number of columns than the header"),
        ("d.tsv", b"a\tb\n1\t2\t3\n", ":2: this row has another number of columns than the header"),
        ("d.csv", b"a,b,a\n1,2,3\n", ":1: two columns are named 'a'"),
        ("d.csv", b'a,b\n1,"2\n', ": cannot be read: unexpected end of data"),
        ("d.parquet", b"PAR1", ": not a parquet file"),
        ("d.parquet", b"PAR1" + b"\0" * 50 + b"PAR1", ": cannot be read: Could not open Parquet"),
        ("d.txt", b"", ": this kind of file cannot be read; known are .jsonl, .json, .csv, .tsv, .parquet"),
        ("d", b"", ": this kind of file cannot be read"),
        ("d.gz", b"", ": this kind of file cannot be read"),
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


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl: cannot be read: .*No such file"):
        list(read_file(tmp_path / "gone.jsonl"))


def test_missing_data_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: there is no such data directory"):
        LocalSource(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["suite/RTE/val.jsonl", "RTE/val.jsonl"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_local_file_is_found_with_and_without_its_first_folder(name: str, packed: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}{packed}"
    path.parent.mkdir(parents=True)
    written(path, jsonl(RECORDS))
    data = Data(local={"validation": "suite/RTE/val.jsonl"})

    assert list(LocalSource(tmp_path).records(data, "validation")) == RECORDS


def test_missing_local_file_names_what_was_looked_for(tmp_path: Path) -> None:
    data = Data(local={"validation": "suite/RTE/val.jsonl"})

    with pytest.raises(DataError, match=r"there is no file suite/RTE/val\.jsonl or RTE/val\.jsonl"):
        LocalSource(tmp_path).records(data, "validation")


@pytest.mark.parametrize("name", ["../secret.jsonl", "a/../../secret.jsonl", "/etc/hostname.jsonl"])
def test_file_outside_the_data_directory_is_refused(name: str, tmp_path: Path) -> None:
    inner = tmp_path / "data"
    inner.mkdir()
    written(tmp_path / "secret.jsonl", jsonl(RECORDS))

    with pytest.raises(DataError, match="must lie under the data directory"):
        LocalSource(inner).records(Data(local={"train": name}), "train")


def test_unknown_local_split_names_the_nearest(tmp_path: Path) -> None:
    data = Data(local={"train": "t.jsonl", "validation": "v.jsonl"})

    with pytest.raises(UnknownName, match=r"no local split is named 'valid'; did you mean validation\?"):
        LocalSource(tmp_path).records(data, "valid")


def test_memory_gives_the_same_records_twice() -> None:
    source = MemorySource({"train": iter(RECORDS)})

    assert list(source.records(Data(), "train")) == list(source.records(Data(), "train")) == RECORDS


def test_unknown_split_in_memory_is_named() -> None:
    with pytest.raises(UnknownName, match=r"no split is named 'test'; there is train"):
        MemorySource({"train": RECORDS}).records(Data(), "test")
