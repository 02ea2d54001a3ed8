"""Check a task and show one of its prompts, without running a model."""

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
from icl_eval.runs.cells import PreparedTask, categories_of, prepare
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

SHOTS = (0, 1, 4)  # numbers of demonstrations with which prompts are checked, if there are enough candidates
GENERATED = 100  # examples of a synthetic task that are checked
VARIED = ("select", "labels", "order")
EXCERPT = 40  # characters of a reference in a note
LISTED = 5  # ids of examples in a message


def inspect(
    library: Library,
    name: str,
    data: str | Path,
    split: str | None = None,
    fewshot_split: str | None = None,
    *,
    trust_remote_code: bool = False,
) -> str:
    """Check a task with all of its records, or the definition of a suite.

    Args:
        library: where the name is looked up.
        name: of the task or suite.
        data: `hub`, `sample`, or a directory.
        split, fewshot_split: the evaluated split and that of the demonstrations; the task's own by default.
        trust_remote_code: whether to try metrics that run code, such as those of the `evaluate` library.

    Returns:
        A summary of what was checked, such as `200 examples, 100 candidate demonstrations, prompts plain`.

    Raises:
        MissingData: files of the task are missing; the message names the missing files of both splits.
        IclEvalError: the first error that was found.
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
        f"{_about_shots(task, most)}{_about_options(task, examples)}{_about_numbers(task, examples)}"
        f"{_about_extraction(task, candidates)}"
    )


def _about_categories(task: Task, examples: Sequence[Example]) -> str:
    """The number of categories, in words; empty if the task has none. Raises `DataError` if there are too many."""
    count = len(categories_of(task, examples))
    return f"; {count} {'category' if count == 1 else 'categories'}" if count else ""


def _about_shots(task: Task, most: int) -> str:
    """A note if there are fewer candidates than the task's default number of demonstrations; otherwise empty."""
    shots = task.definition.own_shots
    return f"; note: it has {shots} shots by default, but candidates for {most}" if shots > most else ""


def _about_options(task: Task, examples: Sequence[Example]) -> str:
    """How many examples list an option twice, or with other white space, in words; empty if none does."""
    if task.definition.answer != "choice":
        return ""
    repeated = [each.id for each in examples if len(set(each.options)) < len(each.options)]
    trimmed = [each.id for each in examples if len({o.strip() for o in each.options}) < len(set(each.options))]
    return "".join(
        f"; {len(ids)} {'lists' if len(ids) == 1 else 'list'} {what}, such as {ids[0]!r}"
        for ids, what in ((repeated, "an option twice"), (trimmed, "options that differ only in white space"))
        if ids
    )


def _about_numbers(task: Task, examples: Sequence[Example]) -> str:
    """A note if the task uses `number_match` but no reference is a number; otherwise empty."""
    bases = {split_extraction(name)[0].partition(":")[0] for name in task.definition.metrics}
    references = (reference for each in examples for reference in each.options)
    if "number_match" not in bases or any(isinstance(as_number(reference), Decimal) for reference in references):
        return ""
    return (
        f"; note: number_match compares numbers, but no reference is one, such as {examples[0].options[0][:EXCERPT]!r}"
    )


def _about_extraction(task: Task, candidates: Sequence[Example]) -> str:
    """A note on extraction rules that find no answer in any demonstration; otherwise empty."""
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
    """Check that every query of a task fits the context length with each of its prompts. For a suite, do nothing.

    The model computes nothing and needs no weights. `model_config` says whether prompts are conversations. The other
    arguments are those of `inspect`.

    Returns:
        A note on control tokens in the records; empty if there are none.

    Raises:
        WindowError: queries do not fit even without demonstrations; the message names them.
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
    """The encoded query of one example, the model whose tokenizer encoded it, and a note on its control tokens.

    Arguments and errors are those of `previews`.
    """
    found, lm, note = previews(task, model, id=id, **options)
    return found[""], lm, note


def previews(
    task: Task, model: str, *, id: str | None = None, **options: Unpack[RunOptions]
) -> tuple[dict[str, EncodedQuery], LanguageModel, str]:
    """The encoded query of one example in all variants, the model that encoded it, and a note on its control tokens.

    Args:
        task: the task.
        model: name of the model.
        id: of the example; the first example by default.
        options: those of `evaluate`; only the first of shots, seeds and prompts is used.

    Returns:
        The query of each variant, by the changes of its format, selection, labels and order; the plain query is first,
        with the key `""`. Then the model, and the note, which is empty if there are no control tokens.

    Raises:
        UnknownName: the task does not have this prompt or example.
        IclEvalError: the data or the model cannot be read, or the prompt has fewer formats than requested.
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
    for name in (each for each in BY_MODEL if each in selections):
        raise RunError(
            f"{task.name}: with `select: {name}` the model selects demonstrations, so they are known only after a run"
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


def _changes(variant: PreparedTask, plain: PreparedTask) -> str:
    """What a variant changes compared with the plain prompt, in words."""
    chosen, base = (each.task.definition.protocol for each in (variant, plain))
    changed = [f"{name}={value}" for name in VARIED if (value := getattr(chosen, name)) != getattr(base, name)]
    return ", ".join([*([variant.prompt.format.words] if variant.prompt.format else []), *changed])


def _too_long(name: str, style: str, examples: int, long: Mapping[str, WindowError]) -> str:
    """A message with the number of queries that do not fit, their ids, and the first error."""
    ids = [*map(repr, list(long)[:LISTED]), *(["..."] if len(long) > LISTED else [])]
    return (
        f"{name}, prompt {style!r}: {len(long)} of {examples} queries do not fit the model ({', '.join(ids)}); "
        f"the first is {next(iter(long.values())).message}"
    )


def with_members(library: Library, names: Iterable[str], within: frozenset[str] = frozenset()) -> list[str]:
    """Names of tasks and suites without duplicates, each suite after its members.

    The members of a suite whose file is wrong are not listed; checking the suite reports the error.

    Args:
        library: where the names are looked up.
        names: of tasks and suites.
        within: suites that contain these names; their own members are not listed again.
    """
    found: dict[str, None] = {}
    for name in [name for name in names if name not in within]:
        try:
            members = library.suite(name).tasks if library.is_suite(name) else []
        except IclEvalError:  # `inspect` raises it again
            members = []
        found |= dict.fromkeys([*with_members(library, members, within | {name}), name])
    return list(found)


def _both_splits(task: Task, source: Source) -> tuple[list[Example], list[Example]]:
    """The evaluated examples and the candidate demonstrations; raises `MissingData` with the missing files of both."""
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
    """The source of the records to check: all records of files, but only the first `GENERATED` of synthetic ones."""
    if task.source_in(source).label != SyntheticSource.label:
        return source
    split, data = task.definition.splits.evaluation, task.definition.data
    return MemorySource({split: islice(SyntheticSource().records(data, split), GENERATED)})


def _most_shots(candidates: Sequence[Example], *, shares_split: bool) -> int:
    """How many demonstrations every query can have; if they are in the evaluated split, not those of its cluster."""
    clusters = Counter({each.group: each.cluster for each in candidates}.values())
    return clusters.total() - (max(clusters.values()) if shares_split else 0)
