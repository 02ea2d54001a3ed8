"""The result of `contamination`: examples whose n-grams occur in text files, and the file that stores them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from icl_eval.errors import RunError, counted
from icl_eval.results.examples import ExampleResult
from icl_eval.results.files import replace_file
from icl_eval.results.records import Failure, TaskRecord
from icl_eval.tasks import Category
from icl_eval.tasks.files import parse_json
from icl_eval.tasks.located import first_problem

FIELD = "contamination"  # the field of the categories clean and dirty
CLEAN, DIRTY = "clean", "dirty"


class Searched(BaseModel):
    """A task whose n-grams were searched for.

    Attributes:
        task: name of the task.
        split: the evaluated split; empty if it is the task's own.
        ngram: words of an n-gram; a shorter example is searched for as a whole.
        examples: number of examples in the split.
        dirty: number of examples with an n-gram that was found.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    split: str
    ngram: PositiveInt
    examples: PositiveInt
    dirty: NonNegativeInt

    @property
    def categories(self) -> dict[str, int]:
        """The number of clean and of dirty examples, without empty categories."""
        counts = {CLEAN: self.examples - self.dirty, DIRTY: self.dirty}
        return {name: count for name, count in counts.items() if count}


class Overlap(BaseModel):
    """A dirty example.

    Attributes:
        task, id: the example.
        ngram: its first n-gram that was found, as normalised words.
        file, line, offset: where it was found. The offset counts bytes of the decompressed file, up to the n-gram, or
            up to its line in JSON lines.
        ngrams: number of different n-grams of the example that were found.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    id: str
    ngram: str
    file: str
    line: PositiveInt
    offset: NonNegativeInt
    ngrams: PositiveInt


@dataclass(frozen=True)
class Contamination:
    """The overlap of tasks with text files.

    Attributes:
        tasks: the searched tasks.
        overlaps: their dirty examples.
        failures: tasks whose data is missing.
    """

    tasks: tuple[Searched, ...]
    overlaps: tuple[Overlap, ...]
    failures: tuple[Failure, ...] = ()

    def write(self, path: Path) -> None:
        """Write JSON lines: first a line for each task, then a line for each dirty example.

        Raises:
            RunError: the file cannot be written.
        """
        lines: Iterable[BaseModel] = (*self.tasks, *self.overlaps)
        replace_file(path, (f"{each.model_dump_json()}\n" for each in lines), end="")

    def divided(self, records: Iterable[TaskRecord], path: Path) -> tuple[TaskRecord, ...]:
        """Give the searched tasks of a run the categories `clean` and `dirty`; other tasks are unchanged.

        Args:
            records: the tasks of the run.
            path: this file, for messages.

        Raises:
            RunError: no task of the run was searched, or a task had other examples in the search.
        """
        searched = {(each.task, each.split): each for each in self.tasks}
        found = [(record, searched.get((record.task, record.split))) for record in records]
        if found and all(each is None for _, each in found):
            names = ", ".join(dict.fromkeys(each.task for each in self.tasks))
            raise RunError(
                f"this file is about {names}, but the run evaluates none of these tasks on the same split", path
            )
        return tuple(record if each is None else _divided(record, each, path) for record, each in found)

    def labelled(self, results: Iterable[ExampleResult], records: Iterable[TaskRecord]) -> Iterator[ExampleResult]:
        """The examples of a run, with the categories `clean` and `dirty` for the searched tasks."""
        ids: dict[str, set[str]] = {}
        for overlap in self.overlaps:
            ids.setdefault(overlap.task, set()).add(overlap.id)
        divided = {each.task_prompt for each in records if each.by is not None and each.by.field == FIELD}
        for result in results:
            if result.cell.task_prompt not in divided:
                yield result
            else:
                dirty = result.id in ids.get(result.cell.task, ())
                yield result.in_category(DIRTY if dirty else CLEAN)


def _divided(record: TaskRecord, found: Searched, path: Path) -> TaskRecord:
    if found.examples != record.total_examples:
        raise RunError(
            f"{record.task} had {counted(found.examples, 'example')} when it was searched, but has "
            f"{record.total_examples} in the run; search the data of the run",
            path,
        )
    return record.model_copy(update={"by": Category(field=FIELD), "categories": found.categories})


def read_contamination(path: Path) -> Contamination:
    """Read the file that `Contamination.write` writes.

    Raises:
        RunError: the file cannot be read, or a line is damaged.
    """
    tasks: list[Searched] = []
    overlaps: list[Overlap] = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise RunError(f"cannot be read: {error.strerror}", path) from error
    for number, line in enumerate(lines, start=1):
        entry = _entry(line, path, number)
        try:
            if "id" in entry:
                overlaps.append(Overlap.model_validate(entry))
            else:
                tasks.append(Searched.model_validate(entry))
        except ValidationError as error:
            raise RunError(
                f"this line is not from a file of `icl-eval contamination`: {first_problem(error)}", path, number
            ) from error
    if not tasks:
        raise RunError("this file names no task; `icl-eval contamination` writes one that does", path)
    return Contamination(tuple(tasks), tuple(overlaps))


def _entry(line: bytes, path: Path, number: int) -> Mapping[str, Any]:
    try:
        entry = parse_json(line)
    except (ValueError, RecursionError) as error:
        raise RunError(
            "this line is not JSON; give the file that `icl-eval contamination` wrote", path, number
        ) from error
    return entry if isinstance(entry, dict) else {}
