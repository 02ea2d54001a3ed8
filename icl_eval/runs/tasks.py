"""The tasks, suites and data of a run, and checks of their metrics, references and demonstrations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from icl_eval.config import HUB, SAMPLE
from icl_eval.demos import Pool, depends_on_seed, replaces_options
from icl_eval.errors import DataError, MetricError, RunError, TaskError, UnknownName, counted
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
from icl_eval.values import VOTE_K, abstract_words


def given_tasks(wanted: Sequence[str | Task]) -> dict[str, Task]:
    """The `Task` objects among names and tasks, by name.

    Raises:
        TaskError: two different tasks have the same name.
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
    """The tasks and suites with these names. Each task is returned once; their metrics and references exist.

    Args:
        names: of tasks and suites.
        in_memory: tasks by name, which are not looked up in the library.
        library: where all other names are looked up.
        trust_remote_code: whether metrics may run code that is not part of icl-eval.
        given: metrics in Python by name, which are trusted.

    Raises:
        UnknownName: a task, suite, metric or reference does not exist.
        TaskError: a definition is wrong, or a suite averages metrics on different scales.
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
    """The keys that lead to a metric in a task file; extraction rules are not part of its name there."""
    base, names = split_extraction(name)[0], task.definition.metrics
    found = next((each for each in (name, base) if each in names), None)
    return ("metrics",) if found is None else ("metrics", names.index(found))


def with_decoding(
    tasks: Sequence[Task], suites: Sequence[SuiteDefinition], decode: Mapping[str, Any] | None
) -> tuple[list[Task], list[SuiteDefinition]]:
    """Tasks and suites with changed options of decoding. What this changes is not compared with published numbers.

    Raises:
        RunError: no task has generated answers.
        UnknownName: decoding has no option of this name.
        TaskError: a value is not valid, or does not agree with the other options of a task.
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
    """Raise `RunError` if options select demonstrations but no task has any."""
    if changes and all((fewshot_split or task.definition.splits.demonstrations) is None for task in tasks):
        flag = "--fewshot-ids" if "ids" in changes else f"--{next(iter(changes))}"
        names = ", ".join(task.name for task in tasks)
        raise RunError(f"{flag} needs a task with demonstrations, and there is only {names}")


def check_effect(config: RunConfig, most: int) -> None:
    """Raise `RunError` if an option changes demonstrations but no prompt has enough of them to show an effect.

    Args:
        config: of the run.
        most: the largest number of demonstrations in a prompt.
    """
    needed = {**dict.fromkeys(("draw", "select", "encoder", "fewshot_ids", "labels", "per_shot_loss"), 1), "order": 2}
    chosen = {name: getattr(config, name) for name in needed}
    if len(config.labels) == 1 and (config.labels == ("gold",) or replaces_options(config.labels[0])):
        chosen["labels"] = ()  # these also change the options of queries
    if config.order == ("drawn",):
        chosen["order"] = ()
    for name, least in needed.items():
        if chosen[name] and most < least:
            raise RunError(
                f"`{name}` has no effect: it needs {least} or more demonstrations, and no prompt has more than {most}"
            )


def check_demonstrations(task: Task, examples: Sequence[Example], pool: Pool | None, shots: int) -> None:
    """Check that there are enough candidates, and that demonstrations can be selected and labelled by the protocol.

    Args:
        task: the task, with the protocol of the run.
        examples: the evaluated examples.
        pool: the candidates; None without demonstrations.
        shots: the largest number of demonstrations.

    Raises:
        DataError: there are fewer candidates than demonstrations, or than `vote-k` annotates.
        RunError: the task lacks what the selection or the labels need, such as options.
    """
    protocol = task.definition.protocol
    if pool is not None:
        _check_size(task.name, pool, shots)
    if protocol.selection == "mdl" and task.definition.answer != "choice":
        raise RunError(f"{task.name} has no options, and `select: mdl` needs the model's probabilities of options")
    if protocol.selection == VOTE_K and task.definition.answer == "likelihood":
        raise RunError(f"{task.name} only scores given texts, but `select: {VOTE_K}` needs answers of the model")
    _check_labels(task, protocol.labels, chain(examples, pool.candidates if pool else ()))


def _check_size(task: str, pool: Pool, shots: int) -> None:
    wanted = counted(shots, "demonstration was", "demonstrations were")
    there = f"there {'is' if pool.size == 1 else 'are'} {pool.size}"
    if shots > pool.size:
        raise DataError(f"{task}: {wanted} requested, but {there} to draw from")
    if pool.protocol.selection != VOTE_K:
        return
    annotated, select = pool.protocol.annotation[0], pool.protocol.select
    if annotated > pool.size:
        raise DataError(
            f"{task}: {select} annotates {counted(annotated, 'candidate')}, but {there}; choose a smaller number, such "
            f"as {VOTE_K}:{max(pool.size // 2, 1)}"
        )
    if shots > annotated:
        raise DataError(f"{task}: {wanted} requested, but {select} annotates {annotated}")


def _check_labels(task: Task, labels: str, examples: Iterable[Example]) -> None:
    if labels == "gold":
        return
    if task.definition.answer != "choice":
        raise RunError(f"{task.name} has no options, so its demonstrations have no labels for `labels: {labels}`")
    if not replaces_options(labels):
        return
    options = {each.options for each in examples}
    if len(options) > 1:
        raise RunError(f"{task.name}: `labels: {labels}` needs the same options for every example")
    words, count = abstract_words(labels), len(next(iter(options)))
    if words is not None and len(words) != count:
        raise RunError(f"{task.name} has {count} options, but `labels: {labels}` has {len(words)} words")


def check_seeds(task: Task, pools: Sequence[Pool | None], config: RunConfig) -> None:
    """Raise `RunError` if there are several seeds, but the run selects the same demonstrations for all of them."""
    draws = any(pool is None or pool.seeds_differ for pool in pools) or any(map(depends_on_seed, config.labels))
    chosen = {"select": ",".join(config.select), "draw": config.draw, "fewshot-ids": ",".join(config.fewshot_ids)}
    option = next((f"--{name} {value}" for name, value in chosen.items() if value), None)
    if option and len(config.seeds) > 1 and not draws and not is_sampled(task):
        raise RunError(
            f"{task.name}: {option} selects the same demonstrations for every seed; give one seed, since several would "
            "count as several draws"
        )


def is_sampled(task: Task) -> bool:
    """Whether answers are sampled, so that they depend on the seed."""
    return task.definition.decode is not None and task.definition.decode.temperature > 0


def check_names(task: Task) -> None:
    """Check that every metric and reference of a task exists and fits its kind of answer.

    Raises, with file and line:
        UnknownName: a metric, a setting of a metric or a reference does not exist.
        MetricError: a metric lacks a required setting, is for another kind of answer, or cannot use references that
            are marked as wrong.
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
    """Check, before the model runs, that every metric of a task can score answers to these examples.

    Args:
        task: the task.
        examples: the evaluated examples.
        metrics: names of the metrics to check; all metrics of the task by default.
        trust_remote_code: whether metrics may run code that is not part of icl-eval; if not, such metrics are skipped.
        given: metrics in Python by name, which are trusted.

    Raises, with file and line:
        MetricError: the examples do not have what a metric needs, such as a single right option, pairs of examples,
            references in a script that it can read, or several samples; or a required package is not installed.
    """
    definition = task.definition

    @cache
    def parts() -> list[list[AnyPrediction]]:
        """Possible answers to the examples, by category, since every category is scored by itself."""
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
    """A possible answer to an example."""
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
    """Raise `UnknownName`, with file and line, if a reference does not exist; None is no reference."""
    if reference is not None and reference not in reference_names():
        raise UnknownName("reference", reference, reference_names(), path, _line(path, ("reference",)))


def check_average(suite: SuiteDefinition, tasks: Iterable[Task], path: Path | None) -> None:
    """Raise `TaskError`, with file and line, if a suite averages metrics on different scales, such as 0-1 and 0-100."""
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
        data: `hub`, `sample`, or a directory; a `Path` is always a directory.
        unused: whether all tasks have their own records; then the directory does not have to exist.
    """
    if unused or data == HUB:
        return HubSource()
    return LocalSource(SAMPLE_PATH, label=SAMPLE) if data == SAMPLE else LocalSource(Path(data))
