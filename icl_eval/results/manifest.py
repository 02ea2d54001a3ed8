"""The manifest of a run, `manifest.json`: its configuration, tasks and model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

import icl_eval
from icl_eval.errors import RunError
from icl_eval.models import about_control_tokens
from icl_eval.models.options import is_endpoint
from icl_eval.results.records import Failure, Stopped, TaskRecord
from icl_eval.results.run_config import RunConfig
from icl_eval.results.score import VARIANT
from icl_eval.tasks import SuiteDefinition, tasks_of
from icl_eval.tasks.located import first_problem

SWEEP = "sweep.json"  # the file that a sweep has instead of a manifest
GRID = {
    "shots",
    "seeds",
    "limit",
    "until",
    "prompts",
    "formats",
    "budget",
    "overflow",
    "calibrate",
    "content_free",
    "per_shot_loss",
    "metrics",
}
"""Options that may differ between runs in the same folder."""


class Manifest(BaseModel):
    """The content of `manifest.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: RunConfig
    note: str | None  # a warning that is printed above the scores
    model_name: str
    model_fingerprint: str
    model_words: str  # words of the signature that describe the model
    window: int
    prefix_sharing_limit: str = ""  # why prefixes are not shared, or not all of them; empty if all are
    noise: float | None = None  # arithmetic noise of the log-probability of a token in nats; None if unknown
    control_names: tuple[str, ...] = ()  # names in records that the model read as control tokens, not as text
    parameters: int | None = None  # number of parameters of the model; None if unknown
    tasks: tuple[TaskRecord, ...]  # tasks with scores
    failures: tuple[Failure, ...] = ()  # tasks without scores
    suites: tuple[SuiteDefinition, ...]
    versions: dict[str, str]
    device: str
    threads: int
    started: str
    finished: str | None = None
    seconds: float | None = None
    computed: int | None = None  # answers that were computed in the last invocation
    reused: int | None = None  # answers that were read from the journal
    processes: int = 1  # number of processes that shared the work
    examples_digest: str | None = None  # SHA-256 of `examples.jsonl`

    def identity(self) -> dict[str, str | int | None]:
        """Name, revision and number of parameters of the model, for tables of sweeps."""
        return {"model": self.model_name, "revision": self.config.revision, "parameters": self.parameters}

    @property
    def training_step(self) -> int | None:
        """The training step in a revision such as `step1000`; None for other revisions."""
        digits = (self.config.revision or "").removeprefix("step")
        return int(digits) if self.config.revision == f"step{digits}" and digits.isdecimal() else None

    @property
    def control_note(self) -> str:
        """A sentence about names in records that the model read as control tokens; empty if there are none."""
        return about_control_tokens(self.control_names)

    @property
    def stopping_notes(self) -> list[str]:
        """A sentence for each task that says where `until` stopped its evaluation."""
        found: dict[str, list[tuple[TaskRecord, Stopped]]] = {}
        for record in self.tasks:
            if record.stopped is not None:
                found.setdefault(record.task, []).append((record, record.stopped))
        return [_stopping_note(task, records) for task, records in found.items()]

    @property
    def search_notes(self) -> list[str]:
        """A sentence for each prompt for which the search found no better or no worse format."""
        if self.config.budget is None:
            return []
        found: dict[tuple[str, str], str] = {}  # names of the formats by task and prompt
        for record in self.tasks:
            prompt, *rest = record.prompt.split(VARIANT)
            found[record.task, prompt] = found.get((record.task, prompt), "") + (rest[0] if record.format else "")
        failed = {each.task for each in self.failures}
        lines = []
        for (task, prompt), formats in found.items():
            missing = [word for role, word in (("-best", "better"), ("-worst", "worse")) if role not in formats]
            if missing and task not in failed:
                lines.append(f"{task}: the search found no {' or '.join(missing)} format than {prompt}")
        return lines

    def tasks_of(self, suite: SuiteDefinition) -> list[str]:
        """The tasks of a suite and of its nested suites, without duplicates."""
        return tasks_of(suite, {each.suite: each for each in self.suites})

    def claim(self) -> dict[str, Any]:
        """What all runs in a folder have in common: the configuration without the grid. A served model may move."""
        shared = self.config.model_dump(exclude=GRID)
        return shared | {"model": self.model_fingerprint} if is_endpoint(self.config.model) else shared


def _stopping_note(task: str, records: Sequence[tuple[TaskRecord, Stopped]]) -> str:
    """How many examples of a task were evaluated, and how precisely its scores are known."""
    record, rule = records[0]
    width = max(stopped.half_width for _, stopped in records)
    if record.examples == record.total_examples:
        early = f"before its {rule.metric} was known to ±{rule.until:g}"
        return f"{task}: all {record.total_examples:,} examples were evaluated {early} (--until)"
    known = f"its {rule.metric} on all {record.total_examples:,} is known to ±{width:.3f} (95 %, at any stopping time)"
    if width > rule.until:
        return (
            f"{task}: all {record.examples:,} examples of --limit were evaluated; {known}, not yet to ±{rule.until:g}"
        )
    return f"{task}: stopped after {record.examples:,} examples, because {known}"


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a run folder.

    Raises:
        RunError: the manifest is missing or damaged.
    """
    file = path / "manifest.json"
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except OSError as error:
        if (path / SWEEP).is_file():
            raise RunError(
                "this folder contains a sweep; the run of each model is in a folder inside it", path
            ) from error
        why = f"{file.name} cannot be read ({error.strerror})" if path.exists() else "it does not exist"
        raise RunError(f"this is not a run folder: {why}", path) from error
    except ValidationError as error:
        raise RunError(_why_unreadable(file, error), file) from error


def _why_unreadable(file: Path, error: ValidationError) -> str:
    """The error of a manifest; says so if another version of icl-eval wrote it, which may have other fields."""
    damage = f"the manifest is damaged: {first_problem(error)}"
    try:
        version = json.loads(file.read_bytes())["versions"]["icl-eval"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return damage
    return damage if version == icl_eval.__version__ else f"{damage}; icl-eval {version} wrote it, not this version"


def read_finished(path: Path) -> Manifest:
    """Read the manifest of a finished run.

    Raises:
        RunError: the manifest is missing or damaged, or the run is not finished.
    """
    manifest = read_manifest(path)
    if manifest.finished is None:
        raise RunError("this run is not finished; the same command continues it", path)
    return manifest
