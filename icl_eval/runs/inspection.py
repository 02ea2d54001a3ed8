"""Looking a task over before any model is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

from icl_eval.errors import IclEvalError, MissingData, TaskError, WindowError
from icl_eval.models import LanguageModel, about_control_tokens, controls_of
from icl_eval.results.run_config import RunConfig
from icl_eval.runs.cells import prepare
from icl_eval.runs.data import source_of
from icl_eval.runs.names import check_average, check_metrics, check_names, check_reference
from icl_eval.runs.questions import RequestBuilder
from icl_eval.tasks import Example, Library, MemorySource, Source, SyntheticSource, Task, tasks_of
from icl_eval.testing import check_task

SHOTS = (0, 1, 4)
MADE = 100
NAMED = 5  # examples that a sentence names


def inspect(
    library: Library,
    name: str,
    data: str | Path,
    split: str | None = None,
    demonstrations: str | None = None,
    *,
    trust_remote_code: bool = False,
) -> str:
    """Check a task on every record, or a suite without its tasks.

    Args:
        library: where the name is looked up.
        name: the task or suite.
        data: `hub`, `sample`, or a directory.
        split, demonstrations: what is asked and shown instead of the task's own splits.
        trust_remote_code: whether a metric of the `evaluate` library, which runs code, is tried.

    Returns:
        What was looked at, in words.

    Raises:
        MissingData: files of the task are not there; the sentence names those of every split that it needs.
        IclEvalError: the first thing that is wrong.
    """
    if library.is_suite(name):
        suites = library.nested(name)
        suite = suites[name]
        check_reference(suite.reference, library.files[name])
        check_average(suite, map(library.task, tasks_of(suite, suites)), library.files[name])
        return f"suite of {len(tasks_of(suite, suites))} tasks"
    task = library.task(name).on(split, demonstrations)
    check_names(task)
    source = source_of(data, unused=task.source is not None)
    asked, shown = _both_splits(task, source)
    task.check_fields(source)
    check_metrics(task, asked, trust_remote_code=trust_remote_code)
    most = _most_shots(shown, shares_split=task.shares_split)
    try:
        check_task(task, _read(task, source), [shots for shots in SHOTS if shots <= most])
    except AssertionError as error:
        cause = error.__cause__
        raise cause if isinstance(cause, IclEvalError) and cause.path else TaskError(str(error), task.path) from error
    return f"{len(asked)} examples, {len(shown)} to show, prompts {', '.join(task.prompts)}"


def check_lengths(
    library: Library,
    name: str,
    model: LanguageModel,
    data: str | Path,
    split: str | None = None,
    demonstrations: str | None = None,
) -> str:
    """Check that every query of a task fits a model's window under each of its prompts; of a suite, nothing.

    The model answers nothing, and needs no weights; the other arguments are those of `inspect`.

    Returns:
        What a reader of scores must know of the records' control tokens, in words; usually nothing.

    Raises:
        WindowError: queries do not fit, even without demonstrations; the sentence names them.
    """
    if library.is_suite(name):
        return ""
    task = library.task(name)
    ask = RunConfig(model=model.name, tasks=(name,), shots=(0,), split=split, demonstrations=demonstrations)
    source = source_of(data, unused=task.source is not None)
    controls, names = controls_of(model), set[str]()
    for style in task.prompts:
        (prepared,) = prepare(task, style, ask, source)
        questioner, (cell,) = RequestBuilder(prepared, model, "drop"), prepared.cells(ask.seeds[0])
        long: dict[str, WindowError] = {}
        for example in prepared.examples:
            try:
                questioner.ask(cell, example, [])
            except WindowError as error:
                long[example.id] = error
        if long:
            raise WindowError(_too_long(name, style, len(prepared.examples), long))
        names |= questioner.control_names
    for candidate in task.on(split, demonstrations).demonstrations(source):
        controls.mark((candidate.fields, candidate.options), names)
    return about_control_tokens(names)


def _too_long(name: str, style: str, examples: int, long: Mapping[str, WindowError]) -> str:
    """How many queries do not fit, which, and the reason of the first."""
    ids = [*map(repr, list(long)[:NAMED]), *(["..."] if len(long) > NAMED else [])]
    return (
        f"{name}, prompt {style!r}: {len(long)} of {examples} queries do not fit the model ({', '.join(ids)}); "
        f"the first is {next(iter(long.values())).message}"
    )


def with_members(library: Library, names: Iterable[str], within: frozenset[str] = frozenset()) -> list[str]:
    """Names of tasks and suites, each once, every suite after its tasks; one whose file is wrong stands alone.

    Args:
        library: where the names are looked up.
        names: of tasks and suites.
        within: suites whose members these are, which are not taken apart again.
    """
    found: dict[str, None] = {}
    for name in [name for name in names if name not in within]:
        try:
            members = library.suite(name).tasks if library.is_suite(name) else []
        except IclEvalError:  # which inspecting it raises again
            members = []
        found |= dict.fromkeys([*with_members(library, members, within | {name}), name])
    return list(found)


def _both_splits(task: Task, source: Source) -> tuple[list[Example], list[Example]]:
    """The examples to ask and to show; where files are missing, the error names those of both splits."""
    found, missing = [], []
    for read in (task.evaluation, task.demonstrations):
        try:
            found.append(list(read(source)))
        except MissingData as error:
            missing.append(error)
    if missing:
        raise MissingData("; ".join(dict.fromkeys(error.message for error in missing)), missing[0].path)
    asked, shown = found
    return asked, shown


def _read(task: Task, source: Source) -> Source:
    """The records to check: all that are read, and of those that the package makes, which are all alike, a few."""
    if task.source_in(source).label != SyntheticSource.label:
        return source
    split, data = task.definition.splits.evaluation, task.definition.data
    return MemorySource({split: islice(SyntheticSource().records(data, split), MADE)})


def _most_shots(shown: Sequence[Example], *, shares_split: bool) -> int:
    """Demonstrations that there are for every query: of a split that is also asked, all but those of its cluster."""
    clusters = Counter({each.group: each.cluster for each in shown}.values())
    return clusters.total() - (max(clusters.values()) if shares_split else 0)
