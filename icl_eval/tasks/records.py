"""Raw records to canonical examples, by a task's field mapping."""

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
    """The examples of a split. A record with an id becomes an example when it is first looked at.

    An iteration looks at all of them before it begins.

    Args:
        definition: the task.
        records: raw records in either layout.
        name: what to call the split in error messages.
        location_of: the file and line of a raw record, counted from 1, or with None of the whole split.

    Attributes:
        ids: of all examples, in their order.
        groups: the same of their groups.

    Raises:
        DataError: the split is empty, or two records have the same id. When an example is looked at: a field or label
            is missing or out of range. The error has the file and line of the record, or else its number.
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
        self._found: list[Any] = []  # records, and examples in place of those that were looked at
        self._complete = False  # whether all were
        self._taken: Sequence[int | None]  # for each example, the raw record that it was made of, if that is known
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
        else:  # ids are hashes of content
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
        """The results of a step for each record; its errors name the file and line of the record."""
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
        except KeyError:  # it is a path into the record, a template, or missing
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
        """Records without an id are named by content; repeated content gets a number, and remains one cluster."""
        seen: Counter[str] = Counter()
        for index, id in enumerate(self.ids):
            seen[id] += 1
            if seen[id] > 1:
                name = f"{id}-{seen[id]}"
                group = name if self.groups[index] == id else self.groups[index]
                self._found[index] = replace(self[index], id=name, group=group)
                self.ids[index], self.groups[index] = name, group

    def _fault(self, error: DataError, index: int) -> DataError:
        """An error with the file and line of an example's record."""
        taken = self._taken[index]
        advice = ""
        if isinstance(error, MissingFieldError):
            file = self._raw.location_of(None).path
            advice = _name_advice(self._definition, error.field) or _header_advice(self._definition, file, taken)
        message = error.message + advice
        return self._raw.fault(message, taken, index + 1)


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Suspend the collection of cyclic garbage, which visits every object of the process repeatedly.

    For loops that make many objects and no cycles.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def ids_of(examples: Sequence[Example]) -> Sequence[str]:
    """The ids of examples, for which those of a split need no conversion."""
    return examples.ids if isinstance(examples, Examples) else [each.id for each in examples]


def groups_of(examples: Sequence[Example]) -> Sequence[str]:
    """The groups of examples, for which those of a split need no conversion."""
    return examples.groups if isinstance(examples, Examples) else [each.group for each in examples]


def _name_advice(definition: TaskDefinition, field: str) -> str:
    """What to write where a name of `fields` stands for a field of the record, in words; otherwise nothing."""
    path = definition.fields.get(field, field)
    if path == field:
        return ""
    return (
        f"; `fields` defines {field!r} for prompts and `options` only, and other keys read the record: write {path!r}"
    )


def _header_advice(definition: TaskDefinition, file: Path | str | None, taken: int | None) -> str:
    """What to do where the first record of a table lacks a field: the table may have no header."""
    path = str(file or "").removesuffix(".gz")
    if taken != 1 or definition.data.columns or not path.endswith((".csv", ".tsv")):
        return ""
    named = [*definition.fields.values(), definition.gold and definition.gold.field, definition.references]
    columns = dict.fromkeys(name for name in [definition.id, *named] if name and "{{" not in name)
    return f"; if the first line is a record, list {', '.join(columns)} in their order in the task file: `data.columns`"


class _RawRecords:
    """An iteration over raw records that knows the file and line of the current one."""

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
        """The number of the last raw record; None once all are taken, since an adapter may take all of them first."""
        return None if self.ended else self.taken

    def fault(self, message: str, taken: int | None, made: int) -> DataError:
        """What is wrong with a record.

        Args:
            message: the fault.
            taken: which raw record it is; None where an adapter had taken all of them before it made this one.
            made: which one it is of those that an adapter made.
        """
        location = self.location_of(taken)
        if location.line is not None:
            return DataError(f"{message} ({self.name})", location.path, location.line)
        record = f"record {made}, as converted" if taken is None else f"record {taken}"
        if location.path is None:
            return DataError(f"{self.name}, {record}: {message}")
        return DataError(f"{record}: {message} ({self.name})", location.path)

    def words(self, taken: int | None) -> str:
        """A raw record, in a sentence about another."""
        if taken is None:
            return "another record"
        line = self.location_of(taken).line
        return f"record {taken}" if line is None else f"line {line}"


def _adapted(adapter: str, raw: _RawRecords) -> Iterator[Mapping[str, Any]]:
    if adapter not in ADAPTERS:
        raise UnknownName("data adapter", adapter, ADAPTERS)
    return _guarded(ADAPTERS[adapter](raw), raw)


def _guarded(records: Iterator[dict[str, Any]], raw: _RawRecords) -> Iterator[dict[str, Any]]:
    """The records of an adapter, whose exceptions become `DataError`."""
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
