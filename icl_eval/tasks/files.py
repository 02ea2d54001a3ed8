"""Readers of data files: tables, JSON, XML, and plain text with one record per line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, get_args
from xml.etree import ElementTree

import regex

from icl_eval.errors import DataError, UnknownName

Record = Mapping[str, Any]
Located = tuple[int | None, Any]  # the line of a record, or None, and the record
Format = Literal["jsonl", "json", "csv", "tsv", "parquet", "xml", "lines"]

LANGUAGES = (
    *("cs", "de", "en", "es", "et", "fi", "fr", "gu", "hi", "hu", "is", "ja", "kk", "lt", "lv", "pl", "ro", "ru", "tr"),
    *("uk", "zh"),
)
"""Languages of the news tests of WMT, whose text files have the language as suffix, as in `newstest2014.fr`."""

LINES = {".txt": "text", ".lst": "label", **{f".{language}": language for language in LANGUAGES}}
"""Suffixes of text files whose lines are records with a single field, and the name of this field."""

_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
HEADER_CHECK = 1000  # number of records in which names of the header are searched for
LONGEST_COLUMN_NAME = 100  # characters; longer names are texts, not names of columns
NAME_THE_COLUMNS = "; if the first line is a record, list the columns in their order in the task file: `data.columns`"
PATTERN_SECONDS = 2.0  # time limit for matching one line
csv.field_size_limit(2**31 - 1)  # characters; the default of 131,072 is too few for long documents


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of a data file, as far as the file does not define it.

    Attributes:
        format: format of the file; by default, the suffix decides.
        columns: names of the columns of a CSV or TSV file without a header.
        pattern: regular expression for the lines of a text file; its named groups are the fields.
        records: dotted path to the array of records in a JSON file.
    """

    format: Format | None = None
    columns: tuple[str, ...] = ()
    pattern: str | None = None
    records: str | None = None


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file, and fields from its name, which all of its records have."""

    path: Path
    fields: Mapping[str, str] = field(default_factory=dict)


Reader = Callable[[Path, Layout], Iterator[Located]]
DEFAULT_LAYOUT = Layout()


def format_of(name: str) -> Format | None:
    """The format for the suffix of a file name; None if unknown."""
    suffix = Path(name.removesuffix(".gz")).suffix
    return SUFFIXES.get(suffix) or ("lines" if suffix in LINES else None)


def read_file(path: Path, layout: Layout = DEFAULT_LAYOUT) -> Iterator[Record]:
    """Read the records of a file (jsonl, json, csv, tsv, parquet, xml or text lines, gzipped or not) or folder.

    A .json file is an array of records, an object with the array under `data`, as in SQuAD, or an object of records by
    name, as in DROP. In an .xml file, the children of the root are records, and their children are fields: a text, a
    mapping if there are further children, or a list if a name is repeated. A folder has one JSON object per file.

    Raises:
        DataError: the file cannot be read, or a record is not a mapping; the error has the line.
    """
    return read_files([DataFile(path)], layout)


def read_files(files: Sequence[DataFile], layout: Layout = DEFAULT_LAYOUT) -> Iterator[Record]:
    """Read the records of several files, with the fields from the file names."""
    return (record for _, _, record in _located(files, layout))


def location_in(files: Sequence[DataFile], number: int, layout: Layout) -> tuple[Path, int | None]:
    """The file of the n-th record of `read_files`, counted from 1, and its line, or None if records have no lines."""
    file, line, _ = next(islice(_located(files, layout), number - 1, None))
    return file, line


def _located(files: Sequence[DataFile], layout: Layout) -> Iterator[tuple[Path, int | None, Record]]:
    for each in files:
        reader = _object if each.path.is_dir() else READERS[_format(each.path, layout)]
        for file in sorted(p for p in each.path.iterdir() if p.is_file()) if each.path.is_dir() else [each.path]:
            for number, (line, value) in enumerate(_read(file, reader, layout), start=1):
                if type(value) is not dict and not isinstance(value, Mapping):
                    which = f"record {number}: " if line is None else ""
                    raise DataError(f"{which}a record is a JSON object, not {type(value).__name__}", file, line)
                yield file, line, _with_fields(value, each.fields, file, line) if each.fields else value


def _with_fields(record: Record, fields: Mapping[str, str], path: Path, line: int | None) -> Record:
    for name in fields:
        if name in record:
            raise DataError(f"the record has a field {name!r}, which the file name defines, too", path, line)
    return {**record, **fields}


def _format(path: Path, layout: Layout) -> Format:
    found = layout.format or format_of(path.name)
    if found is None:
        known = ", ".join([*SUFFIXES, *LINES])
        raise DataError(f"this kind of file is not supported; use {known}, or set `data.format`", path)
    return found


def _read(path: Path, reader: Reader, layout: Layout) -> Iterator[Located]:
    try:
        yield from reader(path, layout)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise DataError(f"not UTF-8: byte 0x{byte:02x} ({error.reason})", path, _broken_line(path)) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be read: {str(error).strip()}", path) from error


def _broken_line(path: Path) -> int | None:
    """The number of the first line that is not UTF-8."""
    with _bytes(path) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return None


def _text(path: Path, newline: str = "") -> io.TextIOBase:
    # utf-8-sig: spreadsheets write a byte order mark; newline="": line breaks in fields are kept
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline=newline)
    return path.open(encoding="utf-8-sig", newline=newline)


def _lines(path: Path, layout: Layout) -> Iterator[Located]:
    name = LINES.get(Path(path.name.removesuffix(".gz")).suffix, "text")
    pattern = None if layout.pattern is None else regex.compile(layout.pattern)
    with _text(path, newline="\n") as lines:  # form feeds and single carriage returns do not end lines
        for number, line in enumerate(lines, start=1):
            text = line.removesuffix("\n").removesuffix("\r")
            yield number, {name: text} if pattern is None else _groups(pattern, text, path, number)


def _groups(pattern: regex.Pattern[str], text: str, path: Path, line: int) -> dict[str, str]:
    """The named groups of a line; groups that do not take part in the match are empty."""
    try:
        found = regex.fullmatch(pattern, text, timeout=PATTERN_SECONDS)
    except TimeoutError as error:
        raise DataError(f"the `pattern` takes more than {PATTERN_SECONDS:g} s for this line", path, line) from error
    if found is None:
        raise DataError("this line does not match the `pattern`", path, line)
    return {name: value or "" for name, value in found.groupdict().items()}


def _jsonl(path: Path, _: Layout) -> Iterator[Located]:
    with _text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if text := line.strip():
                yield number, _json(text, path, number)


def _json_records(path: Path, layout: Layout) -> Iterator[Located]:
    with _text(path) as file:
        content = found = _json(file.read(), path, 1)
    if layout.records is not None:
        found = _at_path(content, layout.records, path)
    elif isinstance(content, dict):
        by_name = list(content.values()) if content and all(isinstance(e, dict) for e in content.values()) else None
        found = content.get("data", content.get("Data", by_name))  # `Data` in TriviaQA, passages by name in DROP
    if not isinstance(found, list) and layout.records is not None:
        raise DataError(f"`records` is {layout.records!r}, which is not an array but {type(found).__name__}", path, 1)
    named = next((key for key in ("data", "Data") if isinstance(content, dict) and key in content), None)
    if not isinstance(found, list):
        if named:
            reason = f"the value of {named!r} is not an array of records but {type(found).__name__}"
        else:
            reason = "the array of records is not named 'data'"
        arrays = " or ".join(map(repr, _arrays(content))) or "its dotted path"
        raise DataError(f"{reason}; set `data.records` to {arrays}", path, 1)
    yield from ((None, record) for record in found)


def _arrays(content: Any) -> list[str]:
    """The keys of a JSON object that have arrays of objects."""
    named = content.items() if isinstance(content, dict) else ()
    return [name for name, value in named if isinstance(value, list) and value and isinstance(value[0], dict)]


def _at_path(value: Any, dotted: str, path: Path) -> Any:
    """The value at a dotted path in a JSON file; objects by name become a list."""
    for part in dotted.split("."):
        if not isinstance(value, dict):
            raise DataError(
                f"`records` is {dotted!r}, but {part!r} cannot be looked up in a {type(value).__name__}", path
            )
        if part not in value:
            raise UnknownName("key of the file", part, value, path)
        value = value[part]
    is_by_name = isinstance(value, dict) and value and all(isinstance(each, dict) for each in value.values())
    return list(value.values()) if is_by_name else value


def _object(path: Path, _: Layout) -> Iterator[Located]:
    """The record of a JSON file in a folder with one record per file."""
    with _text(path) as text:
        yield 1, _json(text.read(), path, 1)


def parse_json(text: str | bytes) -> Any:
    """`json.loads`, but much faster for text that starts with a value and ends with it or with white space."""
    try:
        decoded = text if isinstance(text, str) else text.decode()
        value, end = _scan(decoded, 0)
        whole = end == len(decoded) or not decoded[end:].strip(" \t\n\r")
    except (StopIteration, ValueError):
        whole = False
    return value if whole else json.loads(text)


def _json(text: str, path: Path, line: int) -> Any:
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        raise DataError(f"not valid JSON: {error.msg}", path, line + error.lineno - 1) from error
    except RecursionError as error:
        raise DataError("not readable JSON: it is nested too deeply", path, line) from error
    except ValueError as error:  # a number beyond Python's limits
        raise DataError(f"not readable JSON: {error}", path, line) from error


def _separated(delimiter: str) -> Reader:
    def read(path: Path, layout: Layout) -> Iterator[Located]:
        with _text(path) as file:
            rows = csv.DictReader(file, layout.columns or None, delimiter=delimiter, strict=True)
            located = _located_rows(rows, path, "`columns`" if layout.columns else "the header", delimiter)
            first = list(islice(located, HEADER_CHECK))
            if not layout.columns:
                _check_header(rows.fieldnames or (), [row for _, row in first], path)
            elif first and tuple(first[0][1].values()) == layout.columns:
                raise DataError("the first line is a header, so `columns` is not needed", path, 1)
            yield from chain(first, located)

    return read


def _located_rows(
    rows: csv.DictReader[str], path: Path, names: str, delimiter: str
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows with the numbers of their first lines.

    In some TSV files, quotation marks are part of the text; others quote as CSV files do. So it is an error if several
    lines are one row because of quotation marks, but each has as many columns as a row.
    """
    for row in _rows(rows, path):
        if None in row or None in row.values():
            expected = len(rows.fieldnames or ())
            surplus = len(row.get(None) or ())  # csv collects surplus values under None
            found = expected + surplus - sum(value is None for value in row.values())
            message = f"this row does not have as many columns as {names}: {found} instead of {expected}"
            raise DataError(message, path, rows.line_num)
        line = rows.line_num - sum(value.count("\n") for value in row.values())
        if line < rows.line_num and delimiter == "\t" and _are_rows("\t".join(row.values()).split("\n"), len(row)):
            message = (
                f"because of quotation marks, lines {line} to {rows.line_num} would be one row, but each is complete; "
                "write the records as JSON lines or CSV, or remove the quotation marks"
            )
            raise DataError(message, path, line)
        yield line, row


def _are_rows(lines: Sequence[str], columns: int) -> bool:
    return all(line.count("\t") + 1 == columns for line in lines)


def _rows(rows: csv.DictReader[str], path: Path) -> Iterator[dict[str | Any, Any]]:
    """The rows; raises `DataError` with the first line of a row that cannot be read."""
    line = 1
    try:
        if rows.fieldnames is not None:
            line = rows.line_num + 1
        for row in rows:
            yield row
            line = rows.line_num + 1
    except csv.Error as error:
        is_open = str(error) == "unexpected end of data"
        reason = "a quotation mark in this row is never closed" if is_open else f"this row cannot be read: {error}"
        raise DataError(reason, path, line) from error


def _check_header(names: Sequence[str], rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """Raise `DataError` if the first line of a table is a record instead of a header.

    This is so if a name is repeated or very long, or if it is also a value of its column, and the values of this column
    are numbers or mostly repeated. A list of distinct words may contain the name of its column.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"two columns are named {twice[0]!r}{NAME_THE_COLUMNS}", path, 1)
    for name in names:
        values = [row[name] for row in rows]
        recurs = name.strip() and name in values
        if len(name) > LONGEST_COLUMN_NAME:
            raise DataError(f"the first line names a column {name[:30] + '...'!r}{NAME_THE_COLUMNS}", path, 1)
        if recurs and (2 * len(set(values)) <= len(values) or all(map(_is_number, values))):
            raise DataError(f"{name!r} is the name of a column and a value in it{NAME_THE_COLUMNS}", path, 1)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parquet(path: Path, _: Layout) -> Iterator[Located]:
    import pyarrow
    from pyarrow import parquet

    try:
        with _bytes(path) as file:
            yield from ((None, row) for row in parquet.read_table(pyarrow.BufferReader(file.read())).to_pylist())
    except pyarrow.ArrowException as error:
        raise DataError(f"not a parquet file: {error}", path) from error


def _xml(path: Path, _: Layout) -> Iterator[Located]:
    try:
        with _bytes(path) as file:
            root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: unknown encoding
        raise DataError(f"not readable XML: {error}", path) from error
    for child in root:
        value = _element(child, path)
        if isinstance(value, str):
            raise DataError(f"a record must have fields, but <{child.tag}> has only text", path)
        yield None, value


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


FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[str, Format] = {f".{name}": name for name in FORMATS if name != "lines"}
READERS: dict[Format, Reader] = dict(
    zip(FORMATS, (_jsonl, _json_records, _separated(","), _separated("\t"), _parquet, _xml, _lines), strict=True)
)
