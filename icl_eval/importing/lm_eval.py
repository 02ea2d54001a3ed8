"""Import of YAML files of lm-evaluation-harness, as declarative tasks or with records frozen from Python code."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from icl_eval.errors import IclEvalError, TaskError
from icl_eval.importing import lm_eval_package as package
from icl_eval.importing.folder import Imported, write_suite, write_task
from icl_eval.importing.lm_eval_config import Config, Index, read_config
from icl_eval.importing.lm_eval_question import data_of, declared_parts
from icl_eval.importing.lm_eval_scoring import FREEZABLE, check_convertible, own_name
from icl_eval.tasks import Library, Source
from icl_eval.tasks.data import Data

OPERATIONS = {"a": "addition", "s": "subtraction", "m": "multiplication", "c": "composite"}
OTHER_NAMES = {  # names in lm_eval of bundled tasks with other names
    "webqs": "webquestions",
    "wikitext": "wikitext-2",
    "wmt-ro-en-t5-prompt": "translation/wmt16-ro-en",
    **{f"arithmetic_{n}d{key}": f"arithmetic/{n}d-{name}" for n in range(1, 6) for key, name in OPERATIONS.items()},
}


def bundled_counterpart(name: str) -> str | None:
    """The bundled task with the same data as a task of lm_eval; None if there is none."""
    by_letters = {_letters(each): each for each in Library().names()}
    return by_letters.get(_letters(OTHER_NAMES.get(name, name)))


def _letters(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


@dataclass
class LmEvalImport:
    """Imports YAML files of lm-evaluation-harness into one folder.

    Attributes:
        out: the folder.
        source: source of the records of their data sets; None to read no records.
        trust_remote_code: whether Python code that a YAML file refers to may run.
        names: tasks, groups and tags in the YAML files below the folder of a group.
    """

    out: Path
    source: Source | None
    trust_remote_code: bool
    names: Index = field(default_factory=Index)

    def file(self, path: Path) -> list[Imported]:
        """Import a task, or a group with its tasks.

        Raises:
            IclEvalError: the file cannot be imported; the message gives the reason.
        """
        config = read_config(path)
        if config.get("group"):
            self.names = Index.of(path.resolve().parent)
            return self._group(config, ())
        return [self._task(config)]

    def _group(self, config: Config, within: tuple[str, ...]) -> list[Imported]:
        """Import a group and its members; `within` are the names of the groups that contain it."""
        done: list[Imported] = []
        members: list[str] = []
        entries, aggregates = config.get("task", []), config.get("aggregate_metric_list", [])
        if config.keys["group"] in within:
            raise config.error("group", f"the group {config.keys['group']} contains itself")
        if not entries:
            raise config.error("group", f"the group {config.keys['group']} has no tasks")
        for entry in entries if isinstance(entries, list) else [entries]:
            for each in self.names.tags.get(entry, [entry]) if isinstance(entry, str) else [entry]:
                found = self._member(config, each, (*within, config.keys["group"]))
                done += found
                members.append(found[-1].name)
        listed = aggregates if isinstance(aggregates, list) else [aggregates]
        sizes = [each.get("weight_by_size", True) for each in listed]
        average = ("micro" if sizes[0] else "macro") if sizes else False
        name = own_name(config, "group")
        about = f"The group {config.keys['group']} of lm-evaluation-harness."
        definition = {"suite": name, "about": about, "tasks": members, "average": average}
        write_suite(self.out, definition, config.path)
        return [*done, Imported(name, "suite")]

    def _member(self, config: Config, entry: str | dict[str, Any], within: tuple[str, ...]) -> list[Imported]:
        """Import a member of a group, given by a name, or as a task or group with changed keys."""
        overrides = {} if isinstance(entry, str) else dict(entry)
        if overrides.get("group"):
            return self._group(replace(config, keys=overrides), within)
        name = entry if isinstance(entry, str) else str(overrides.pop("task", ""))
        if name not in self.names.files:
            raise config.error(
                "task", f"the group contains {name!r}, which no YAML file below {config.path.parent} defines"
            )
        member = read_config(self.names.files[name])
        if member.get("group"):
            return self._group(member, within)
        return [self._task(replace(member, keys={**member.keys, **overrides}))]

    def _task(self, config: Config) -> Imported:
        try:
            return self._converted(config)
        except IclEvalError as error:
            if bundled := bundled_counterpart(str(config.keys.get("task", ""))):
                message = f"{error.message}; icl-eval has its own task {bundled}"
                raise TaskError(message, error.path, error.line) from error
            raise

    def _converted(self, config: Config) -> Imported:
        check_convertible(config)
        code = next(((key, each) for key, each in config.python() if key.split(".")[0] in FREEZABLE), None)
        if code is None:
            return self._declared(config)
        key = code[0].split(".")[0]
        advice = "--trust-remote-code runs it with the package lm_eval and stores its records"
        if not self.trust_remote_code:
            raise config.error(key, f"`{code[0]}` is Python code; {advice}")
        return self._frozen(config, f"`{code[0]}` is Python code")

    def _declared(self, config: Config) -> Imported:
        try:
            parts = declared_parts(config)
            task = write_task(self.out, parts, config.path)
        except IclEvalError as error:
            if not (self.trust_remote_code and self.source and package.is_installed()):
                raise
            return self._frozen(config, error.message)
        report = "not compared: use --data hub or --data-dir to read records"
        if self.source is not None and not package.is_installed():
            report = "not compared: the package lm_eval is not installed"
        elif self.source is not None:
            try:
                chosen = task.definition.splits
                splits = [each for each in (chosen.evaluation, chosen.demonstrations) if isinstance(each, str)]
                wanted = splits + ([config.get("training_split")] if config.get("training_split") else [])
                records = package.raw_records(task.definition.data, wanted, self.source, package.COMPARED)
                report = package.compared(config, task, records)
            except IclEvalError as error:
                report = f"not compared: {error}"
        return Imported(task.name, "whole", parts.notes, report)

    def _frozen(self, config: Config, why: str) -> Imported:
        """Import a task whose records are made by Python code, with the package lm_eval."""
        if not package.is_installed():
            raise config.error("task", f"{why}, which needs the package lm_eval; install it together with icl-eval")
        if self.source is None:
            raise config.error("task", f"{why}, which needs the records; use --data hub or --data-dir")
        data = Data.model_validate(data_of(config))
        parts, records = package.frozen_parts(config, self.source, data)
        parts.notes.changed.append(f"the records are frozen, because {why}")
        task = write_task(self.out, parts, config.path, records)
        own = {split: list(islice(rows, package.COMPARED)) for split, rows in records.items()}
        raw: Any = None if config.get("custom_dataset") else package.raw_records(data, [*data.local], self.source, None)
        return Imported(task.name, "frozen", parts.notes, package.compared(config, task, raw, own))
