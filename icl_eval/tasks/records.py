"""Raw records to canonical examples, by a task's field mapping."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from icl_eval.errors import DataError, UnknownName
from icl_eval.prompts import sandbox
from icl_eval.tasks.adapters import ADAPTERS
from icl_eval.tasks.definition import TaskDefinition
from icl_eval.tasks.example import Example, fingerprint
from icl_eval.tasks.sources import Location


def examples(
    definition: TaskDefinition,
    records: Iterable[Mapping[str, Any]],
    name: str,
    place_of: Callable[[int | None], Location] = lambda _: Location(),
) -> list[Example]:
    """Convert the records of one split.

    Args:
        definition: the task.
        records: raw records in either layout.
        name: what to call the split in error messages.
        place_of: where a raw record stands, counted from 1, or with None the split as a whole.

    Raises:
        DataError: the split is empty, a field or label is missing or out of range, or two records have the same id;
            with the file and line of the record, or else its number.
    """
    reading = _Reading(records, name, place_of)
    found: list[Example] = []
    stood: dict[str, int] = {}  # id -> the raw record that had it
    for made, record in enumerate(_adapted(definition, reading), start=1):
        try:
            found.append(_example(definition, record))
        except DataError as error:
            raise reading.fault(error.message + _header_advice(definition, error, reading), made) from error
        if definition.id and found[-1].id in stood:
            raise reading.fault(f"the id {found[-1].id!r} is also that of {reading.words(stood[found[-1].id])}", made)
        stood[found[-1].id] = reading.taken
    if not found:
        raise DataError(f"{name} is empty", place_of(None).path)
    return _number_equal_ids(found)


def _header_advice(definition: TaskDefinition, error: DataError, reading: _Reading) -> str:
    """What to do where the first record of a table lacks a field: the table may have no header."""
    path = str(reading.place_of(None).path or "").removesuffix(".gz")
    if reading.taken != 1 or not path.endswith((".csv", ".tsv")) or not isinstance(error, _MissingFieldError):
        return ""
    named = [*definition.fields.values(), definition.gold and definition.gold.field, definition.references]
    columns = dict.fromkeys(name for name in [definition.id, *named] if name and "{{" not in name)
    header = ("\t" if path.endswith(".tsv") else ",").join(columns)
    return f"; if the first line is a record, write a line with the names of the columns above it: `{header}`"


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

    def fault(self, message: str, made: int) -> DataError:
        """What is wrong with the record at hand; `made` counts what an adapter made of raw ones.

        An adapter that first takes all of them leaves no trace of which raw record the one at hand comes from.
        """
        place = self.place_of(None if self.ended else self.taken)
        if place.line is not None:
            return DataError(f"{message} ({self.name})", place.path, place.line)
        record = f"record {made}, as converted" if self.ended else f"record {self.taken}"
        if place.path is None:
            return DataError(f"{self.name}, {record}: {message}")
        return DataError(f"{record}: {message} ({self.name})", place.path)

    def words(self, taken: int) -> str:
        """A record that was taken before."""
        if self.ended:
            return "another record"
        line = self.place_of(taken).line
        return f"record {taken}" if line is None else f"line {line}"


def _adapted(definition: TaskDefinition, reading: _Reading) -> Iterator[Mapping[str, Any]]:
    adapter = definition.data.adapter
    if adapter is None:
        return iter(reading)
    if adapter not in ADAPTERS:
        raise UnknownName("data adapter", adapter, ADAPTERS)
    return _guarded(ADAPTERS[adapter](reading), reading)


def _example(definition: TaskDefinition, record: Any) -> Example:
    if not isinstance(record, Mapping) or not all(isinstance(name, str) for name in record):
        raise DataError(f"a record is a mapping of names to values, not a {type(record).__name__}")
    fields = {name: _value(path, record) for name, path in definition.fields.items()} or dict(record)
    options, gold = _answers(definition, record, fields)
    digest = _digest(definition, fields, options)
    name = _name(definition.id, record) if definition.id else digest
    group = _name(definition.group, record) if definition.group else name
    return Example(
        id=name,
        fields=fields,
        options=options,
        gold=gold,
        cluster=_name(definition.cluster, record) if definition.cluster else group,
        group=group,
        fingerprint=digest,
    )


def _digest(definition: TaskDefinition, fields: Mapping[str, Any], options: tuple[str, ...]) -> str:
    """The fingerprint of a question; where no mapping says what belongs to it, that is all but answer and id."""
    answers = {definition.gold.field} if definition.gold else set()
    answers |= {definition.references} if definition.references else set()
    besides = {name for name, path in definition.fields.items() if path == definition.references}
    besides |= set() if definition.fields else answers
    if definition.id and len(fields) > len(besides) + 1:  # an id that is all there is, is the question
        besides |= set() if definition.fields else {definition.id}
    try:
        asked = {name: value for name, value in fields.items() if name not in besides}
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
            raise reading.fault(f"the record has no field {error}", made + 1) from error
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            raise reading.fault(f"not in a known layout ({error})", made + 1) from error
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
    if value is None or isinstance(value, Mapping | list | tuple) or value != value:
        raise DataError(f"{path!r} names the record or its group, but it is {value!r}")
    return str(value)


def _answers(
    definition: TaskDefinition, record: Mapping[str, Any], fields: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The options of an example and which of them are right: of references, all or none."""
    if definition.answer != "choice" or definition.gold is None:  # the schema gives every choice its gold key
        references = _references(definition, record)
        return references, tuple(range(len(references))) if _are_right(definition, record) else ()
    options = _options(definition, fields)
    gold = _gold(definition, _value(definition.gold.field, record), len(options))
    if len(options) == 1:
        raise DataError(f"{definition.options!r} lists a single option, and it takes two to choose")
    return options, gold


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


def _gold(definition: TaskDefinition, value: Any, options: int) -> tuple[int, ...]:
    """The indices of the right options: a name, an index, or a list of them."""
    values = value if isinstance(value, list | tuple) else [value]
    if not values:
        raise DataError("no option is marked as right")
    return tuple(_gold_index(definition, each, options) for each in values)


def _gold_index(definition: TaskDefinition, value: Any, options: int) -> int:
    names = (definition.gold and definition.gold.names) or []
    index = _stated_index(value, names)
    if index is None:
        known = names or map(str, range(options))
        raise DataError(str(UnknownName("label", str(value), known)))
    if index == -1:
        raise DataError("the record has no label; is this split's gold public?")
    if not 0 <= index < options:
        raise DataError(f"the label {index} is out of range for {options} options")
    return index


def _stated_index(value: Any, names: list[str]) -> int | None:
    """The index that a label states: by a name, a number or a truth value; -1, like in many data sets, by nothing."""
    name = str(value).lower() if isinstance(value, bool) else str(value)
    if name in names:
        return names.index(name)
    if value is None:
        return -1
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    return int(name) if re.fullmatch(r"-?[0-9]{1,9}", name) else None


def _number_equal_ids(found: list[Example]) -> list[Example]:
    """Records without an id are named by content; repeated content gets a number, and remains one cluster."""
    seen: Counter[str] = Counter()
    numbered = []
    for example in found:
        seen[example.id] += 1
        if seen[example.id] == 1:
            numbered.append(example)
            continue
        name = f"{example.id}-{seen[example.id]}"
        numbered.append(replace(example, id=name, group=name if example.group == example.id else example.group))
    return numbered
