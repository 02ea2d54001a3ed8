"""Check a task, and show one of its queries, before any model runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Unpack

from icl_eval.config import RunOptions
from icl_eval.errors import IclEvalError, MissingData, RunError, TaskError, UnknownName, WindowError, counted
from icl_eval.metrics.written import as_number
from icl_eval.models import LanguageModel, ModelConfig, about_control_tokens, load
from icl_eval.results.records import Cell
from icl_eval.results.run_config import RunConfig, read_run
from icl_eval.runs.cells import Prepared, categories_of, prepare
from icl_eval.runs.model import chat_of
from icl_eval.runs.requests import EncodedQuery, RequestBuilder
from icl_eval.runs.tasks import check_average, check_effect, check_metrics, check_names, check_reference, source_of
from icl_eval.tasks import (
    Example,
    Library,
    MemorySource,
    Source,
    SyntheticSource,
    Task,
    ids_of,
    split_extraction,
    tasks_of,
)
from icl_eval.tasks.extraction import extract
from icl_eval.tasks.protocol import BY_MODEL
from icl_eval.testing import check_task

SHOTS = (0, 1, 4)
MADE = 100
VARIED = ("select", "labels", "order")
EXCERPT = 40  # characters of a reference in a note
NAMED = 5  # examples that a sentence names


def inspect(
    library: Library,
    name: str,
    data: str | Path,
    split: str | None = None,
    fewshot_split: str | None = None,
    *,
    trust_remote_code: bool = False,
) -> str:
    """Check a task on every record, or a suite without its tasks.

    Args:
        library: where the name is looked up.
        name: the task or suite.
        data: `hub`, `sample`, or a directory.
        split, fewshot_split: evaluated, and with the demonstrations; the task's own by default.
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
        return f"suite of {counted(len(tasks_of(suite, suites)), 'task')}"
    task = library.task(name).on(split, fewshot_split)
    check_names(task)
    source = source_of(data, unused=task.source is not None)
    examples, candidates = _both_splits(task, source)
    task.check_fields(source)
    check_metrics(task, examples, trust_remote_code=trust_remote_code)
    most = _most_shots(candidates, shares_split=task.shares_split)
    try:
        check_task(task, _read(task, source), [shots for shots in SHOTS if shots <= most])
    except AssertionError as error:
        cause = error.__cause__
        raise cause if isinstance(cause, IclEvalError) and cause.path else TaskError(str(error), task.path) from error
    return (
        f"{counted(len(examples), 'example')}, {counted(len(candidates), 'candidate demonstration')}, "
        f"prompts {', '.join(task.prompts)}{_about_categories(task, examples)}"
        f"{_about_options(task, examples)}{_about_numbers(task, examples)}{_about_extraction(task, candidates)}"
    )


def _about_categories(task: Task, examples: Sequence[Example]) -> str:
    """How many categories there are, in words, if the task has any; raises `DataError` for too many."""
    count = len(categories_of(task, examples))
    return f"; {count} {'category' if count == 1 else 'categories'}" if count else ""


def _about_options(task: Task, examples: Sequence[Example]) -> str:
    """How many examples list an option twice, in words; usually nothing."""
    if task.definition.answer != "choice":
        return ""
    repeated = [each.id for each in examples if len(set(each.options)) < len(each.options)]
    verb = "lists" if len(repeated) == 1 else "list"
    return f"; {len(repeated)} {verb} an option twice, such as {repeated[0]!r}" if repeated else ""


def _about_numbers(task: Task, examples: Sequence[Example]) -> str:
    """A note if `number_match` finds no number in any reference, such as a whole solution; usually empty."""
    bases = {split_extraction(name)[0].partition(":")[0] for name in task.definition.metrics}
    references = (reference for each in examples for reference in each.options)
    if "number_match" not in bases or any(isinstance(as_number(reference), Decimal) for reference in references):
        return ""
    return (
        f"; note: number_match compares numbers, but no reference is one, such as {examples[0].options[0][:EXCERPT]!r}"
    )


def _about_extraction(task: Task, candidates: Sequence[Example]) -> str:
    """The rules that find no answer in any demonstration, as a note; usually empty."""
    return "".join(
        f"; note: the rules `{name}` find no answer in any demonstration of the prompt {style}"
        for name, rules in task.definition.extract.items()
        for style, prompt in task.prompts.items()
        if candidates
        and not any(
            extract(prompt.demonstration(each.fields, each.options, each.gold[0]), rules) is not None
            for each in candidates
        )
    )


def check_lengths(
    library: Library,
    name: str,
    model: LanguageModel,
    data: str | Path,
    split: str | None = None,
    fewshot_split: str | None = None,
    model_config: ModelConfig | None = None,
) -> str:
    """Check that every query of a task fits a model's window under each of its prompts; of a suite, nothing.

    The model answers nothing, and needs no weights; `model_config` states whether it is a chat; the other arguments are
    those of `inspect`.

    Returns:
        What a reader of scores must know of the records' control tokens, in words; usually nothing.

    Raises:
        WindowError: queries do not fit, even without demonstrations; the sentence names them.
    """
    if library.is_suite(name):
        return ""
    task = library.task(name)
    config = RunConfig(model=model.name, tasks=(name,), shots=(0,), split=split, fewshot_split=fewshot_split)
    source = source_of(data, unused=task.source is not None)
    controls, names, chat = model.controls, set[str](), chat_of(model, model_config or ModelConfig())
    for style in task.prompts:
        (prepared,) = prepare(task, style, config, source)
        builder, (cell,) = RequestBuilder(prepared, model, "drop", chat), prepared.cells(config.seeds[0])
        long: dict[str, WindowError] = {}
        for example in prepared.examples:
            try:
                builder.build(cell, example, [])
            except WindowError as error:
                long[example.id] = error
        if long:
            raise WindowError(_too_long(name, style, len(prepared.examples), long))
        names |= builder.control_names
    for candidate in task.on(split, fewshot_split).demonstrations(source):
        controls.mark((candidate.fields, candidate.options), names)
    return about_control_tokens(names)


def preview(
    task: Task, model: str, *, id: str | None = None, **options: Unpack[RunOptions]
) -> tuple[EncodedQuery, LanguageModel, str]:
    """A query of a run, the model whose tokenizer encoded it, and a note on control tokens in it, if there are any.

    Args and errors are those of `previews`.
    """
    found, lm, note = previews(task, model, id=id, **options)
    return found[""], lm, note


def previews(
    task: Task, model: str, *, id: str | None = None, **options: Unpack[RunOptions]
) -> tuple[dict[str, EncodedQuery], LanguageModel, str]:
    """A query of a run in each variant, the model whose tokenizer encoded it, and a note on control tokens in it.

    Args:
        task: the task.
        model: name of the model.
        id: of the example; the first one by default.
        options: those of `evaluate`; of shots, seeds and prompts the first is used.

    Returns:
        The query by what is changed in its format, selection, labels and order, first the plain one, `""`; the model;
        the note, if any.

    Raises:
        UnknownName: the task has no such prompt or example.
        IclEvalError: the data or the model cannot be read, or the prompt has not so many formats.
    """
    config, load_config = read_run(model, [task.name], options)
    source = source_of(config.data, unused=task.source is not None)
    variants = prepare(task, config.prompts[0] if config.prompts else None, config, source)
    prepared, seed = variants[0], config.seeds[0]
    check_effect(config, prepared.shots[0])
    ids = ids_of(prepared.examples)
    if id is not None and id not in ids:
        raise UnknownName(f"example of {task.name}", id, ids, hint=f"the first is {ids[0]}")
    example = prepared.examples[0 if id is None else ids.index(id)]
    selections = [each.task.definition.protocol.selection for each in variants]
    for name in (name for name in BY_MODEL if name in selections):
        raise RunError(
            f"{task.name}: with `select: {name}` the model chooses demonstrations, so they are known only after a run"
        )
    lm = load(model, config, load_config)
    found, names = {}, set[str]()
    for each in variants:
        cell = Cell(task.name, each.prompt.style, each.shots[0], seed)
        builder = RequestBuilder(each, lm, config.overflow, chat_of(lm, config))
        drawn = each.pool.draw(example, cell.shots, seed) if each.pool else []
        found[_changes(each, prepared)] = builder.build(cell, example, drawn)
        names |= builder.control_names
    return found, lm, about_control_tokens(names)


def _changes(variant: Prepared, plain: Prepared) -> str:
    """The differences of a variant from the plain prompt, in words."""
    chosen, base = (each.task.definition.protocol for each in (variant, plain))
    changed = [f"{name}={value}" for name in VARIED if (value := getattr(chosen, name)) != getattr(base, name)]
    return ", ".join([*([variant.prompt.format.words] if variant.prompt.format else []), *changed])


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
    """The evaluated examples and the candidate demonstrations. An error names the missing files of both."""
    found, missing = [], []
    for read in (task.evaluation, task.demonstrations):
        try:
            found.append(list(read(source)))
        except MissingData as error:
            missing.append(error)
    if missing:
        raise MissingData("; ".join(dict.fromkeys(error.message for error in missing)), missing[0].path)
    examples, candidates = found
    return examples, candidates


def _read(task: Task, source: Source) -> Source:
    """The records to check: all records of files, but only a few of generated ones, which are alike."""
    if task.source_in(source).label != SyntheticSource.label:
        return source
    split, data = task.definition.splits.evaluation, task.definition.data
    return MemorySource({split: islice(SyntheticSource().records(data, split), MADE)})


def _most_shots(candidates: Sequence[Example], *, shares_split: bool) -> int:
    """The most demonstrations for any query: of the evaluated split, all but those of the query's cluster."""
    clusters = Counter({each.group: each.cluster for each in candidates}.values())
    return clusters.total() - (max(clusters.values()) if shares_split else 0)
