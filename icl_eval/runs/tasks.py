"""Which tasks and suites a run evaluates, on which data; whether the metrics and references that they name exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from icl_eval.config import HUB, SAMPLE
from icl_eval.demos import replaces_options
from icl_eval.errors import MetricError, RunError, TaskError, UnknownName
from icl_eval.metrics import (
    METRIC_NAMES,
    AnyPrediction,
    LikelihoodPrediction,
    Prediction,
    TextPrediction,
    check_examples,
    check_kind,
    check_labels,
    fitting,
    is_unspaced,
    metric,
    takes_any_example,
)
from icl_eval.references import reference_names
from icl_eval.results.run_config import RunConfig
from icl_eval.tasks import (
    Example,
    HubSource,
    Library,
    LocalSource,
    Source,
    SuiteDefinition,
    Task,
    TaskDefinition,
    runs_code,
    split_extraction,
    split_metric_name,
    tasks_of,
)
from icl_eval.tasks.located import Keys, load_yaml
from icl_eval.tasks.metric_names import PYTHON


def given_tasks(wanted: Sequence[str | Task]) -> dict[str, Task]:
    """The tasks that are given as such, by name.

    Raises:
        TaskError: two different ones have the same name.
    """
    found: dict[str, Task] = {}
    for each in wanted:
        if isinstance(each, Task) and found.setdefault(each.name, each) is not each:
            raise TaskError(f"two different tasks are named {each.name!r}")
    return found


def selected(
    names: Sequence[str],
    in_memory: Mapping[str, Task],
    library: Library,
    *,
    trust_remote_code: bool,
    given: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[list[Task], list[SuiteDefinition]]:
    """The tasks of all names, each once, and the suites among them, with metrics and references that exist.

    Args:
        names: of tasks and suites.
        in_memory: tasks that are not looked up.
        library: where the others are.
        trust_remote_code: whether a metric may run code that is not part of the package.
        given: metrics in Python by name, which are trusted.

    Raises:
        UnknownName: there is no task, suite, metric or reference of a name.
        TaskError: a definition is wrong, or a suite averages metrics of different scales.
        MetricError: a metric cannot be used.
    """
    suites: dict[str, SuiteDefinition] = {}
    for name in names:
        if name not in in_memory and library.is_suite(name):
            suites |= library.nested(name)
    for suite in suites.values():
        check_reference(suite.reference, library.files[suite.suite])
    members = {name: tasks_of(suite, suites) for name, suite in suites.items()}
    each_once = dict.fromkeys(chain.from_iterable(members.get(name, [name]) for name in names))
    tasks = [in_memory[name] if name in in_memory else library.task(name) for name in each_once]
    for task in tasks:
        check_names(task)
        _check_code(task, given, trust_remote_code)
    for name, suite in suites.items():
        check_average(suite, [task for task in tasks if task.name in members[name]], library.files[name])
    return tasks, [*suites.values()]


def _check_code(task: Task, given: Mapping[str, Any], trust_remote_code: bool) -> None:
    """Raise `MetricError`, with file and line, for a metric whose code is not trusted or cannot be loaded."""
    definition = task.definition
    for name in filter(runs_code, definition.metric_names):
        where = task.path, _line(task.path, _metric_keys(task, name))
        trust: dict[str, Any] = {"trust_remote_code": trust_remote_code, "given": given}
        found = metric(name, definition.extract, kind=definition.answer, **trust, path=where[0], line=where[1])
        if name.startswith(PYTHON):
            check_kind(found, definition.answer, *where)


def _metric_keys(task: Task, name: str) -> Keys:
    """Where a task file names a metric, which may be taken by several lists of rules."""
    base, names = split_extraction(name)[0], task.definition.metrics
    found = next((each for each in (name, base) if each in names), None)
    return ("metrics",) if found is None else ("metrics", names.index(found))


def with_decoding(
    tasks: Sequence[Task], suites: Sequence[SuiteDefinition], decode: Mapping[str, Any] | None
) -> tuple[list[Task], list[SuiteDefinition]]:
    """Tasks and suites with other decoding; published numbers are dropped from those that it changes.

    Raises:
        RunError: no task has generated answers.
        UnknownName: there is no such option of decoding.
        TaskError: a value cannot be, or not with a task's other ones.
    """
    if not decode:
        return list(tasks), list(suites)
    changed = [task.with_decoding(decode) for task in tasks]
    if all(task.definition.decode is None for task in changed):
        raise RunError(
            f"--decode needs a task with generated answers, and there is only {', '.join(task.name for task in tasks)}"
        )
    other = {task.name for task, before in zip(changed, tasks, strict=True) if task is not before}
    named = {each.suite: each for each in suites}
    plain = [
        each.model_copy(update={"reference": None}) if other & {*tasks_of(each, named)} else each for each in suites
    ]
    return changed, plain


def check_protocol(tasks: Sequence[Task], changes: Mapping[str, Any], fewshot_split: str | None) -> None:
    """Raise `RunError` if options choose demonstrations and no task has any."""
    if changes and all((fewshot_split or task.definition.splits.demonstrations) is None for task in tasks):
        flag = "--fewshot-ids" if "ids" in changes else f"--{next(iter(changes))}"
        names = ", ".join(task.name for task in tasks)
        raise RunError(f"{flag} needs a task with demonstrations, and there is only {names}")


def check_effect(config: RunConfig, most: int) -> None:
    """Raise `RunError` for an option that changes demonstrations, if no prompt has enough of them.

    Args:
        config: of the run.
        most: the largest number of demonstrations in a prompt.
    """
    needed = {**dict.fromkeys(("draw", "select", "encoder", "fewshot_ids", "labels"), 1), "order": 2}
    chosen = {name: getattr(config, name) for name in needed}
    if len(config.labels) == 1 and (config.labels == ("gold",) or replaces_options(config.labels[0])):
        chosen["labels"] = ()  # the options of queries have other texts
    if config.order == ("drawn",):
        chosen["order"] = ()
    for name, least in needed.items():
        if chosen[name] and most < least:
            raise RunError(
                f"`{name}` has no effect: it needs {least} or more demonstrations, and no prompt has more than {most}"
            )


def check_names(task: Task) -> None:
    """Find every metric and reference of a task.

    Raises, with file and line:
        UnknownName: there is no such metric, setting of a metric or reference.
        MetricError: a metric needs a setting, measures another kind of answers than the task's, or knows no wrong
            references.
    """
    for index, name in enumerate(task.definition.metrics):
        if runs_code(name):
            continue
        where = task.path, _line(task.path, ("metrics", index))
        base, _ = split_metric_name(split_extraction(name)[0])
        if base not in METRIC_NAMES:
            these = f"choose from {', '.join(fitting(task.definition.answer))}"
            raise UnknownName("metric", base, METRIC_NAMES, *where, hint=these)
        found = metric(name, task.definition.extract, path=where[0], line=where[1])
        check_kind(found, task.definition.answer, *where)
        if task.definition.answer == "text" and task.definition.gold is not None:
            check_labels(found, *where)
    check_reference(task.definition.reference, task.path)


def check_metrics(
    task: Task,
    examples: Sequence[Example],
    metrics: Sequence[str] | None = None,
    *,
    trust_remote_code: bool,
    given: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Find every metric of a task that cannot measure the answers to these examples, before there are any.

    Args:
        task: the task.
        examples: those that are evaluated.
        metrics: which to check; the task's own by default.
        trust_remote_code: whether a metric may run code that is not part of the package; if not, it is not tried.
        given: metrics in Python by name, which are trusted.

    Raises, with file and line:
        MetricError: a metric needs other examples: one right option each, pairs of them, references in a script that
            it can read, more samples; or what it needs is not installed.
    """
    definition = task.definition

    @cache
    def parts() -> list[list[AnyPrediction]]:
        """All examples, or those of each category if the metric cannot score every subset of them."""
        found: dict[str, list[AnyPrediction]] = {}
        for each in examples:
            found.setdefault(each.category, []).append(_any_answer(each, definition))
        return [*found.values()]

    for name in definition.metric_names if metrics is None else metrics:
        if runs_code(name) and name not in given and not trust_remote_code:
            continue
        try:
            trust: dict[str, Any] = {"trust_remote_code": trust_remote_code, "given": given}
            chosen = metric(name, definition.extract, kind=definition.answer, **trust)
            if not takes_any_example(chosen):
                for predictions in parts():
                    check_examples(chosen, predictions)
        except MetricError as error:
            where = task.path, _line(task.path, _metric_keys(task, name))
            raise MetricError(f"{task.name} cannot be scored with {name}: {error.message}", *where) from error


def _any_answer(example: Example, definition: TaskDefinition) -> AnyPrediction:
    """An answer that any model could give."""
    units = (example.cluster, example.group)
    if definition.answer == "choice":
        return Prediction(example.id, example.options, example.gold, 0, *units, grades=example.grades)
    if definition.answer == "likelihood":
        (text,) = example.options
        counts = (1, len(text.split()), len(text.encode()))
        return LikelihoodPrediction(example.id, -1.0, False, *counts, *units, is_unspaced(text))
    samples = ("",) * (definition.decode.samples if definition.decode else 1)
    return TextPrediction(example.id, "", example.options, *units, bool(example.gold), samples)


def check_reference(reference: str | None, path: Path | None) -> None:
    """Raise `UnknownName`, with file and line, unless a reference is None or exists."""
    if reference is not None and reference not in reference_names():
        raise UnknownName("reference", reference, reference_names(), path, _line(path, ("reference",)))


def check_average(suite: SuiteDefinition, tasks: Iterable[Task], path: Path | None) -> None:
    """Raise `TaskError`, with file and line, where a suite averages metrics of different scales, as of 1 and of 100."""
    if not suite.average:
        return
    named = [(task.name, name) for task in tasks for name in task.definition.primary_metrics]
    by_scale = {
        metric(split_extraction(name)[0]).bounds[1]: f"{name} of {task}" for task, name in named if not runs_code(name)
    }
    if len(by_scale) > 1:
        one, other, *_ = by_scale.values()
        raise TaskError(
            f"{suite.suite} averages {one} with {other}, which are on different scales; set `average: false`",
            path,
            _line(path, ("tasks",)),
        )


def _line(path: Path | None, keys: Keys) -> int | None:
    return load_yaml(path).lines.get(keys) if path is not None else None


SAMPLE_PATH = Path(__file__).resolve().parent.parent / "tiny" / "data"
SAMPLE_NOTE = "sample data of an invented world: these scores are not scores on the benchmarks they are named after"


def source_of(data: str | Path, *, unused: bool = False) -> Source:
    """The source that `hub`, `sample` or a directory stands for.

    Args:
        data: `hub`, `sample`, or a directory, which a `Path` always is.
        unused: whether all tasks have records of their own, so that it need not be there.
    """
    if unused or data == HUB:
        return HubSource()
    return LocalSource(SAMPLE_PATH, label=SAMPLE) if data == SAMPLE else LocalSource(Path(data))
