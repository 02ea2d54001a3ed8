"""Writes imported tasks into a folder with `tasks`, `prompts` and `data`, and reports on each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import yaml

from icl_eval.errors import IclEvalError, RunError, TaskError
from icl_eval.importing.lm_eval_scoring import Notes, Parts
from icl_eval.tasks import Library, Task, TaskDefinition

T = TypeVar("T")


@dataclass(frozen=True)
class Imported:
    """A report on an imported task or suite.

    Attributes:
        name: name of the task or suite in the folder.
        how: `whole`, `frozen` or `suite`.
        notes: how its keys were converted.
        compared: whether its prompts equal those of the other harness; empty if they were not compared.
    """

    name: str
    how: str
    notes: Notes = field(default_factory=Notes)
    compared: str = ""

    def __str__(self) -> str:
        notes = (
            ("carried over", self.notes.carried),
            ("changed", self.notes.changed),
            ("not carried over", self.notes.lost),
        )
        lines = [f"  {label}: {'; '.join(dict.fromkeys(each))}" for label, each in notes if each]
        return "\n".join(
            [f"{self.name}: {self.how}", *lines, *([f"  prompts: {self.compared}"] if self.compared else [])]
        )


def write_task(
    out: Path,
    parts: Parts,
    origin: Path,
    records: Mapping[str, Sequence[Any]] = MappingProxyType({}),
    others: Mapping[Path, str] = MappingProxyType({}),
) -> Task:
    """Write a task with its prompt and its records, and load it.

    Args:
        out: the folder.
        parts: the task and its prompt.
        origin: the imported file, for messages.
        records: records of the task by split, if it has its own.
        others: further files and their contents.

    Raises:
        RunError: a file with other content exists, or the folder cannot be written.
        TaskError: the task is not valid.
    """
    name = parts.definition["task"]
    definition = {key: parts.definition[key] for key in TaskDefinition.model_fields if key in parts.definition}
    files = {
        out / "tasks" / f"{name}.yaml": yaml.safe_dump(definition, sort_keys=False, allow_unicode=True, width=110),
        out / "prompts" / name / f"{parts.definition['prompts'][0]}.jinja": parts.prompt_text(),
    }
    files |= others
    for split, rows in records.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        files[out / "data" / parts.definition["data"]["local"][split]] = lines
    return write_checked(files, origin, lambda: Library([out]).task(name))


def write_suite(out: Path, definition: Mapping[str, Any], origin: Path) -> None:
    """Write a suite file and load it; errors are those of `write_task`."""
    name = definition["suite"]
    file = out / "tasks" / f"{name}.yaml"
    text = yaml.safe_dump(dict(definition), sort_keys=False, allow_unicode=True, width=110)
    write_checked({file: text}, origin, lambda: Library([out]).suite(name))


def write_checked(files: Mapping[Path, str], origin: Path, check: Callable[[], T]) -> T:
    """Write files and return the result of `check`; new files are removed again if anything fails."""
    written: list[Path] = []
    try:
        for path, text in files.items():
            if path.exists() and path.read_bytes() != text.encode():
                raise RunError("a file with other content exists here; remove it, or choose another folder", path)
        for path, text in files.items():
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                written.append(path)
                path.write_bytes(text.encode())
        return check()
    except (IclEvalError, OSError) as error:
        for path in written:
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise RunError(
                f"the imported task cannot be written: {error.strerror or error}", Path(error.filename or origin)
            ) from error
        if error.path in written:
            raise TaskError(f"the task converted from this file is not valid: {error.message}", origin) from error
        raise
