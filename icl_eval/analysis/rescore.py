"""`rescore`: compute scores from a run folder, without the model, the data or the task files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from icl_eval.analysis.score import chosen_normalizations, score_examples
from icl_eval.errors import MetricError, RunError, TaskError
from icl_eval.metrics import AnyMetric, Kind, check_kind, metric
from icl_eval.results.contamination import read_contamination
from icl_eval.results.examples import read_examples
from icl_eval.results.manifest import read_finished
from icl_eval.results.members import read_members
from icl_eval.results.records import TaskRecord
from icl_eval.results.result import Result, Sweep
from icl_eval.tasks import named_metrics, split_extraction
from icl_eval.tasks.extraction import RulesByName
from icl_eval.tasks.located import first_problem, load_yaml
from icl_eval.tasks.metric_names import GivenMetric, MetricName

RULES: TypeAdapter[RulesByName] = TypeAdapter(RulesByName)
NAME: TypeAdapter[str] = TypeAdapter(MetricName)


def rescore(
    run: str | Path,
    normalizations: str | Sequence[str] = (),
    metrics: GivenMetric | Sequence[GivenMetric] = (),
    *,
    extract: Mapping[str, Sequence[Any]] | None = None,
    reasoning_end: str | None = None,
    contamination: str | Path | None = None,
    trust_remote_code: bool = False,
) -> Result:
    """Recompute the scores of a finished run.

    Args:
        run: the run folder.
        normalizations: normalisations and calibrations to score by; each task's own if empty.
        metrics: names, functions or classes of metrics, which replace those of the tasks whose answers they fit.
        extract: lists of extraction rules by name, as in a task file, which replace those of all tasks with generated
            answers.
        reasoning_end: text that ends the reasoning in generated texts, such as `</think>`, instead of the tasks' own.
        contamination: a file of `contamination`; clean and dirty examples are then scored separately.
        trust_remote_code: whether metrics may run code that is not part of icl-eval.

    Raises:
        RunError: the folder does not contain a finished run, or one of its files is damaged.
        UnknownName: a normalisation or metric does not exist.
        MetricError: a metric fits no task of the run, or cannot score the answers of a task.
    """
    path = Path(run)
    manifest = read_finished(path)
    chosen = ChosenMetrics.of(metrics, trust_remote_code)
    tasks = manifest.tasks if extract is None else _with_rules(manifest.tasks, extract)
    records = chosen.applied(tasks if reasoning_end is None else _with_reasoning_end(tasks, reasoning_end))
    results = read_examples(path / "examples.jsonl", records, manifest.examples_digest)
    if contamination is not None:
        found = read_contamination(Path(contamination))
        records = found.divided(records, Path(contamination))
        results = found.labelled(results, records)
    scores = score_examples(
        results,
        records,
        manifest.suites,
        model_words=manifest.model_words,
        noise=manifest.noise,
        normalizations=chosen_normalizations(normalizations),
        trust_remote_code=trust_remote_code,
        given=chosen.given,
    )
    return Result(tuple(scores), manifest, path)


def rules_in(path: Path) -> dict[str, Any]:
    """Read the lists of extraction rules in a task file.

    Raises:
        TaskError: the file cannot be read, or has no `extract`.
    """
    found = load_yaml(path).data.get("extract")
    if not isinstance(found, dict):
        raise TaskError("this file has no mapping `extract` of names to lists of rules", path)
    return found


def _with_rules(records: Sequence[TaskRecord], extract: Mapping[str, Sequence[Any]]) -> tuple[TaskRecord, ...]:
    """The tasks with other extraction rules. Metrics of generated answers are computed for each list of rules.

    Raises:
        RunError: a rule is wrong, or no task has generated texts.
    """
    try:
        rules = RULES.validate_python(dict(extract))
    except ValueError as error:
        raise RunError(f"`extract`: {first_problem(error)}") from error
    _check_texts(records, "extract")
    return tuple(_extracting(record, rules) if record.answer == "text" else record for record in records)


def _with_reasoning_end(records: Sequence[TaskRecord], reasoning_end: str) -> tuple[TaskRecord, ...]:
    """The tasks with another text that ends the reasoning; if it is empty, whole texts are answers.

    Raises:
        RunError: no task has generated texts.
    """
    _check_texts(records, "reasoning_end")
    update = {"reasoning_end": reasoning_end or None}
    return tuple(record.model_copy(update=update) if record.answer == "text" else record for record in records)


def _check_texts(records: Sequence[TaskRecord], argument: str) -> None:
    """Raise `RunError` if no task has generated texts, to which an argument applies."""
    if all(record.answer != "text" for record in records):
        names = ", ".join(dict.fromkeys(record.task for record in records))
        raise RunError(f"`{argument}` extracts answers from generated texts, but {names} has none")


def _extracting(record: TaskRecord, rules: RulesByName) -> TaskRecord:
    """A task whose metrics are computed for each list of rules."""
    bases = dict.fromkeys(split_extraction(name)[0] for name in record.metrics)
    metrics = tuple(f"{name}@{each}" for name in bases for each in rules) or tuple(bases)
    first = next(iter(rules), None)
    primary = tuple(
        f"{split_extraction(name)[0]}@{first}" if first else split_extraction(name)[0] for name in record.primary
    )
    return record.model_copy(update={"extract": rules, "metrics": metrics, "primary": primary})


@dataclass(frozen=True)
class ChosenMetrics:
    """Metrics that replace those of the tasks.

    Attributes:
        names: names of the metrics; empty to keep each task's own.
        given: functions and classes among them, by name.
        trust_remote_code: whether the others may run code that is not part of icl-eval.
    """

    names: tuple[str, ...]
    given: Mapping[str, Any]
    trust_remote_code: bool

    @classmethod
    def of(cls, metrics: GivenMetric | Sequence[GivenMetric], trust_remote_code: bool) -> ChosenMetrics:
        """Read one metric or several, as names, functions or classes.

        Raises:
            MetricError: a value is not a metric.
        """
        listed = metrics if isinstance(metrics, Sequence) and not isinstance(metrics, str) else [metrics]
        names, given = named_metrics(listed)
        try:
            return cls(tuple(dict.fromkeys(map(NAME.validate_python, names))), given, trust_remote_code)
        except ValueError as error:
            raise MetricError(f"`metrics`: {first_problem(error)}") from error

    def applied(self, records: Sequence[TaskRecord]) -> tuple[TaskRecord, ...]:
        """The tasks with these metrics. Tasks that none of them fits keep their own.

        Raises:
            UnknownName: a metric does not exist, or no task has the extraction rules in its name.
            MetricError: a metric fits no task.
        """
        rules = {name: each for record in records for name, each in record.extract.items()}
        kinds = {record.answer for record in records}
        for name in self.names if kinds else ():
            found = [self._metric(name, rules, kind) for kind in sorted(kinds)]
            if not any(each.of in kinds for each in found):
                check_kind(found[0], min(kinds))
        return tuple(_with_metrics(record, self._fitting(record)) for record in records)

    def _metric(self, name: str, rules: Mapping[str, Any], kind: Kind) -> AnyMetric:
        return metric(name, rules, kind=kind, given=self.given, trust_remote_code=self.trust_remote_code)

    def _fitting(self, record: TaskRecord) -> tuple[str, ...]:
        """The metrics that fit a task: for its kind of answer, and with extraction rules that it has."""
        named = [name for name in self.names if split_extraction(name)[1] in (None, *record.extract)]
        return tuple(name for name in named if self._metric(name, record.extract, record.answer).of == record.answer)


def _with_metrics(record: TaskRecord, metrics: tuple[str, ...]) -> TaskRecord:
    """The task with these metrics, if there are any. The first one is primary if no primary metric is among them."""
    primary = tuple(name for name in record.primary if name in metrics) or metrics[:1]
    return record.model_copy(update={"metrics": metrics, "primary": primary}) if metrics else record


def rescore_sweep(
    folder: str | Path,
    normalizations: str | Sequence[str] = (),
    metrics: GivenMetric | Sequence[GivenMetric] = (),
    *,
    extract: Mapping[str, Sequence[Any]] | None = None,
    reasoning_end: str | None = None,
    contamination: str | Path | None = None,
    trust_remote_code: bool = False,
) -> Sweep:
    """Recompute the scores of all models of a finished sweep. Arguments are those of `rescore`.

    Raises:
        RunError: the folder does not contain a sweep, a model is not finished, or a file is damaged.
        ModelError: no model of the sweep could be measured.
        UnknownName: a normalisation or metric does not exist.
        MetricError: a metric fits no task of the run, or cannot score the answers of a task.
    """
    path = Path(folder)
    members = read_members(path)
    results = [
        rescore(
            path / member.folder,
            normalizations,
            metrics,
            extract=extract,
            reasoning_end=reasoning_end,
            contamination=contamination,
            trust_remote_code=trust_remote_code,
        )
        for member in members
        if member.failed is None
    ]
    return Sweep.of(results, members, path)
