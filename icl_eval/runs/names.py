"""The names by which task files call what the package has: metrics and published numbers."""

from __future__ import annotations

from pathlib import Path

from icl_eval.errors import UnknownName
from icl_eval.metrics import METRICS, check_kind
from icl_eval.metrics.evaluate_library import PREFIX
from icl_eval.references import reference_names
from icl_eval.tasks import Task
from icl_eval.tasks.located import Place, load_yaml


def check_names(task: Task) -> None:
    """Find every metric and reference of a task.

    Raises, with file and line:
        UnknownName: there is no such metric or reference.
        MetricError: a metric measures another kind of answers than the task's.
    """
    for index, name in enumerate(task.definition.metrics):
        if name.startswith(PREFIX):
            continue
        line = _line(task.path, ("metrics", index))
        if name not in METRICS:
            raise UnknownName("metric", name, METRICS, task.path, line)
        check_kind(METRICS[name], task.definition.answer, task.path, line)
    check_reference(task.definition.reference, task.path)


def check_reference(reference: str | None, path: Path | None) -> None:
    """Raise `UnknownName`, with file and line, unless a reference is None or exists."""
    if reference is not None and reference not in reference_names():
        raise UnknownName("reference", reference, reference_names(), path, _line(path, ("reference",)))


def _line(path: Path | None, place: Place) -> int | None:
    return load_yaml(path).lines.get(place) if path is not None else None
