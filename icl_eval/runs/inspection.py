"""Looking a task over before any model is asked."""

from __future__ import annotations

from icl_eval.errors import TaskError
from icl_eval.metrics import metric
from icl_eval.runs.evaluation import source_of
from icl_eval.tasks import Library
from icl_eval.testing import check_task


def inspect(library: Library, name: str, data: str) -> str:
    """Check a task, or a suite and that its tasks exist.

    Returns:
        What was looked at, in words.

    Raises:
        IclEvalError: the first thing that is wrong.
    """
    if library.is_suite(name):
        return f"suite of {len(library.suite(name).tasks)} tasks"
    task = library.task(name)
    for each in task.definition.metrics:
        if not each.startswith("evaluate:"):
            metric(each)
    source = source_of(data, unused=task.source is not None)
    try:
        check_task(task, source)
    except AssertionError as error:
        raise TaskError(str(error), task.path) from error
    asked, shown = len(task.evaluation(source)), len(task.demonstrations(source))
    return f"{asked} examples, {shown} to show, prompts {', '.join(task.prompts)}"
