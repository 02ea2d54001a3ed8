"""`explain` and `plan`: count what a run would compute, without computing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from icl_eval.config import RunOptions, takes_options
from icl_eval.engine import Engine, Workload
from icl_eval.errors import IclEvalError, ModelError
from icl_eval.models import LanguageModel, load_meta_model
from icl_eval.models.options import read_options
from icl_eval.results.folder import open_folder
from icl_eval.results.records import Failure
from icl_eval.results.run_config import RunConfig
from icl_eval.runs.cells import PreparedTask
from icl_eval.runs.collect import Queries, requests_of
from icl_eval.runs.cost import Cache, Explanation, Plan
from icl_eval.runs.evaluate import planned
from icl_eval.runs.format_search import before_choices
from icl_eval.runs.model import Model, chat_of
from icl_eval.runs.requests import RequestBuilder
from icl_eval.runs.run import Progress, Run
from icl_eval.tasks import Library, Task

if TYPE_CHECKING:
    from icl_eval.models.meta_model import MetaModel

MODEL_OPTIONS = {"revision", "dtype", "bos", "max_length", "tokenizer", "device", "trust_remote_code"}
CACHE_DTYPES = ("float32", "bfloat16")
COUNTED, SAMPLED = 2**23, 2**22  # tokens: up to COUNTED all requests are counted, beyond that about SAMPLED


@takes_options
def explain(
    model: Model,
    tasks: str | Task | Sequence[str | Task],
    *,
    library: Library | None = None,
    **options: Unpack[RunOptions],
) -> Explanation:
    """Describe what `evaluate` would compute with the same arguments, without computing it.

    Requests whose answers are already in the run folder are counted as cached and cost nothing.

    Raises:
        IclEvalError: no task can be evaluated, or an option is wrong; the message says why in one sentence.
    """
    return explain_run(planned(model, tasks, library, **options))


def explain_run(run: Run) -> Explanation:
    """Describe what evaluating a run would compute.

    Raises:
        IclEvalError: the model cannot be loaded, or every task failed.
    """
    model = run.load()
    prepared = before_choices(run.prepared, run.config)
    with open_folder(run.folder if run.folder is not None and run.folder.is_dir() else None) as folder:
        work, failures = _counted(run, prepared, Engine(model, folder.journal))
    return _explanation(run, model, work, failures)


def _counted(
    run: Run, prepared: Sequence[PreparedTask], engine: Engine, tick: Callable[[int], None] = lambda _: None
) -> tuple[Workload, tuple[Failure, ...]]:
    """The workload of all queries of some tasks, and the tasks that fail.

    Raises:
        IclEvalError: every task failed.
    """
    queries = Queries(prepared, engine.model, run.config.overflow, chat_of(engine.model, run.config), tick=tick)
    work, keys = Workload(), set[str]()
    for window in queries.windows():
        work += engine.workload(requests_of(window), keys)
        window.clear()  # before the next one is encoded
    return work, queries.failures()


def _explanation(
    run: Run, model: LanguageModel, work: Workload, failures: Sequence[Failure], sample: str = ""
) -> Explanation:
    memory = work.memory(model.token_bytes, model.state_bytes, model.vocabulary) if work.batches else {}
    return Explanation(work, model.weights, memory, model.prefix_sharing_limit, (*run.failures, *failures), sample)


@takes_options
def plan(
    model: str | Path,
    tasks: str | Task | Sequence[str | Task],
    *,
    library: Library | None = None,
    progress: Progress = lambda _: lambda _: None,
    **options: Unpack[RunOptions],
) -> Plan:
    """Estimate the cost of a run with a causal language model, without reading its weights.

    If the requests have more than 8 million tokens, a sample of the examples of each task is counted, with all numbers
    of shots and as few seeds as possible, and the counts are scaled to all queries.

    Args:
        model: `tiny`, a directory with a config.json, a GGUF file, or a name on the Hub.
        tasks: names of tasks and suites, or `Task` objects.
        library: where names of tasks are looked up; the bundled library by default.
        progress: called with the number of queries; the function that it returns is called with the number of queries
            encoded since its last call.
        options: those of `evaluate`. `device` is the type of device to plan for; this machine need not have one.

    Raises:
        IclEvalError: the model or the run cannot be planned; the message says why in one sentence.
    """
    if not isinstance(model, str | Path):
        raise ModelError(f"`plan` takes the name of a model, not a {type(model).__name__}; `explain` takes both")
    model_config, load_config = read_options({name: value for name, value in options.items() if name in MODEL_OPTIONS})
    lm = load_meta_model(str(model), model_config, load_config)
    others: Any = {name: value for name, value in options.items() if name not in MODEL_OPTIONS}
    run = planned(lm, tasks, library, trust_remote_code=load_config.trust_remote_code, **others)
    explanation = estimated(run, lm, progress)
    caches = tuple(_caches(lm, explanation.workload.context))
    return Plan(explanation, lm.counts, caches, lm.precision, lm.device)


def estimated(
    run: Run, model: LanguageModel, progress: Progress, *, counted: int = COUNTED, sampled: int = SAMPLED
) -> Explanation:
    """Describe what evaluating a run would compute; the counts of a large run are estimated from a sample.

    Args:
        run: the run.
        model: the model on the meta device.
        progress: as for `plan`.
        counted: all requests are counted if they have at most this number of tokens.
        sampled: otherwise, about this number of tokens is counted.

    Raises:
        IclEvalError: every task failed.
    """
    prepared = before_choices(run.prepared, run.config)
    sizes = [_first_tokens(each, model, run.config) for each in prepared]
    whole = sum(size * _groups(each) for size, each in zip(sizes, prepared, strict=True))
    if whole <= counted:
        tick = progress(sum(map(_queries, prepared)))
        return _explanation(run, model, *_counted(run, prepared, Engine(model), tick))
    strata = [(each, size) for task, size in zip(prepared, sizes, strict=True) for each in _by_shots(task)]
    parts = [(_sample(each, max(sampled // len(strata) // max(size, 1), 1)), each) for each, size in strata]
    tick = progress(sum(_queries(part) for part, _ in parts))
    work, failures = Workload(), dict[Failure, IclEvalError]()
    for part, whole_task in parts:
        try:
            found, _ = _counted(run, [part], Engine(model), tick)
            work += found.scaled(whole_task.request_count() / part.request_count())
        except IclEvalError as error:
            record = whole_task.record
            failures[Failure(task=record.task, selection=record.selection, reason=str(error))] = error
    if not work.requests:
        raise next(iter(failures.values()))
    sample = f"from {sum(_queries(part) for part, _ in parts):,} of {sum(map(_queries, prepared)):,} prompts"
    return _explanation(run, model, work, tuple(failures), sample)


def _by_shots(prepared: PreparedTask) -> list[PreparedTask]:
    """A task divided into its cells without demonstrations, which have one seed, and its cells with demonstrations."""
    record = prepared.record
    shots = [numbers for numbers in ((0,) * (0 in record.shots), tuple(n for n in record.shots if n)) if numbers]
    seeds = [record.seeds if numbers[-1] else record.seeds[:1] for numbers in shots]
    return [prepared.with_record(shots=ns, seeds=chosen) for ns, chosen in zip(shots, seeds, strict=True)]


def _first_tokens(prepared: PreparedTask, model: LanguageModel, config: RunConfig) -> int:
    """Number of tokens in the requests of the first example with the first seed; 0 if it cannot be encoded."""
    builder = RequestBuilder(prepared, model, config.overflow, chat_of(model, config))
    try:
        return sum(query.tokens for query in next(builder.of_seed(prepared.record.seeds[0]), []))
    except IclEvalError:
        return 0


def _groups(prepared: PreparedTask) -> int:
    return len(prepared.examples) * len(prepared.record.seeds)


def _queries(prepared: PreparedTask) -> int:
    return len(prepared.examples) * len(prepared.record.cells)


def _sample(prepared: PreparedTask, groups: int) -> PreparedTask:
    """A task with at least `groups` pairs of an example and a seed: few seeds, and evenly spaced examples."""
    record, count = prepared.record, len(prepared.examples)
    seeds = record.seeds[: max(-(-groups // count), 1)]
    kept = min(-(-groups // len(seeds)), count)
    examples = [prepared.examples[number * count // kept] for number in range(kept)]
    return replace(prepared.with_record(seeds=seeds), examples=examples)


def _caches(lm: MetaModel, longest: int) -> Iterator[Cache]:
    import torch

    for dtype in CACHE_DTYPES:
        kind = getattr(torch, dtype)
        token, whole = lm.cache_bytes(kind), lm.cache_bytes(kind, longest) if longest else 0
        if token is not None and whole is not None:
            yield Cache(dtype, token, whole)
