"""Which tasks and suites are asked, and whether what these name exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from icl_eval.errors import RunError, TaskError
from icl_eval.metrics import metric
from icl_eval.runs.names import check_average, check_names, check_reference
from icl_eval.tasks import Library, SuiteDefinition, Task, tasks_of


def own_tasks(wanted: Sequence[str | Task]) -> dict[str, Task]:
    """The tasks that are given as such, by name.

    Raises:
        TaskError: two different ones have the same name.
    """
    own: dict[str, Task] = {}
    for each in wanted:
        if isinstance(each, Task) and own.setdefault(each.name, each) is not each:
            raise TaskError(f"two different tasks are named {each.name!r}")
    return own


def selected(
    names: Sequence[str], own: Mapping[str, Task], library: Library, *, trust_remote_code: bool
) -> tuple[list[Task], list[SuiteDefinition]]:
    """The tasks of all names, each once, and the suites among them, with metrics and references that exist.

    Args:
        names: of tasks and suites.
        own: tasks that are not looked up.
        library: where the others are.
        trust_remote_code: whether a metric may run code from the Hub.

    Raises:
        UnknownName: there is no task, suite, metric or reference of a name.
        TaskError: a definition is wrong, or a suite averages metrics of different scales.
        MetricError: a metric cannot be used.
    """
    suites: dict[str, SuiteDefinition] = {}
    for name in names:
        if name not in own and library.is_suite(name):
            suites |= library.nested(name)
    for suite in suites.values():
        check_reference(suite.reference, library.files[suite.suite])
    members = {name: tasks_of(suite, suites) for name, suite in suites.items()}
    each_once = dict.fromkeys(chain.from_iterable(members.get(name, [name]) for name in names))
    tasks = [own[name] if name in own else library.task(name) for name in each_once]
    for task in tasks:
        check_names(task)
        for name in task.definition.metrics:
            metric(name, trust_remote_code=trust_remote_code)
    for name, suite in suites.items():
        check_average(suite, [task for task in tasks if task.name in members[name]], library.files[name])
    return tasks, [*suites.values()]


def written(
    tasks: Sequence[Task], suites: Sequence[SuiteDefinition], decode: Mapping[str, Any] | None
) -> tuple[list[Task], list[SuiteDefinition]]:
    """Tasks and suites as they are where answers are written otherwise; no published number is of what that changes.

    Raises:
        RunError: no task is answered in writing.
        UnknownName: there is no such option of decoding.
        TaskError: a value cannot be, or not with a task's other ones.
    """
    if not decode:
        return list(tasks), list(suites)
    changed = [task.written(decode) for task in tasks]
    if all(task.definition.decode is None for task in changed):
        raise RunError(f"--decode says how texts are written, but {', '.join(task.name for task in tasks)} writes none")
    other = {task.name for task, before in zip(changed, tasks, strict=True) if task is not before}
    named = {each.suite: each for each in suites}
    plain = [
        each.model_copy(update={"reference": None}) if other & {*tasks_of(each, named)} else each for each in suites
    ]
    return changed, plain
