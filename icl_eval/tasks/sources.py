"""Where records come from: files under a data directory, the Hub, or memory."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from icl_eval.errors import DataError, UnknownName
from icl_eval.tasks.definition import Data

Record = Mapping[str, Any]
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


class Source(Protocol):
    """Something that gives the raw records of a task's split."""

    @property
    def label(self) -> str:
        """What stands for the data in manifests and signatures: `hub`, `local`, `sample`, `memory`."""

    def holds(self, data: Data) -> bool:
        """Whether anything of a task's data is here. Looks at names alone, never at the network."""

    def records(self, data: Data, split: str) -> Iterable[Record]:
        """The records of one split, in the data set's order."""


class LocalSource:
    """Files under a directory, in the official release's layout or below a folder named after the benchmark."""

    def __init__(self, directory: Path, label: str = "local") -> None:
        self.directory, self.label = directory, label
        if not directory.is_dir():
            raise DataError("there is no such data directory", directory)

    def holds(self, data: Data) -> bool:
        """Whether a file of the task is here."""
        return any(self._found(name) for name in data.local.values())

    def records(self, data: Data, split: str) -> Iterator[Record]:
        """Read the file that the task names for `split`."""
        if split not in data.local:
            raise UnknownName("local split", split, data.local, self.directory)
        return read_file(self._find(data.local[split]))

    def _found(self, name: str) -> bool:
        try:
            return self._find(name).is_file()
        except DataError:
            return False

    def _find(self, name: str) -> Path:
        """`superglue/RTE/val.jsonl` is looked for with and without its first folder, plain and gzipped."""
        relative = Path(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise DataError(
                f"a task's data file must lie under the data directory, but it names {name!r}", self.directory
            )
        shorter = [Path(*relative.parts[1:])] if len(relative.parts) > 1 else []
        for candidate in (relative, *shorter):
            for path in (self.directory / candidate, self.directory / f"{candidate}.gz"):
                if path.is_file():
                    return path
        raise DataError(f"there is no file {' or '.join(map(str, (relative, *shorter)))}", self.directory)


class HubSource:
    """Data sets of the Hugging Face Hub, through `datasets`, which runs no code from a repository."""

    label = "hub"

    def holds(self, data: Data) -> bool:
        """Whether the task names a data set."""
        return data.hub is not None

    def records(self, data: Data, split: str) -> Iterable[Record]:
        """Download or reuse one split."""
        if data.hub is None:
            raise DataError("the task names no data set on the Hub; pass --data-dir")
        import datasets
        import huggingface_hub

        huggingface_hub.logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # one sentence at the end, not one for every retry
        try:
            rows = datasets.load_dataset(data.hub.path, data.hub.name, split=split, revision=data.hub.revision)
        except Exception as error:  # the Hub fails in many ways; the user needs the same two facts in all of them
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise DataError(
                f"the Hub's {data.hub.path!r} ({data.hub.name}, split {split}) cannot be loaded: {reason}; "
                "--data-dir reads an official release from disk, --data sample the bundled sample"
            ) from error
        return rows  # type: ignore[no-any-return]


class MemorySource:
    """Records held in memory, by split."""

    label = "memory"

    def __init__(self, splits: Mapping[str, Iterable[Record]]) -> None:
        self._splits = {split: list(records) for split, records in splits.items()}

    def holds(self, data: Data) -> bool:  # noqa: ARG002
        """True: whoever makes one means it."""
        return True

    def records(self, data: Data, split: str) -> Iterable[Record]:  # noqa: ARG002
        """The records of one split."""
        if split not in self._splits:
            raise UnknownName("split", split, self._splits)
        return self._splits[split]


def read_file(path: Path) -> Iterator[Record]:
    """Read jsonl, json (an array), csv, tsv or parquet, gzipped or not.

    Raises:
        DataError: the file cannot be read or a record is not a mapping, with the line.
    """
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind not in SUFFIXES:
        raise DataError(f"this kind of file cannot be read; known are {', '.join(SUFFIXES)}", path)
    try:
        yield from _READERS[kind](path)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot be read: {str(error).strip()}", path) from error


def _text(path: Path) -> io.TextIOBase:
    # utf-8-sig: spreadsheets begin their files with a byte order mark; newline="": fields keep their own line breaks
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _jsonl(path: Path) -> Iterator[Record]:
    with _text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _record(_json(line.strip(), path, number), path, number)


def _json_array(path: Path) -> Iterator[Record]:
    with _text(path) as file:
        records = _json(file.read(), path, 1)
    if not isinstance(records, list):
        raise DataError("a .json data file is an array of records", path, 1)
    yield from (_record(record, path, None) for record in records)


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


def _separated(delimiter: str) -> Any:
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
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield from parquet.read_table(pyarrow.BufferReader(file.read())).to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"not a parquet file: {error}", path) from error


_READERS = {
    ".jsonl": _jsonl,
    ".json": _json_array,
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".parquet": _parquet,
}
