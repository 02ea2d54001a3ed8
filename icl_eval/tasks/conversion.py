"""Conversion of a raw record to an example by a task's field mapping."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from icl_eval.errors import DataError, UnknownName
from icl_eval.prompts import sandbox
from icl_eval.tasks.definition import TaskDefinition
from icl_eval.tasks.example import Example, are_grades, fingerprint

_INDEX = re.compile(r"0|-?[1-9][0-9]{0,8}")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")  # a name of a label that is a number


class MissingFieldError(DataError):
    """A record lacks a field.

    Attributes:
        field: path of the field.
    """

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


def are_records(found: Sequence[Any]) -> bool:
    """Whether all values are mappings with texts as keys."""
    try:
        deque(map("".join, found), maxlen=0)  # fails for keys that are not texts
    except TypeError:
        return False
    return all(issubclass(kind, Mapping) for kind in set(map(type, found)))


def check_mapping(record: Any) -> None:
    """Raise `DataError` if a record is not a mapping with texts as keys."""
    if not are_records([record]):
        raise DataError(f"a record is a mapping of names to values, not a {type(record).__name__}")


class Conversion:
    """Converts records to examples of a task."""

    def __init__(self, definition: TaskDefinition) -> None:
        self._definition = definition
        options = definition.options if isinstance(definition.options, list) else ["{{"]
        self._options = None if any("{{" in option for option in options) else tuple(options)
        answers = {definition.gold.field} if definition.gold else set()
        answers |= {definition.references} if definition.references else set()
        references = {name for name, path in definition.fields.items() if path == definition.references}
        self._besides = references if definition.fields else answers  # fields that are not part of the question
        self._fields = tuple(definition.fields.items())
        self._gold_of_label = lru_cache(1000, typed=True)(partial(_gold, definition))

    def example(self, record: Mapping[str, Any], name: str | None = None, group: str | None = None) -> Example:
        """The example of a record. Its id is `name`, or a hash of the content.

        Raises:
            DataError: a field or label is missing or not valid.
        """
        definition = self._definition
        fields = {name: _value(path, record) for name, path in self._fields} or dict(record)
        options, gold, grades = self._answers(record, fields)
        digest = self._digest(fields, options)
        if name is None:
            name = digest
        if group is None:
            group = record_name(definition.group, record) if definition.group else name
        cluster = record_name(definition.cluster, record) if definition.cluster else group
        category = self._category(record) if definition.by else ""
        return Example(name, fields, options, gold, cluster, group, digest, grades, category)

    def _category(self, record: Mapping[str, Any]) -> str:
        path = self._definition.by.field if self._definition.by else ""
        if not (found := record_name(path, record).strip()):
            raise DataError(f"`by`: {path!r} gives a category without a name")
        return found

    def _answers(
        self, record: Mapping[str, Any], fields: Mapping[str, Any]
    ) -> tuple[tuple[str, ...], tuple[int, ...], tuple[float, ...]]:
        """The options or references of an example, the indices of the right ones, and the grades of options."""
        definition = self._definition
        if definition.answer != "choice" or definition.gold is None:  # the schema requires `gold` for choices
            references = _references(definition, record)
            return references, tuple(range(len(references))) if _are_right(definition, record) else (), ()
        options = self._options or _options(definition, fields)
        label = _value(definition.gold.field, record)
        grades = _grades(label, options) if isinstance(label, Mapping) else ()
        is_remembered = self._options is not None and type(label) in (str, int)
        if grades:
            gold = tuple(index for index, grade in enumerate(grades) if grade == max(grades))
        else:
            gold = self._gold_of_label(label, options) if is_remembered else _gold(definition, label, options)
        if len(options) == 1:
            raise DataError(f"{definition.options!r} lists a single option; a task needs two or more")
        return options, gold, () if {*grades} <= {0, 1} else grades

    def _digest(self, fields: Mapping[str, Any], options: tuple[str, ...]) -> str:
        """The fingerprint of a question; without `fields`, it includes all fields of the record but answer and id."""
        definition, besides = self._definition, self._besides
        if definition.id and not definition.fields and len(fields) > len(besides) + 1:  # if other fields remain
            besides = besides | {definition.id}
        question = {name: value for name, value in fields.items() if name not in besides} if besides else fields
        try:
            return fingerprint(question or fields, options if definition.answer == "choice" else ())
        except UnicodeEncodeError as error:
            raise DataError(f"a text is not valid Unicode: {error.reason}") from error
        except TypeError as error:
            raise DataError(f"{error}; map the fields that prompts need with `fields`") from error


def _value(path: str, record: Mapping[str, Any]) -> Any:
    """The value of a field or dotted path of a raw record, or of a template over it."""
    if "{{" in path:
        try:
            return sandbox.evaluate(path, record, f"the template {path!r}")
        except Exception as error:  # a template can raise any exception
            reason = str(getattr(error, "message", error) or type(error).__name__)  # without the line that jinja2 adds
            raise DataError(f"{path!r} cannot be rendered: {reason}") from error
    if path in record:
        return record[path]
    value: Any = record
    for part in path.split("."):
        if not isinstance(value, Mapping):
            raise DataError(f"{path!r} cannot be read: {part!r} would be in a {type(value).__name__}")
        if part not in value:
            raise MissingFieldError(str(UnknownName("field of the record", part, value)), path)
        value = value[part]
    return value


def record_name(path: str, record: Mapping[str, Any]) -> str:
    """The value of an id, group or cluster as text; raises `DataError` unless it is a text or a number."""
    value = _value(path, record)
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, Mapping | list | tuple) or value != value:
        raise DataError(f"{path!r} must be a text or a number to name the record or its group, but it is {value!r}")
    return str(value)


def _are_right(definition: TaskDefinition, record: Mapping[str, Any]) -> bool:
    """Whether the references are right answers; `gold` can mark them as wrong."""
    if definition.gold is None:
        return True
    return _gold_index(definition, _value(definition.gold.field, record), 2) == 1


def _references(definition: TaskDefinition, record: Mapping[str, Any]) -> tuple[str, ...]:
    """The references in the order of the record; the first one is shown in demonstrations."""
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
        if definition.fields and definition.options.partition(".")[0] not in fields:
            raise DataError(f"`options`: {UnknownName('entry of `fields`', definition.options, fields)}")
        listed = _value(definition.options, fields)
        listed = list(listed) if isinstance(listed, Mapping) else listed  # a mapping of options to labels
        if not isinstance(listed, list | tuple) or not listed:
            raise DataError(f"{definition.options!r} lists no options")
        for each in listed:
            if not _is_text(each):
                raise DataError(f"{definition.options!r} lists {each!r}, which is not a text")
        return tuple(map(str, listed))
    return tuple(_value(option, fields) if "{{" in option else option for option in definition.options or ())


def _is_text(value: Any) -> bool:
    """Whether a value is a text or a number; NaN, which tables have for missing values, is neither."""
    return isinstance(value, str) or (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    )


def _gold(definition: TaskDefinition, value: Any, options: Sequence[str]) -> tuple[int, ...]:
    """The indices of the right options, given by a name, an index, or a list of these."""
    if not isinstance(value, list | tuple):
        return (_gold_index(definition, value, len(options)),)
    if not value:
        raise DataError("no option is marked as right")
    indices = tuple(_gold_index(definition, each, len(options)) for each in value)
    if len(set(indices)) < len(indices):
        raise DataError(
            f"{value!r} has a label twice; marks for each option must be a mapping, as in {{'Paris': 1, 'Rome': 0}}"
        )
    return indices


def _grades(marks: Mapping[Any, Any], options: Sequence[str]) -> tuple[float, ...]:
    """The grades of options in a mapping; missing options have the grade 0.

    Raises:
        DataError: the mapping has an unknown option or a value that is not a grade, or all grades are 0.
    """
    for option, grade in marks.items():
        if option not in options:
            raise DataError(str(UnknownName("option", str(option), options)))
        if not are_grades([grade]):
            raise DataError(f"the option {option!r} has the grade {grade!r}, not a number from 0 (wrong) to 1 (right)")
    found = tuple(float(marks.get(option, 0)) for option in options)
    if not any(found):
        raise DataError("no option is marked as right")
    return found


def _gold_index(definition: TaskDefinition, value: Any, options: int) -> int:
    names = (definition.gold and definition.gold.names) or ()
    if isinstance(value, bool) and not names and definition.answer == "choice":
        raise DataError(
            f"the label is {str(value).lower()}, but which option does that mean? List the names in the order of the "
            'options, as in `gold.names: ["false", "true"]`'
        )
    index = _index_of_name(value, names)
    if index is None:
        index = _stated_index(value, names)
    if index is None:
        known = names or map(str, range(options))
        advice = "" if names else "; if labels have names, list them in the order of the options: `gold.names`"
        raise DataError(f"{UnknownName('label', str(value), known)}{advice}")
    if index == -1:
        raise DataError("the record has no label; the labels of this split may not be public")
    if not 0 <= index < options:
        raise DataError(f"the label {index} is out of range for {options} options")
    return index


def _index_of_name(value: Any, names: Sequence[str]) -> int | None:
    """The index of the name that a label equals: numbers by value, truth values regardless of letter case."""
    if isinstance(value, bool):
        matches = [name.casefold() == str(value).casefold() for name in names]
    elif isinstance(value, int | float):
        matches = [_NUMBER.fullmatch(name) is not None and float(name) == value for name in names]
    else:
        matches = [name == str(value) for name in names]
    return matches.index(True) if value is not None and any(matches) else None


def _stated_index(value: Any, names: Sequence[str]) -> int | None:
    """The index for a label that is none of the names but a number; -1 for a missing label, as in many data sets.

    If a name is a number, other numbers are not indices. A truth value is an index only without names.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return -1
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if names and isinstance(value, bool):
        return None
    index = int(value) if isinstance(value, int) or _INDEX.fullmatch(str(value)) else None
    return index if index == -1 or not any(map(_NUMBER.fullmatch, names)) else None
