"""Scores from a run folder alone: no model, no data, no task files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from icl_eval.metrics import check_kind, metric
from icl_eval.results.examples import read_examples
from icl_eval.results.manifest import read_finished
from icl_eval.results.members import read_members
from icl_eval.results.records import TaskRecord
from icl_eval.results.result import Result, Sweep
from icl_eval.runs.score import chosen_normalizations, score_examples


def rescore(
    run: str | Path,
    normalizations: str | Sequence[str] = (),
    metrics: str | Sequence[str] = (),
    *,
    trust_remote_code: bool = False,
) -> Result:
    """Take the scores of a finished run again.

    Args:
        run: the folder.
        normalizations: which to score by; each task's own if empty.
        metrics: which to take of the tasks whose kind of answers they measure, in place of the tasks' own.
        trust_remote_code: whether a metric may run code from the Hub.

    Raises:
        RunError: the folder is not that of a finished run, or one of its files is damaged.
        UnknownName: there is no such normalisation or metric.
        MetricError: a metric measures no task of the run, or cannot measure the answers of one.
    """
    path = Path(run)
    manifest = read_finished(path)
    wanted = (metrics,) if isinstance(metrics, str) else tuple(dict.fromkeys(metrics))
    records = _measured(manifest.tasks, wanted, trust_remote_code=trust_remote_code)
    scores = score_examples(
        read_examples(path / "examples.jsonl", records),
        records,
        manifest.suites,
        model_words=manifest.model_words,
        noise=manifest.noise,
        normalizations=chosen_normalizations(normalizations),
        trust_remote_code=trust_remote_code,
    )
    return Result(tuple(scores), manifest, path)


def _measured(
    records: Sequence[TaskRecord], metrics: Sequence[str], *, trust_remote_code: bool
) -> tuple[TaskRecord, ...]:
    """The tasks with these metrics in place of their own; those that none of them measures keep their own."""
    measures = [metric(name, trust_remote_code=trust_remote_code) for name in metrics]
    kinds = {each.name: each.of for each in measures}
    answers = {record.answer for record in records}
    for measure in measures:
        if measure.of not in answers:
            check_kind(measure, min(answers))
    fitting = {answer: tuple(name for name, kind in kinds.items() if kind == answer) for answer in answers}
    return tuple(_with_metrics(record, fitting[record.answer]) for record in records)


def _with_metrics(record: TaskRecord, metrics: tuple[str, ...]) -> TaskRecord:
    """The task with these metrics, if there are any; the first enters averages where its primary one is not taken."""
    primary = tuple(name for name in record.primary if name in metrics) or metrics[:1]
    return record.model_copy(update={"metrics": metrics, "primary": primary}) if metrics else record


def rescore_sweep(
    folder: str | Path,
    normalizations: str | Sequence[str] = (),
    metrics: str | Sequence[str] = (),
    *,
    trust_remote_code: bool = False,
) -> Sweep:
    """Take the scores of all models of a finished sweep again; arguments as for `rescore`.

    Raises:
        RunError: the folder is not that of a sweep, a model is not finished, or a file is damaged.
        ModelError: no model of the sweep could be measured.
        UnknownName: there is no such normalisation or metric.
        MetricError: a metric measures no task of the run, or cannot measure the answers of one.
    """
    path = Path(folder)
    members = read_members(path)
    results = [
        rescore(path / member.folder, normalizations, metrics, trust_remote_code=trust_remote_code)
        for member in members
        if member.failed is None
    ]
    return Sweep.of(results, members, path)
