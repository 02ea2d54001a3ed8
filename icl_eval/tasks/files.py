"""Data files of every kind as records: tables, JSON, and plain text with one record a line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from icl_eval.errors import DataError

Record = Mapping[str, Any]
Reader = Callable[[Path], Iterator[Record]]

LANGUAGES = (
    *("cs", "de", "en", "es", "et", "fi", "fr", "gu", "hi", "hu", "is", "ja", "kk", "lt", "lv", "pl", "ro", "ru", "tr"),
    *("uk", "zh"),
)
"""Those of WMT's news tests, whose files of sentences end in the language: `newstest2014.fr`."""

LINES = {".txt": "text", ".lst": "label", **{f".{language}": language for language in LANGUAGES}}
"""Suffixes of text files, of which every line is a record of one field, and the field's name."""


def read_file(path: Path) -> Iterator[Record]:
    """Read jsonl, json, csv, tsv, parquet, xml or lines of text, gzipped or not; or a folder of JSON objects.

    A .json file is an array of records, an object with the array under `data`, as SQuAD and its kin are published, or
    an object of records by name, as DROP is.
    Of an .xml file, every child of the root is a record, its children are fields: a text, a mapping if there are
    children again, a list where a name repeats.

    Raises:
        DataError: the file cannot be read or a record is not a mapping, with the line.
    """
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if not path.is_dir() and kind not in READERS:
        known = [*SUFFIXES, *LINES]
        raise DataError(f"this kind of file cannot be read; known are {', '.join(known)}", path)
    try:
        yield from _folder(path) if path.is_dir() else READERS[kind](path)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot be read: {str(error).strip()}", path) from error


def _text(path: Path, newline: str = "") -> io.TextIOBase:
    # utf-8-sig: spreadsheets begin their files with a byte order mark; newline="": fields keep their own line breaks
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline=newline)
    return path.open(encoding="utf-8-sig", newline=newline)


def _lines(field: str) -> Reader:
    def read(path: Path) -> Iterator[Record]:
        with _text(path, newline="\n") as lines:  # a form feed or a lone carriage return does not end a line
            for line in lines:
                yield {field: line.removesuffix("\n").removesuffix("\r")}

    return read


def _jsonl(path: Path) -> Iterator[Record]:
    with _text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _record(_json(line.strip(), path, number), path, number)


def _json_records(path: Path) -> Iterator[Record]:
    with _text(path) as file:
        found = _json(file.read(), path, 1)
    if isinstance(found, dict):
        by_name = list(found.values()) if found and all(isinstance(each, dict) for each in found.values()) else None
        found = found.get("data", found.get("Data", by_name))  # TriviaQA capitalises it, DROP has passages by name
    if not isinstance(found, list):
        raise DataError("a .json data file is an array of records, or an object with such an array as `data`", path, 1)
    yield from (_record(record, path, None) for record in found)


def _folder(path: Path) -> Iterator[Record]:
    """Every file of a folder, by name: one JSON object each."""
    for file in sorted(each for each in path.iterdir() if each.is_file()):
        with _text(file) as text:
            yield _record(_json(text.read(), file, 1), file, 1)


def _json(text: str, path: Path, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"not valid JSON: {error.msg}", path, line + error.lineno - 1) from error
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's limits
        raise DataError(f"not readable JSON: {error}", path, line) from error


def _record(value: Any, path: Path, line: int | None) -> Record:
    if not isinstance(value, dict):
        raise DataError(f"a record is a JSON object, not {type(value).__name__}", path, line)
    return value


def _separated(delimiter: str) -> Reader:
    def read(path: Path) -> Iterator[Record]:
        with _text(path) as file:
            rows = csv.DictReader(file, delimiter=delimiter, strict=True)
            twice = [name for name, count in Counter(rows.fieldnames or ()).items() if count > 1]
            if twice:
                raise DataError(f"two columns are named {twice[0]!r}", path, 1)
            for row in rows:
                if None in row or None in row.values():
                    raise DataError("this row has another number of columns than the header", path, rows.line_num)
                yield row

    return read


def _parquet(path: Path) -> Iterator[Record]:
    import pyarrow
    from pyarrow import parquet

    try:
        with _bytes(path) as file:
            yield from parquet.read_table(pyarrow.BufferReader(file.read())).to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"not a parquet file: {error}", path) from error


def _xml(path: Path) -> Iterator[Record]:
    try:
        with _bytes(path) as file:
            root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an encoding that there is not
        raise DataError(f"not readable XML: {error}", path) from error
    for child in root:
        value = _element(child, path)
        if isinstance(value, str):
            raise DataError(f"a record has fields, but <{child.tag}> holds only text", path)
        yield value


def _element(element: ElementTree.Element, path: Path) -> Any:
    if not len(element):
        return element.text or ""
    if element.text and element.text.strip():
        raise DataError(f"<{element.tag}> mixes text and fields", path)
    fields: dict[str, list[Any]] = {}
    for child in element:
        fields.setdefault(child.tag, []).append(_element(child, path))
    return {name: values if len(values) > 1 else values[0] for name, values in fields.items()}


def _bytes(path: Path) -> io.BufferedIOBase:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".xml")
READERS: dict[str, Reader] = {
    **dict(zip(SUFFIXES, (_jsonl, _json_records, _separated(","), _separated("\t"), _parquet, _xml), strict=True)),
    **{suffix: _lines(field) for suffix, field in LINES.items()},
}
