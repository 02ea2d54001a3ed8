"""Write imported tasks into a folder with `tasks`, `prompts` and `data`, and report what became of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import yaml

from icl_eval.errors import IclEvalError, RunError
from icl_eval.importing.lm_eval_scoring import Notes, Parts
from icl_eval.tasks import Library, Task, TaskDefinition

T = TypeVar("T")


@dataclass(frozen=True)
class Imported:
    """What became of a task.

    Attributes:
        name: of the task or suite in the folder.
        how: `whole`, `frozen` or `suite`.
        notes: what became of its keys.
        compared: whether its prompts are those of the other harness; empty if they were not compared.
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
    records: Mapping[str, Sequence[Any]] = MappingProxyType({}),
    others: Mapping[Path, str] = MappingProxyType({}),
) -> Task:
    """Write a task with its prompt, its own records by split, and other files, and read it again.

    Raises:
        RunError: a file with other content stands there.
        IclEvalError: the task is not valid.
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
    return write_checked(files, lambda: Library([out]).task(name))


def write_suite(out: Path, definition: Mapping[str, Any]) -> None:
    """Write a suite file and read it again; errors are those of `write_task`."""
    name = definition["suite"]
    file = out / "tasks" / f"{name}.yaml"
    text = yaml.safe_dump(dict(definition), sort_keys=False, allow_unicode=True, width=110)
    write_checked({file: text}, lambda: Library([out]).suite(name))


def write_checked(files: Mapping[Path, str], check: Callable[[], T]) -> T:
    """Write files; if what they define is not valid, those that are new are removed again."""
    for path, text in files.items():
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise RunError("a file with other content stands here; remove it, or choose another folder", path)
    written = [path for path in files if not path.exists()]
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    try:
        return check()
    except IclEvalError:
        for path in written:
            path.unlink()
        raise
