"""Where records come from: files under a data directory, the Hub, or memory."""

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

EDITION = r"\.(first[0-9]+|preprocessed)"  # what a file's name may state about its content, before the suffix


@dataclass(frozen=True, slots=True)
class Location:
    """The file and line of a record or a split.

    Attributes:
        path: the file, or the words for what else it is in; None for what is in memory.
        line: of the file, where records stand on lines.
    """

    path: Path | str | None = None
    line: int | None = None


class Source(Protocol):
    """Something that gives the raw records of a task's split."""

    @property
    def label(self) -> str:
        """The word for the data in manifests and signatures: `hub`, `local`, `sample`, `memory`."""

    def holds(self, data: Data) -> bool:
        """Whether the source has any data of a task. Uses names only, never the network."""

    def records(self, data: Data, split: str) -> Iterable[Record]:
        """The records of one split, in the data set's order."""

    def location(self, data: Data, split: str, number: int | None) -> Location:
        """The file and line of a record of a split, counted from 1, or of the whole split, for error messages."""


class LocalSource:
    """Files under a directory, in the official release's layout or below a folder named after the benchmark."""

    def __init__(self, directory: Path, label: str = "local") -> None:
        self.directory, self.label = directory, label
        if not directory.is_dir():
            raise DataError("there is no such data directory", directory)

    def holds(self, data: Data) -> bool:
        """Whether the files of any of the task's splits are here."""
        return any(self.has(data, split) for split in data.local)

    def records(self, data: Data, split: str) -> Iterator[Record]:
        """Read the file that the task names for `split`, or several line by line.

        Raises:
            UnknownName: the task names no file for this split.
            MissingData: a file is not there.
            DataError: a file is wrong, or line-aligned files do not have equally many records.
        """
        if split not in data.local:
            raise UnknownName("local split", split, data.local, self.directory)
        found = self._files(data, split)
        if isinstance(data.local[split], str):
            return read_files(found[0], data.layout)
        return _aligned([each.path for (each,) in found], data.layout)

    def location(self, data: Data, split: str, number: int | None) -> Location:
        """The file, with the line where records stand on lines; of line-aligned files all."""
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
        """The files of each name that the task gives for a split: several for a name with `{field}`."""
        found = [self._find(name) for name in _listed(data, split)]
        if [] in found:
            raise self._missing(data, split)
        return found

    def has(self, data: Data, split: str) -> bool:
        """Whether the files of a split are there."""
        return split in data.local and all(self._find(name) for name in _listed(data, split))

    def _find(self, name: str) -> list[DataFile]:
        """`superglue/RTE/val.jsonl` is looked for with and without its first folder, plain and gzipped, whole and cut.

        Raises:
            DataError: the name leads out of the data directory, or several files stand for the one that it means.
        """
        relative = Path(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise DataError(
                f"a task's data file must lie under the data directory, but it names {name!r}", self.directory
            )
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
        """The error for a split without files: what was looked for, and which splits there are."""
        name = next(name for name in _listed(data, split) if not self._find(name))
        present = ", ".join(other for other in data.local if self.has(data, other))
        advice = f"; --split and --fewshot-split take another split, and there is {present}" if present else ""
        looked_for = " or ".join(map(str, _candidates(Path(name))))
        return MissingData(f"there is no file {looked_for} for the split {split!r}{advice}", self.directory)


class HubSource:
    """Data sets of the Hugging Face Hub, through `datasets`, which runs no code from a repository."""

    label = "hub"

    def holds(self, data: Data) -> bool:
        """Whether the task names a data set."""
        return data.hub is not None

    def records(self, data: Data, split: str) -> Iterable[Record]:
        """Download or reuse one split.

        Raises:
            MissingData: the task names no data set, or one that the Hub does not have.
            DataError: it cannot be loaded.
        """
        if data.hub is None:
            raise MissingData("the task names no data set on the Hub; pass --data-dir")
        import datasets
        import huggingface_hub

        huggingface_hub.logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # one sentence at the end, not one for every retry
        try:
            name = data.hub.splits.get(split, split)
            rows = datasets.load_dataset(data.hub.path, data.hub.name, split=name, revision=data.hub.revision)
        except Exception as error:  # the Hub fails in many ways; the user needs the same two facts in all of them
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            kind = MissingData if isinstance(error, datasets.exceptions.DatasetNotFoundError) else DataError
            raise kind(
                f"{_on_the_hub(data.hub, split)} cannot be loaded: {reason}; "
                "--data-dir reads an official release from disk, --data sample the bundled sample"
            ) from error
        return rows  # type: ignore[no-any-return]

    def location(self, data: Data, split: str, number: int | None) -> Location:  # noqa: ARG002
        """The data set; its records have no lines."""
        return Location(_on_the_hub(data.hub, split) if data.hub else None)


class MemorySource:
    """Records held in memory, by split."""

    label = "memory"

    def __init__(self, splits: Mapping[str, Iterable[Record]]) -> None:
        self._splits = {split: list(records) for split, records in splits.items()}

    def holds(self, data: Data) -> bool:  # noqa: ARG002
        """True: records in memory are always used."""
        return True

    def records(self, data: Data, split: str) -> Iterable[Record]:  # noqa: ARG002
        """The records of one split."""
        if split not in self._splits:
            raise UnknownName("split", split, self._splits)
        return self._splits[split]

    def location(self, data: Data, split: str, number: int | None) -> Location:  # noqa: ARG002
        """No file."""
        return Location()


def _on_the_hub(hub: Hub, split: str) -> str:
    return f"the Hub's {hub.path!r} ({f'{hub.name}, ' if hub.name else ''}split {split})"


def _listed(data: Data, split: str) -> Sequence[str]:
    names = data.local[split]
    return [names] if isinstance(names, str) else names


def _candidates(relative: Path) -> list[Path]:
    return [relative, Path(*relative.parts[1:])] if len(relative.parts) > 1 else [relative]


def _expanded(directory: Path, parts: Sequence[str]) -> list[tuple[Path, dict[str, str]]]:
    """The paths that a name with `{field}` in it stands for, sorted, and what each field is there.

    A field stands for one or more characters of one part of the path, which is not that of a hidden file.
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
    """The name that a part of a path with `{field}` stands for, and the fields; nothing if this file is another.

    A file may be gzipped or cut. The name is then that of the whole file.

    Raises:
        DataError: there are so many fields that matching takes too long.
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
    """The file of a name, or else a gzipped or shortened copy; a folder only if the name is that of a folder."""
    if folder and path.is_dir():
        return path
    candidates = (path, path.with_name(f"{path.name}.gz"))
    return next((each for each in candidates if each.is_file()), None) or next(iter(_editions(path)), None)


def _editions(path: Path) -> list[Path]:
    """Files that stand for one that is not there: `train.first1000.jsonl` or `train.jsonl.first1000` for `train.jsonl`.

    Raises:
        DataError: there are several.
    """
    inside, after = re.escape(path.stem) + EDITION + re.escape(path.suffix), re.escape(path.name) + EDITION
    name = re.compile(rf"({inside}|{after})(\.gz)?")
    found = sorted(each for each in path.parent.glob("*") if name.fullmatch(each.name))
    if len(found) > 1:
        raise DataError(
            f"{' and '.join(each.name for each in found)} both stand for {path.name}; keep one", path.parent
        )
    return found


def _aligned(paths: Sequence[Path], layout: Layout) -> Iterator[Record]:
    """The records of several files, merged line by line."""
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
