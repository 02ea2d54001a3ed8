"""Sources of records: files in a data directory, the Hub, or memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import regex

from icl_eval.errors import DataError, MissingData, UnknownName
from icl_eval.tasks.data import Data, Hub
from icl_eval.tasks.files import PATTERN_SECONDS, DataFile, Layout, Record, location_in, read_files

EDITION = (
    r"\.(first[0-9]+|preprocessed)"  # part of a file name, before the suffix, for a shortened or preprocessed copy
)


@dataclass(frozen=True, slots=True)
class Location:
    """The file and line of a record or a split.

    Attributes:
        path: the file, or words for another place; None for records in memory.
        line: line of the file; None if records are not on lines.
    """

    path: Path | str | None = None
    line: int | None = None


class Source(Protocol):
    """A source of the raw records of tasks."""

    @property
    def label(self) -> str:
        """The word for the data in manifests and signatures, such as `hub`, `local`, `sample` or `memory`."""

    def holds(self, data: Data) -> bool:
        """Whether the source may have data of a task, judged by names only, without network access."""

    def records(self, data: Data, split: str) -> Iterable[Record]:
        """The records of a split, in the order of the data set."""

    def location(self, data: Data, split: str, number: int | None) -> Location:
        """The file and line of the n-th record, counted from 1, or for None of the whole split, for messages."""


class LocalSource:
    """Files in a directory, in the layout of the official release or in a folder named after the benchmark."""

    def __init__(self, directory: Path, label: str = "local") -> None:
        self.directory, self.label = directory, label
        if not directory.is_dir():
            raise DataError("this data directory does not exist", directory)

    def holds(self, data: Data) -> bool:
        """Whether the directory has the files of any split of the task."""
        return any(self.has(data, split) for split in data.local)

    def records(self, data: Data, split: str) -> Iterator[Record]:
        """Read the file of a split, or several files in parallel.

        Raises:
            UnknownName: the task has no file for this split.
            MissingData: a file does not exist, or the task is only on the Hub.
            DataError: a file is not valid, or files that are read in parallel have different numbers of records.
        """
        if not data.local:
            raise MissingData("the task lists no files under `data.local`; pass --data hub", self.directory)
        if split not in data.local:
            raise UnknownName("local split", split, data.local, self.directory)
        found = self._files(data, split)
        if isinstance(data.local[split], str):
            return read_files(found[0], data.layout)
        return _aligned([each.path for (each,) in found], data.layout)

    def location(self, data: Data, split: str, number: int | None) -> Location:
        """The file and line of a record; all files if several are read in parallel."""
        found = self._files(data, split)
        locations = [
            (files[0].path if len(files) == 1 else self.directory / name, None)
            if number is None
            else location_in(files, number, data.layout)
            for name, files in zip(_listed(data, split), found, strict=True)
        ]
        if len(locations) == 1:
            return Location(*locations[0])
        return Location(" and ".join(str(path) if line is None else f"{path}:{line}" for path, line in locations))

    def _files(self, data: Data, split: str) -> list[list[DataFile]]:
        """The files of each file name of a split; a name with `{field}` can stand for several files."""
        found = [self._find(name) for name in _listed(data, split)]
        if [] in found:
            raise self._missing(data, split)
        return found

    def has(self, data: Data, split: str) -> bool:
        """Whether the directory has the files of a split."""
        return split in data.local and all(self._find(name) for name in _listed(data, split))

    def _find(self, name: str) -> list[DataFile]:
        """Find `superglue/RTE/val.jsonl` with or without its first folder, plain or gzipped, complete or shortened.

        Raises:
            DataError: the name leads out of the data directory, or several copies of the file match.
        """
        relative = Path(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise DataError(f"data files must be in the data directory, but the task has {name!r}", self.directory)
        for candidate in _candidates(relative):
            files = [
                DataFile(path, fields)
                for expanded, fields in _expanded(self.directory, candidate.parts)
                if (path := _existing(expanded, folder=name.endswith("/")))
            ]
            if files:
                return files
        return []

    def _missing(self, data: Data, split: str) -> MissingData:
        """The error for a split without files, with the file names that were tried and the splits that exist."""
        name = next(name for name in _listed(data, split) if not self._find(name))
        present = ", ".join(other for other in data.local if self.has(data, other))
        advice = f"; --split and --fewshot-split take another split, and there is {present}" if present else ""
        looked_for = " or ".join(map(str, _candidates(Path(name))))
        return MissingData(f"there is no file {looked_for} for the split {split!r}{advice}", self.directory)


class HubSource:
    """Data sets on the Hugging Face Hub, loaded with `datasets`, which runs no code of repositories."""

    label = "hub"

    def holds(self, data: Data) -> bool:
        """Whether the task has a data set on the Hub."""
        return data.hub is not None

    def records(self, data: Data, split: str) -> Iterable[Record]:
        """Load a split, which is downloaded unless it is cached.

        Raises:
            MissingData: the task has no data set on the Hub, or the Hub does not have it.
            DataError: the data set cannot be loaded.
        """
        if data.hub is None:
            raise MissingData("the task names no data set on the Hub; pass --data-dir")
        import datasets
        import huggingface_hub

        huggingface_hub.logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # no message for each retry
        try:
            name = data.hub.splits.get(split, split)
            rows = datasets.load_dataset(data.hub.path, data.hub.name, split=name, revision=data.hub.revision)
        except Exception as error:  # `datasets` raises many types of errors
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            kind = MissingData if isinstance(error, datasets.exceptions.DatasetNotFoundError) else DataError
            raise kind(
                f"{_on_the_hub(data.hub, split)} cannot be loaded: {reason}; "
                "--data-dir reads an official release from disk, --data sample the bundled sample"
            ) from error
        return rows  # type: ignore[no-any-return]

    def location(self, data: Data, split: str, number: int | None) -> Location:  # noqa: ARG002
        """The name of the data set, without a line."""
        return Location(_on_the_hub(data.hub, split) if data.hub else None)


class MemorySource:
    """Records in memory, by split."""

    label = "memory"

    def __init__(self, splits: Mapping[str, Iterable[Record]]) -> None:
        self._splits = {split: list(records) for split, records in splits.items()}

    def holds(self, data: Data) -> bool:  # noqa: ARG002
        """True, because records in memory are always used."""
        return True

    def records(self, data: Data, split: str) -> Iterable[Record]:  # noqa: ARG002
        """The records of one split."""
        if split not in self._splits:
            raise UnknownName("split", split, self._splits)
        return self._splits[split]

    def location(self, data: Data, split: str, number: int | None) -> Location:  # noqa: ARG002
        """An empty location."""
        return Location()


def _on_the_hub(hub: Hub, split: str) -> str:
    return f"the Hub's {hub.path!r} ({f'{hub.name}, ' if hub.name else ''}split {split})"


def _listed(data: Data, split: str) -> Sequence[str]:
    names = data.local[split]
    return [names] if isinstance(names, str) else names


def _candidates(relative: Path) -> list[Path]:
    return [relative, Path(*relative.parts[1:])] if len(relative.parts) > 1 else [relative]


def _expanded(directory: Path, parts: Sequence[str]) -> list[tuple[Path, dict[str, str]]]:
    """The paths that match a name with `{field}`, sorted, with the values of the fields.

    A field matches one or more characters within a part of the path. Hidden files do not match.
    """
    found: list[tuple[Path, dict[str, str]]] = [(directory, {})]
    for number, part in enumerate(parts, start=1):
        if "{" not in part:
            found = [(path / part, fields) for path, fields in found]
            continue
        matches = (
            (path / name, {**fields, **values})
            for path, fields in found
            if path.is_dir()
            for each in path.iterdir()
            if part[0] == "." or each.name[0] != "."
            for name, values in _matched(part, each, is_last=number == len(parts))
        )
        found = sorted(dict(matches).items())
    return found


def _matched(part: str, path: Path, *, is_last: bool) -> Iterator[tuple[str, dict[str, str]]]:
    """The name and the fields if a file matches a part of a path with `{field}`; otherwise nothing.

    For a gzipped or shortened copy, the name is that of the complete file.

    Raises:
        DataError: matching takes too long, because there are many fields.
    """
    pattern = "(.+?)".join(map(re.escape, re.split(r"\{\w+\}", part)))
    plain = path.name.removesuffix(".gz") if is_last else path.name
    whole = re.sub(rf"{EDITION}(?=\.[^.]*$|$)", "", plain) if is_last else plain
    for name in dict.fromkeys([whole, plain, path.name]):
        try:
            match = regex.fullmatch(pattern, name, timeout=PATTERN_SECONDS)
        except TimeoutError as error:
            raise DataError(
                f"matching {part!r} takes more than {PATTERN_SECONDS:g} s; use fewer fields", path
            ) from error
        if match:
            yield name, dict(zip(re.findall(r"\{(\w+)\}", part), match.groups(), strict=True))
            return


def _existing(path: Path, *, folder: bool) -> Path | None:
    """The file with a name, or a gzipped or shortened copy; a folder only if `folder` is set. None if missing."""
    if folder and path.is_dir():
        return path
    candidates = (path, path.with_name(f"{path.name}.gz"))
    return next((each for each in candidates if each.is_file()), None) or next(iter(_editions(path)), None)


def _editions(path: Path) -> list[Path]:
    """Copies of a missing file: `train.first1000.jsonl` or `train.jsonl.first1000` for `train.jsonl`.

    Raises:
        DataError: there are several copies.
    """
    inside, after = re.escape(path.stem) + EDITION + re.escape(path.suffix), re.escape(path.name) + EDITION
    name = re.compile(rf"({inside}|{after})(\.gz)?")
    found = sorted(each for each in path.parent.glob("*") if name.fullmatch(each.name))
    if len(found) > 1:
        raise DataError(
            f"{' and '.join(each.name for each in found)} are both copies of {path.name}; keep one", path.parent
        )
    return found


def _aligned(paths: Sequence[Path], layout: Layout) -> Iterator[Record]:
    """The records of several files, merged in parallel."""
    columns = [list(read_files([DataFile(path)], layout)) for path in paths]
    if len({len(rows) for rows in columns}) > 1:
        counts = ", ".join(f"{path.name} has {len(rows)}" for path, rows in zip(paths, columns, strict=True))
        raise DataError(f"line-aligned files must have the same number of records, but {counts}", paths[0].parent)
    for number, rows in enumerate(zip(*columns, strict=True), start=1):
        names = [name for row in rows for name in row]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"several line-aligned files have the field {twice!r} (record {number})", paths[0].parent)
        yield {name: value for row in rows for name, value in row.items()}
