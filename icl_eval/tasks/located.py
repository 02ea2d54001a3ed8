"""Safe YAML with line numbers for messages. Duplicate keys are errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from icl_eval.errors import TaskError, UnknownName

Keys = tuple[str | int, ...]
MAX_VALUES = 10_000  # in a file, with aliases expanded; files may come from untrusted sources
MAX_DEPTH = 20
MAX_EXCERPT = 60  # characters of a value in a message
MEMBER = re.compile(
    r"str|int|float|bool|none|.*\[.*"
)  # members of a union, which pydantic adds to the keys of an error
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Located:
    """Parsed YAML with the line of each value, by the keys that lead to it."""

    path: Path
    data: dict[str, Any]
    lines: Mapping[Keys, int]
    base: Located | None = None  # the file that this one extends; `data` has the keys of both

    def has(self, keys: Keys) -> bool:
        """Whether a value is in this file or in a file that it extends."""
        return keys in self.lines or (self.base is not None and self.base.has(keys))

    def at(self, keys: Keys) -> tuple[Path, int | None]:
        """The file and line of a value, or of the nearest mapping or list that contains it."""
        while keys and not self.has(keys):
            keys = keys[:-1]
        if keys not in self.lines and self.base is not None:
            return self.base.at(keys)
        return self.path, self.lines.get(keys)


class Loader(yaml.SafeLoader):
    """A loader that rejects deep nesting, because scanning it takes quadratic time."""

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:  # noqa: N803 - PyYAML's name
        """Start a list or mapping, as in PyYAML, unless it is nested too deeply."""
        if self.flow_level >= MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="it is nested too deeply", problem_mark=self.get_mark())
        super().fetch_flow_collection_start(TokenClass)


def load_yaml(path: Path, loader_type: Callable[[str], Loader] = Loader) -> Located:
    """Read a YAML file that contains a mapping.

    Args:
        path: the file.
        loader_type: the loader; another one may support tags.

    Raises:
        TaskError: the file cannot be read or parsed, has a repeated key, or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"cannot be read: {error}", path) from error
    return _parsed(text, path, loader_type)


@lru_cache(maxsize=512)
def _parsed(text: str, path: Path, loader_type: Callable[[str], Loader]) -> Located:
    """Parse the text of a YAML file once per process; callers must not change the result."""
    try:
        loader = loader_type(text)
    except yaml.YAMLError as error:
        raise TaskError(f"cannot be read: {error}", path) from error
    lines: dict[Keys, int] = {}
    try:
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise TaskError("a task file is a mapping of keys to values", path, 1)
        _locate(root, (), lines, path)
        return Located(path, loader.construct_document(root), lines)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise TaskError(f"the YAML does not parse: {error.problem}", path, line) from error
    except ValueError as error:  # a date or number that there is not
        raise TaskError(f"the YAML does not parse: {error}; put such a value in quotes", path) from error
    except RecursionError as error:
        raise TaskError("the YAML is nested too deeply", path) from error
    finally:
        loader.dispose()


def validate(model: type[Model], located: Located) -> Model:
    """Check parsed YAML against a schema.

    Raises:
        TaskError: the first thing that is wrong, with its line; for an unknown key the nearest valid one.
    """
    try:
        return model.model_validate(located.data)
    except ValidationError as error:
        problem = _most_telling(error.errors())
        missing = problem["loc"][-1:] if problem["type"] == "missing" else ()
        keys = _existing(located, problem["loc"][: len(problem["loc"]) - len(missing)])
        raise _explain(
            model, located, (*keys, *missing), problem["type"], _message(problem), problem["input"]
        ) from error


def _explain(
    model: type[BaseModel], located: Located, keys: Keys, kind: str, message: str, value: object
) -> TaskError | UnknownName:
    if not keys:  # a check of the whole names the key that it is about first
        keys = _existing(located, tuple(message.partition("`")[2].partition("`")[0].split(".")))
        return TaskError(message.removeprefix("Value error, "), *located.at(keys))
    path, line = located.at(keys[:-1] if kind == "missing" else keys)
    if kind == "extra_forbidden":
        return UnknownName("key", str(keys[-1]), _keys(model, keys[:-1]), path, line)
    if kind == "missing":
        return TaskError(f"the key {_quoted(keys)} is missing", path, line)
    if kind == "string_type" and isinstance(value, bool | int | float | date):
        what = "word" if isinstance(value, bool) else type(value).__name__
        return TaskError(f"{_quoted(keys)}: YAML reads this {what} as {value}; put it in quotes", path, line)
    if kind == "model_type":
        message = f"this should be a mapping; its valid keys are {', '.join(_keys(model, keys))}"
    elif kind == "dict_type":
        message = "this should be a mapping with names of your choice, as in `name: ...`"
    elif kind == "list_type":
        message = f"{message}, as in `[...]`"
    return TaskError(_about(keys, message, value), path, line)


def _message(problem: ErrorDetails) -> str:
    """The message of a schema error in plain words."""
    if problem["type"] in ("too_short", "string_too_short"):
        return "this is empty"
    if problem["type"] == "string_pattern_mismatch":
        return "a name consists of letters, digits, `_`, `-` and `.`, and begins with a letter or digit"
    return problem["msg"]


def _about(keys: Keys, message: str, value: object) -> str:
    """A message with the keys of a value, and for an item of a list its value."""
    message, excerpt = message.removeprefix("Value error, "), repr(value)
    is_item = bool(keys) and isinstance(keys[-1], int) and not message.startswith(excerpt)
    if len(excerpt) > MAX_EXCERPT:
        excerpt = f"{excerpt[:MAX_EXCERPT]} ..."
    return f"{_quoted(keys)}{f', value {excerpt}' if is_item else ''}: {message}"


def _quoted(keys: Keys) -> str:
    """Keys for a message, without the indices of lists."""
    return f"`{'.'.join(part for part in keys if isinstance(part, str))}`"


def _most_telling(problems: list[ErrorDetails]) -> ErrorDetails:
    """The problem to report: first an unknown key; for a union, the problem of the member that resembles the value."""
    first = next((problem for problem in problems if problem["type"] == "extra_forbidden"), problems[0])
    if isinstance(first["input"], dict | list):
        inner = [p for p in problems[1:] if p["loc"][: len(first["loc"]) - 1] == first["loc"][:-1]]
        return next((p for p in inner if len(p["loc"]) > len(first["loc"])), first)
    return first


def _existing(located: Located, keys: Keys) -> Keys:
    """Keys without the members of unions, which pydantic adds."""
    found: Keys = ()
    for part in keys:
        found = (*found, part) if located.has((*found, part)) else found
    return found


def _keys(model: type[BaseModel], keys: Keys) -> list[str]:
    """The valid keys of the mapping at `keys`, which may lead through lists and mappings with arbitrary keys."""
    for part in keys:
        if str(part) in model.model_fields:
            inner = _models_in(model.model_fields[str(part)].annotation)
            if not inner:
                return []
            model = inner[0]
    return list(model.model_fields)


def _models_in(annotation: object) -> list[type[BaseModel]]:
    """The schemas in the type of a field, also in lists and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _locate(node: yaml.Node, keys: Keys, lines: dict[Keys, int], path: Path) -> None:
    lines.setdefault(keys, node.start_mark.line + 1)
    if len(lines) > MAX_VALUES or len(keys) > MAX_DEPTH:
        raise TaskError("this is too large or too deep for a task file", path, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _locate(child, (*keys, index), lines, path)
    elif isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                message = (
                    f"YAML does not read the key `{key.value}` as text; put it in quotes"
                    if key.id == "scalar"
                    else "a key must be text"
                )
                raise TaskError(message, path, key.start_mark.line + 1)
            inner = (*keys, str(key.value))
            if inner in lines:
                raise TaskError(
                    f"the key `{key.value}` appears here and in line {lines[inner]}", path, key.start_mark.line + 1
                )
            lines[inner] = key.start_mark.line + 1
            _locate(child, inner, lines, path)


def first_problem(error: ValueError) -> str:
    """The first problem of a schema error with its keys, in one line; for other errors, the first line."""
    if not isinstance(error, ValidationError):
        return str(error).splitlines()[0]
    problem = error.errors()[0]
    keys = tuple(part for part in problem["loc"] if not MEMBER.fullmatch(str(part)))
    return _about(keys, _message(problem), problem["input"]) if keys else problem["msg"].removeprefix("Value error, ")
