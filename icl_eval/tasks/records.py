"""Raw records to canonical examples, by a task's field mapping."""

from __future__ import annotations

import gc
import math
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar, overload

from icl_eval.errors import DataError, UnknownName
from icl_eval.prompts import sandbox
from icl_eval.tasks.adapters import ADAPTERS
from icl_eval.tasks.definition import TaskDefinition
from icl_eval.tasks.example import Example, fingerprint
from icl_eval.tasks.sources import Location

T = TypeVar("T")
_INDEX = re.compile(r"-?[0-9]{1,9}")


class Examples(Sequence[Example]):
    """The examples of a split. A record with an id becomes an example when it is first looked at.

    An iteration looks at all of them before it begins.

    Args:
        definition: the task.
        records: raw records in either layout.
        name: what to call the split in error messages.
        place_of: where a raw record stands, counted from 1, or with None the split as a whole.

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
        place_of: Callable[[int | None], Location] = lambda _: Location(),
    ) -> None:
        self._definition, self._conversion = definition, _Conversion(definition)
        self._reading = _Reading(records, name, place_of)
        self._found: list[Any] = []  # records, and examples in place of those that were looked at
        self._complete = False  # whether all were
        self._taken: Sequence[int | None]  # for each example, the raw record that it was made of, if that is known
        if definition.data.adapter is None:
            with _no_garbage():
                self._found = list(records)
            self._taken = range(1, len(self._found) + 1)
        else:
            self._taken = taken = []
            for record in _adapted(definition.data.adapter, self._reading):
                self._found.append(record)
                taken.append(self._reading.last)
        if not self._found:
            raise DataError(f"{name} is empty", place_of(None).path)
        if not _are_records(self._found):
            self._each(_check_mapping)
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
        """The results of a step for each record, whose error says where the record stands."""
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
        return names if set(map(type, names)) == {str} else self._each(partial(_name, path))

    def _check_ids_differ(self) -> None:
        if len(set(self.ids)) == len(self.ids):
            return
        known: dict[str, int] = {}  # id -> the example that has it
        for index, id in enumerate(self.ids):
            if (first := known.setdefault(id, index)) != index:
                other = self._reading.words(self._taken[first])
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
        """An error, with where the record of an example stands."""
        taken = self._taken[index]
        message = error.message + _header_advice(self._definition, error, self._reading.place_of(None).path, taken)
        return self._reading.fault(message, taken, index + 1)


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Suspend the search for cyclic garbage, which looks at every object of the process time and again.

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


def _header_advice(definition: TaskDefinition, error: DataError, file: Path | str | None, taken: int | None) -> str:
    """What to do where the first record of a table lacks a field: the table may have no header."""
    path = str(file or "").removesuffix(".gz")
    if taken != 1 or definition.data.columns or not path.endswith((".csv", ".tsv")):
        return ""
    if not isinstance(error, _MissingFieldError):
        return ""
    named = [*definition.fields.values(), definition.gold and definition.gold.field, definition.references]
    columns = dict.fromkeys(name for name in [definition.id, *named] if name and "{{" not in name)
    return f"; if the first line is a record, name the columns in the task file: `columns: [{', '.join(columns)}]`"


class _MissingFieldError(DataError):
    """A record lacks a field."""


class _Reading:
    """The raw records as they are taken, and the words for where the one at hand stands."""

    def __init__(self, records: Iterable[Any], name: str, place_of: Callable[[int | None], Location]) -> None:
        self.records, self.name, self.place_of = records, name, place_of
        self.taken, self.ended = 0, False

    def __iter__(self) -> Iterator[Any]:
        for record in self.records:
            self.taken += 1
            yield record
        self.ended = True

    @property
    def last(self) -> int | None:
        """Which raw record was taken last; None once all are, as an adapter that first takes all leaves no trace."""
        return None if self.ended else self.taken

    def fault(self, message: str, taken: int | None, made: int) -> DataError:
        """What is wrong with a record.

        Args:
            message: the fault.
            taken: which raw record it is; None where an adapter had taken all of them before it made this one.
            made: which one it is of those that an adapter made.
        """
        place = self.place_of(taken)
        if place.line is not None:
            return DataError(f"{message} ({self.name})", place.path, place.line)
        record = f"record {made}, as converted" if taken is None else f"record {taken}"
        if place.path is None:
            return DataError(f"{self.name}, {record}: {message}")
        return DataError(f"{record}: {message} ({self.name})", place.path)

    def words(self, taken: int | None) -> str:
        """A raw record, in a sentence about another."""
        if taken is None:
            return "another record"
        line = self.place_of(taken).line
        return f"record {taken}" if line is None else f"line {line}"


def _adapted(adapter: str, reading: _Reading) -> Iterator[Mapping[str, Any]]:
    if adapter not in ADAPTERS:
        raise UnknownName("data adapter", adapter, ADAPTERS)
    return _guarded(ADAPTERS[adapter](reading), reading)


def _are_records(found: Sequence[Any]) -> bool:
    """Whether all are mappings with texts as names."""
    try:
        deque(map("".join, found), maxlen=0)  # fails for names that are no texts
    except TypeError:
        return False
    return all(issubclass(kind, Mapping) for kind in set(map(type, found)))


def _check_mapping(record: Any) -> None:
    if not _are_records([record]):
        raise DataError(f"a record is a mapping of names to values, not a {type(record).__name__}")


class _Conversion:
    """A task's rules for making examples of records, with all that is the same for every record worked out once."""

    def __init__(self, definition: TaskDefinition) -> None:
        self._definition = definition
        options = definition.options if isinstance(definition.options, list) else ["{{"]
        self._options = None if any("{{" in option for option in options) else tuple(options)
        answers = {definition.gold.field} if definition.gold else set()
        answers |= {definition.references} if definition.references else set()
        references = {name for name, path in definition.fields.items() if path == definition.references}
        self._besides = references if definition.fields else answers  # fields that are no part of the question
        self._fields = tuple(definition.fields.items())
        self._gold_of_label = lru_cache(1000, typed=True)(partial(_gold, definition))

    def example(self, record: Mapping[str, Any], name: str | None = None, group: str | None = None) -> Example:
        """The example of a record, which is named by content unless a name is given.

        Raises:
            DataError: a field or label is missing or cannot be.
        """
        definition = self._definition
        fields = {name: _value(path, record) for name, path in self._fields} or dict(record)
        options, gold = self._answers(record, fields)
        digest = self._digest(fields, options)
        if name is None:
            name = digest
        if group is None:
            group = _name(definition.group, record) if definition.group else name
        cluster = _name(definition.cluster, record) if definition.cluster else group
        return Example(name, fields, options, gold, cluster, group, digest)

    def _answers(self, record: Mapping[str, Any], fields: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The options of an example and which of them are right: of references, all or none."""
        definition = self._definition
        if definition.answer != "choice" or definition.gold is None:  # the schema gives every choice its gold key
            references = _references(definition, record)
            return references, tuple(range(len(references))) if _are_right(definition, record) else ()
        options = self._options or _options(definition, fields)
        label = _value(definition.gold.field, record)
        is_remembered = self._options is not None and type(label) in (str, int)
        gold = self._gold_of_label(label, options) if is_remembered else _gold(definition, label, options)
        if len(options) == 1:
            raise DataError(f"{definition.options!r} lists a single option, and it takes two to choose")
        return options, gold

    def _digest(self, fields: Mapping[str, Any], options: tuple[str, ...]) -> str:
        """The fingerprint of a question; where no mapping says what belongs to it, that is all but answer and id."""
        definition, besides = self._definition, self._besides
        if definition.id and not definition.fields and len(fields) > len(besides) + 1:  # all there is, is the question
            besides = besides | {definition.id}
        asked = {name: value for name, value in fields.items() if name not in besides} if besides else fields
        try:
            return fingerprint(asked or fields, options if definition.answer == "choice" else ())
        except UnicodeEncodeError as error:
            raise DataError(f"a text is not valid Unicode: {error.reason}") from error
        except TypeError as error:
            raise DataError(f"{error}; map the fields that prompts need with `fields`") from error


def _guarded(records: Iterator[dict[str, Any]], reading: _Reading) -> Iterator[dict[str, Any]]:
    """An adapter's records; what it stumbles over is the data's fault and named as such."""
    made = 0
    while True:
        try:
            record = next(records)
        except StopIteration:
            return
        except KeyError as error:
            raise reading.fault(f"the record has no field {error}", reading.last, made + 1) from error
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            raise reading.fault(f"not in a known layout ({error})", reading.last, made + 1) from error
        made += 1
        yield record


def _value(path: str, record: Mapping[str, Any]) -> Any:
    """A raw field by dotted path, or a template over the raw record."""
    if "{{" in path:
        try:
            return sandbox.render(sandbox.small(path), record, f"the template {path!r}")
        except Exception as error:  # a template can fail in any way that Python can
            raise DataError(f"{path!r} cannot be rendered: {str(error) or type(error).__name__}") from error
    if path in record:
        return record[path]
    value: Any = record
    for part in path.split("."):
        if not isinstance(value, Mapping):
            raise DataError(f"{path!r} leads into a {type(value).__name__}")
        if part not in value:
            raise _MissingFieldError(str(UnknownName("field of the record", part, value)))
        value = value[part]
    return value


def _name(path: str, record: Mapping[str, Any]) -> str:
    """An id, group or cluster: a text or a number."""
    value = _value(path, record)
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, Mapping | list | tuple) or value != value:
        raise DataError(f"{path!r} names the record or its group, but it is {value!r}")
    return str(value)


def _are_right(definition: TaskDefinition, record: Mapping[str, Any]) -> bool:
    """Whether the references are right answers; so they are where no key says otherwise."""
    if definition.gold is None:
        return True
    return _gold_index(definition, _value(definition.gold.field, record), 2) == 1


def _references(definition: TaskDefinition, record: Mapping[str, Any]) -> tuple[str, ...]:
    """The acceptable texts, in the record's order, the first of them the one to show."""
    path = definition.references or ""
    value = _value(path, record)
    listed = value if isinstance(value, list | tuple) else [value]
    for each in listed:
        if not _is_text(each):
            raise DataError(f"{path!r} gives the reference {each!r}, which is not a text")
        if not str(each).strip():
            raise DataError(f"{path!r} gives a reference without text")
    if not listed or (definition.answer == "likelihood" and len(listed) > 1):
        wanted = "one text" if definition.answer == "likelihood" else "at least one reference"
        raise DataError(f"{path!r} gives {len(listed)} references, but the task needs {wanted}")
    return tuple(map(str, listed))


def _options(definition: TaskDefinition, fields: Mapping[str, Any]) -> tuple[str, ...]:
    if isinstance(definition.options, str):
        listed = _value(definition.options, fields)
        listed = list(listed) if isinstance(listed, Mapping) else listed  # of options to whether they are right
        if not isinstance(listed, list | tuple) or not listed:
            raise DataError(f"{definition.options!r} lists no options")
        for each in listed:
            if not _is_text(each):
                raise DataError(f"{definition.options!r} lists {each!r}, which is not a text")
        return tuple(map(str, listed))
    return tuple(_value(option, fields) if "{{" in option else option for option in definition.options or ())


def _is_text(value: Any) -> bool:
    """Whether a value of a record is a text or a number; what tables have for nothing, NaN, is neither."""
    return isinstance(value, str) or (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    )


def _gold(definition: TaskDefinition, value: Any, options: Sequence[str]) -> tuple[int, ...]:
    """The indices of the right options: a name, an index, a list of them, or a mapping of options to 0 and 1."""
    if isinstance(value, Mapping):
        found = _marked_as_right(value, options)
    elif isinstance(value, list | tuple):
        found = tuple(_gold_index(definition, each, len(options)) for each in value)
    else:
        return (_gold_index(definition, value, len(options)),)
    if not found:
        raise DataError("no option is marked as right")
    return found


def _marked_as_right(marks: Mapping[Any, Any], options: Sequence[str]) -> tuple[int, ...]:
    for option, mark in marks.items():
        if option not in options:
            raise DataError(str(UnknownName("option", str(option), options)))
        if mark not in (0, 1):
            raise DataError(f"the option {option!r} is marked {mark!r}, and only 1 (right) and 0 (wrong) can be scored")
    return tuple(index for index, option in enumerate(options) if marks.get(option))


def _gold_index(definition: TaskDefinition, value: Any, options: int) -> int:
    names = (definition.gold and definition.gold.names) or ()
    index = _stated_index(value, names)
    if index is None:
        known = names or map(str, range(options))
        raise DataError(str(UnknownName("label", str(value), known)))
    if index == -1:
        raise DataError("the record has no label; is this split's gold public?")
    if not 0 <= index < options:
        raise DataError(f"the label {index} is out of range for {options} options")
    return index


def _stated_index(value: Any, names: Sequence[str]) -> int | None:
    """The index that a label states: by a name, a number or a truth value; -1, like in many data sets, by nothing."""
    if names:
        name = str(value).lower() if isinstance(value, bool) else str(value)
        if name in names:
            return names.index(name)
    if value is None:
        return -1
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    return int(value) if _INDEX.fullmatch(str(value)) else None
