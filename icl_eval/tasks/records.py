"""The examples of a split, made from raw records by a task's field mapping."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, overload

from icl_eval.errors import DataError, UnknownName
from icl_eval.tasks.adapters import ADAPTERS
from icl_eval.tasks.conversion import Conversion, MissingFieldError, are_records, check_mapping, record_name
from icl_eval.tasks.definition import TaskDefinition
from icl_eval.tasks.example import Example
from icl_eval.tasks.sources import Location

T = TypeVar("T")


class Examples(Sequence[Example]):
    """The examples of a split. If records have an id, each is converted when it is first accessed.

    An iteration converts all examples before it starts.

    Args:
        definition: definition of the task.
        records: raw records, in the layout of the release or the Hub.
        name: name of the split in messages.
        location_of: returns the file and line of the n-th raw record, counted from 1, or for None of the whole split.

    Attributes:
        ids: ids of all examples, in order.
        groups: groups of all examples, in order.

    Raises:
        DataError: the split is empty, or an id is repeated. When an example is accessed: a field or label is missing or
            out of range. The error has the file and line of the record, or its number.
    """

    def __init__(
        self,
        definition: TaskDefinition,
        records: Iterable[Mapping[str, Any]],
        name: str,
        location_of: Callable[[int | None], Location] = lambda _: Location(),
    ) -> None:
        self._definition, self._conversion = definition, Conversion(definition)
        self._raw = _RawRecords(records, name, location_of)
        self._found: list[Any] = []  # records, or examples if they are converted
        self._complete = False  # whether all are converted
        self._taken: Sequence[int | None]  # number of the raw record of each example; None if unknown
        if definition.data.adapter is None:
            with _no_garbage():
                self._found = list(records)
            self._taken = range(1, len(self._found) + 1)
        else:
            self._taken = taken = []
            for record in _adapted(definition.data.adapter, self._raw):
                self._found.append(record)
                taken.append(self._raw.last)
        if not self._found:
            raise DataError(f"{name} is empty", location_of(None).path)
        if not are_records(self._found):
            self._each(check_mapping)
        if definition.id:
            self.ids = self._names(definition.id)
            self._check_ids_differ()
            self.groups = self._names(definition.group) if definition.group else self.ids
        else:  # ids are hashes of the content
            self._found = self._each(self._conversion.example)
            self.ids, self.groups = [each.id for each in self._found], [each.group for each in self._found]
            self._number_equal_ids()

    def __len__(self) -> int:
        return len(self._found)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[each] for each in range(len(self))[index]]
        found = self._found[index]
        if not isinstance(found, Example):
            try:
                found = self._found[index] = self._conversion.example(found, self.ids[index], self.groups[index])
            except DataError as error:
                raise self._fault(error, range(len(self))[index]) from error
        return found

    def __iter__(self) -> Iterator[Example]:
        if not self._complete:
            with _no_garbage():
                for index in range(len(self)):
                    self[index]
            self._complete = True
        return iter(self._found)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Examples | list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def _each(self, step: Callable[[Any], T]) -> list[T]:
        """Apply a function to each record; errors have the file and line of the record."""
        results = []
        for index, record in enumerate(self._found):
            try:
                results.append(step(record))
            except DataError as error:
                raise self._fault(error, index) from error
        return results

    def _names(self, path: str) -> list[str]:
        """The ids or groups of all records."""
        try:
            names = [record[path] for record in self._found]
        except KeyError:  # a dotted path, a template, or a missing field
            names = []
        return names if set(map(type, names)) == {str} else self._each(partial(record_name, path))

    def _check_ids_differ(self) -> None:
        if len(set(self.ids)) == len(self.ids):
            return
        known: dict[str, int] = {}  # id -> the example that has it
        for index, id in enumerate(self.ids):
            if (first := known.setdefault(id, index)) != index:
                other = self._raw.words(self._taken[first])
                raise self._fault(DataError(f"the id {id!r} is also that of {other}"), index)

    def _number_equal_ids(self) -> None:
        """Number the ids of records with equal content; their cluster stays the same."""
        seen: Counter[str] = Counter()
        for index, id in enumerate(self.ids):
            seen[id] += 1
            if seen[id] > 1:
                name = f"{id}-{seen[id]}"
                group = name if self.groups[index] == id else self.groups[index]
                self._found[index] = replace(self[index], id=name, group=group)
                self.ids[index], self.groups[index] = name, group

    def _fault(self, error: DataError, index: int) -> DataError:
        """The error with the file and line of the record of an example."""
        taken = self._taken[index]
        advice = ""
        if isinstance(error, MissingFieldError):
            file = self._raw.location_of(None).path
            advice = _name_advice(self._definition, error.field) or _header_advice(self._definition, file, taken)
        message = error.message + advice
        return self._raw.fault(message, taken, index + 1)


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Disable the cyclic garbage collector, for loops that create many objects and no cycles.

    The collector would visit every object of the process repeatedly.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def ids_of(examples: Sequence[Example]) -> Sequence[str]:
    """The ids of examples, without converting the records of a split."""
    return examples.ids if isinstance(examples, Examples) else [each.id for each in examples]


def groups_of(examples: Sequence[Example]) -> Sequence[str]:
    """The groups of examples, without converting the records of a split."""
    return examples.groups if isinstance(examples, Examples) else [each.group for each in examples]


def _name_advice(definition: TaskDefinition, field: str) -> str:
    """A hint if a key of the task file uses a name from `fields` instead of a field of the record; otherwise empty."""
    path = definition.fields.get(field, field)
    if path == field:
        return ""
    return (
        f"; `fields` defines {field!r} for prompts and `options` only, and other keys read the record: write {path!r}"
    )


def _header_advice(definition: TaskDefinition, file: Path | str | None, taken: int | None) -> str:
    """A hint if the first record of a table lacks a field, because the table may have no header; otherwise empty."""
    path = str(file or "").removesuffix(".gz")
    if taken != 1 or definition.data.columns or not path.endswith((".csv", ".tsv")):
        return ""
    named = [*definition.fields.values(), definition.gold and definition.gold.field, definition.references]
    columns = dict.fromkeys(name for name in [definition.id, *named] if name and "{{" not in name)
    return f"; if the first line is a record, list {', '.join(columns)} in their order in the task file: `data.columns`"


class _RawRecords:
    """Raw records, with the number of the current one for messages."""

    def __init__(self, records: Iterable[Any], name: str, location_of: Callable[[int | None], Location]) -> None:
        self.records, self.name, self.location_of = records, name, location_of
        self.taken, self.ended = 0, False

    def __iter__(self) -> Iterator[Any]:
        for record in self.records:
            self.taken += 1
            yield record
        self.ended = True

    @property
    def last(self) -> int | None:
        """The number of the last raw record; None at the end, since an adapter may read all records first."""
        return None if self.ended else self.taken

    def fault(self, message: str, taken: int | None, made: int) -> DataError:
        """The error for a record, with its file and line or its number.

        Args:
            message: what is wrong.
            taken: number of the raw record; None if an adapter read all records before it made this one.
            made: number of the record among those that the adapter made.
        """
        location = self.location_of(taken)
        if location.line is not None:
            return DataError(f"{message} ({self.name})", location.path, location.line)
        record = f"record {made}, as converted" if taken is None else f"record {taken}"
        if location.path is None:
            return DataError(f"{self.name}, {record}: {message}")
        return DataError(f"{record}: {message} ({self.name})", location.path)

    def words(self, taken: int | None) -> str:
        """The words for a raw record in a message about another one."""
        if taken is None:
            return "another record"
        line = self.location_of(taken).line
        return f"record {taken}" if line is None else f"line {line}"


def _adapted(adapter: str, raw: _RawRecords) -> Iterator[Mapping[str, Any]]:
    if adapter not in ADAPTERS:
        raise UnknownName("data adapter", adapter, ADAPTERS)
    return _guarded(ADAPTERS[adapter](raw), raw)


def _guarded(records: Iterator[dict[str, Any]], raw: _RawRecords) -> Iterator[dict[str, Any]]:
    """The records of an adapter; its exceptions become `DataError`."""
    made = 0
    while True:
        try:
            record = next(records)
        except StopIteration:
            return
        except KeyError as error:
            raise raw.fault(f"the record has no field {error}", raw.last, made + 1) from error
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            raise raw.fault(f"not in a known layout ({error})", raw.last, made + 1) from error
        made += 1
        yield record
