"""YAML with line numbers: safe, without duplicate keys, every value's place in the file known for error messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from icl_eval.errors import TaskError, UnknownName

Place = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Located:
    """Parsed YAML and the line of each of its keys, by path from the root."""

    path: Path
    data: dict[str, Any]
    lines: Mapping[Place, int]

    def line(self, place: Place) -> int | None:
        """The line of a value, or of the nearest thing around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place)


def load_yaml(path: Path) -> Located:
    """Read one mapping.

    Raises:
        TaskError: the file cannot be read or parsed, has a key twice, or is not a mapping.
    """
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"cannot be read: {error}", path) from error
    lines: dict[Place, int] = {}
    try:
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise TaskError("a task file is a mapping of keys to values", path, 1)
        _locate(root, (), lines, path)
        return Located(path, loader.construct_document(root), lines)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise TaskError(f"the YAML does not parse: {error.problem}", path, line) from error
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
        problem = error.errors()[0]
        place = tuple(problem["loc"])
        while place and place not in located.lines and problem["type"] != "missing":
            place = place[:-1]  # pydantic adds the members of a union that it tried
        raise _explain(model, located, place, problem["type"], problem["msg"], problem["input"]) from error


def _explain(
    model: type[BaseModel], located: Located, place: Place, kind: str, message: str, value: object
) -> TaskError | UnknownName:
    line = located.line(place)
    dotted = ".".join(map(str, place))
    if kind == "extra_forbidden":
        return UnknownName("key", str(place[-1]), _keys(model, place[:-1]), located.path, line)
    if kind == "missing":
        return TaskError(f"the key `{dotted}` is missing", located.path, line)
    if kind == "string_type" and isinstance(value, bool):
        return TaskError(f"`{dotted}`: YAML reads this word as {value}; put it in quotes", located.path, line)
    return TaskError(f"`{dotted}`: {message.removeprefix('Value error, ')}", located.path, line)


def _keys(model: type[BaseModel], place: Place) -> list[str]:
    """The keys that are valid in the mapping at `place`."""
    for part in place:
        field = model.model_fields.get(str(part))
        inner = (
            [t for t in (field.annotation, *getattr(field.annotation, "__args__", ())) if _is_model(t)] if field else []
        )
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _locate(node: yaml.Node, place: Place, lines: dict[Place, int], path: Path) -> None:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _locate(child, (*place, index), lines, path)
    elif isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            inner = (*place, str(key.value))
            if inner in lines:
                raise TaskError(
                    f"the key `{key.value}` stands here and in line {lines[inner]}", path, key.start_mark.line + 1
                )
            lines[inner] = key.start_mark.line + 1
            _locate(child, inner, lines, path)
