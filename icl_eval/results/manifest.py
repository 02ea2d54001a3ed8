"""A run's configuration, tasks and model: `manifest.json`."""

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

SWEEP = "sweep.json"  # stands where a manifest does in the folder of a sweep
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
}  # of a configuration: what may change from run to run in a folder


class Manifest(BaseModel):
    """`manifest.json`: the configuration of a run, its model and the versions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: RunConfig
    note: str | None  # what a reader of the scores must know first
    model_name: str
    model_fingerprint: str
    model_words: str  # the signature's words for the model's rules
    window: int
    prefix_sharing_limit: str = ""  # why not all prefixes are shared; empty if they are
    noise: float | None = None  # nats by which batching moves the log-probability of a token; None if it is not known
    control_names: tuple[str, ...] = ()  # what stood in records and reached the model as control tokens, not as text
    parameters: int | None = None  # of the model; None if it does not say
    tasks: tuple[TaskRecord, ...]  # those that have scores
    failures: tuple[Failure, ...] = ()  # those that have none
    suites: tuple[SuiteDefinition, ...]
    versions: dict[str, str]
    device: str
    threads: int
    started: str
    finished: str | None = None
    seconds: float | None = None
    computed: int | None = None  # answers that this invocation computed
    reused: int | None = None  # answers that stood in the journal
    processes: int = 1  # that shared the work

    def identity(self) -> dict[str, str | int | None]:
        """What distinguishes this model in a sweep, and its parameters for a scaling plot."""
        return {"model": self.model_name, "revision": self.config.revision, "parameters": self.parameters}

    @property
    def training_step(self) -> int | None:
        """The step of a revision such as `step1000`; None of any other."""
        digits = (self.config.revision or "").removeprefix("step")
        return int(digits) if self.config.revision == f"step{digits}" and digits.isdecimal() else None

    @property
    def control_note(self) -> str:
        """One sentence on names in records that reached the model as control tokens; empty if there were none."""
        return about_control_tokens(self.control_names)

    @property
    def stopping_notes(self) -> list[str]:
        """For each task, where the rule `until` ended its evaluation."""
        found: dict[str, list[tuple[TaskRecord, Stopped]]] = {}
        for record in self.tasks:
            if record.stopped is not None:
                found.setdefault(record.task, []).append((record, record.stopped))
        return [_stopping_note(task, records) for task, records in found.items()]

    @property
    def search_notes(self) -> list[str]:
        """The prompts that are themselves the best or the worst format that the search found."""
        if self.config.budget is None:
            return []
        found: dict[tuple[str, str], str] = {}  # by task and prompt, the names of its formats
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
        """The tasks of a suite of the run and of the suites in it, each once."""
        return tasks_of(suite, {each.suite: each for each in self.suites})

    def claim(self) -> dict[str, Any]:
        """What all runs in a folder share: the configuration without its grid; a served model may have another URL."""
        shared = self.config.model_dump(exclude=GRID)
        return shared | {"model": self.model_fingerprint} if is_endpoint(self.config.model) else shared


def _stopping_note(task: str, records: Sequence[tuple[TaskRecord, Stopped]]) -> str:
    """What was evaluated of a task with all its prompts, and what is known of its scores."""
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
    """The manifest of a run folder.

    Raises:
        RunError: there is none, or it is damaged.
    """
    file = path / "manifest.json"
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except OSError as error:
        if (path / SWEEP).is_file():
            raise RunError(
                "this folder holds a sweep: the run of each of its models is in a folder below", path
            ) from error
        why = f"{file.name} cannot be read ({error.strerror})" if path.exists() else "it does not exist"
        raise RunError(f"this is not a run folder: {why}", path) from error
    except ValidationError as error:
        raise RunError(_why_unreadable(file, error), file) from error


def _why_unreadable(file: Path, error: ValidationError) -> str:
    """What is wrong with a manifest: it may be another version's, which has other fields."""
    damage = f"the manifest is damaged: {first_problem(error)}"
    try:
        version = json.loads(file.read_bytes())["versions"]["icl-eval"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return damage
    return damage if version == icl_eval.__version__ else f"{damage}; icl-eval {version} wrote it, not this version"


def read_finished(path: Path) -> Manifest:
    """The manifest of a finished run, whose other files belong to it.

    Raises:
        RunError: there is none, it is damaged, or the run was not finished.
    """
    manifest = read_manifest(path)
    if manifest.finished is None:
        raise RunError("this run is not finished; the same command continues it", path)
    return manifest
