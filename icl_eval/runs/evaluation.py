"""The one way through the package: tasks, a model and a grid in, scores out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from icl_eval.config import HUB, SAMPLE, RunConfig, place_of, seed_list
from icl_eval.engine import SINGLE_PROCESS, launched
from icl_eval.errors import MissingData, RunError
from icl_eval.models import LanguageModel, split_options
from icl_eval.results.records import Failure
from icl_eval.runs.cells import Prepared, prepare
from icl_eval.runs.data import SAMPLE_NOTE, source_of
from icl_eval.runs.experiment import Experiment
from icl_eval.runs.explanation import Explanation
from icl_eval.runs.model import check_model, name_of
from icl_eval.runs.names import check_metrics
from icl_eval.runs.result import Result
from icl_eval.runs.run import Progress
from icl_eval.runs.scores import chosen_normalizations
from icl_eval.runs.selection import own_tasks, selected, written
from icl_eval.tasks import Decode, Library, Normalization, Source, Task
from icl_eval.tasks.located import first_problem

RESULTS = Path("results")
ANSWERED = {"normalizations", "progress", "alone"}  # arguments of `evaluate` that matter to answers alone


def evaluate(
    model: str | Path | LanguageModel | tuple[Any, Any],
    tasks: str | Task | Sequence[str | Task],
    *,
    shots: int | Sequence[int] = (),
    seeds: int | Sequence[int] = 1,
    prompts: str | Sequence[str] = (),
    data: str | Path = HUB,
    split: str | None = None,
    demonstrations: str | None = None,
    limit: int | str | None = None,
    normalizations: Normalization | Sequence[Normalization] = (),
    overflow: str = "drop",
    decode: Mapping[str, Any] | Decode | None = None,
    out: str | Path | None = None,
    keep: bool = False,
    note: str | None = None,
    library: Library | None = None,
    progress: Progress = lambda _: lambda _: None,
    alone: bool = False,
    **model_options: Any,
) -> Result:
    """Measure a model on tasks over a grid of shots and seeds.

    Under a launcher such as `accelerate launch`, all its processes call this alike, share the work through the run
    folder, which they must be given, and get the same result.

    Args:
        model: `tiny` for the bundled GPT-2, a directory, a GGUF file, a name on the Hub, the URL of an endpoint, a
            (model, tokenizer) pair of `transformers`, or any `LanguageModel`.
        tasks: names of tasks and suites, or `Task` objects.
        shots: numbers of demonstrations; each task's own if empty.
        seeds: how many draws of demonstrations, or which.
        prompts: names of prompts; each task's first, or without demonstrations its `zero_shot_prompt`, if empty.
        data: `hub`, `sample`, or the directory of an official release (a `Path` always is one); not used by tasks with
            records of their own.
        split: what is asked instead of each task's own split.
        demonstrations: the split to show instead of each task's own; it may be the one that is asked, as where there
            is no training data at hand: no query is shown itself, nor anything of its group or cluster.
        limit: ask only a sample of so many examples (groups, where a task has them), the same for any order of the
            data and part of every larger one; `first:N` asks the first N.
        normalizations: which to score by; each task's own if empty. All are stored in any case.
        overflow: `drop` demonstrations that do not fit the window, `error`, or also `truncate` a query that does not.
        decode: how texts are written instead of each task's own way, by the names of a task file's `decode`, such as
            `{"beams": 1, "max_tokens": 32}`; what is not named stays as it is.
        out: a folder to keep the run in; what it already answers is not computed again.
        keep: without `out`, keep the run in a folder under `results` named after what is asked.
        note: what a reader of the scores must know first; stands in the manifest and above the table.
        library: where names of tasks are looked up; the bundled library by default.
        progress: given the number of requests, returns what is told how many more have been answered.
        alone: whether this process measures alone though a launcher started it with others.
        model_options: those of `icl_eval.load_model`, such as `dtype` and `device`. A pair takes only `bos`,
            `window` and `pll` of them, a `LanguageModel` none; `trust_remote_code` also lets `evaluate` metrics run
            code.

    Returns:
        The scores of all tasks that could be measured. `failures` of the result names the others, whose data is missing
        or one of whose queries cannot be asked; the same call again tries them again.

    Raises:
        IclEvalError: what was asked cannot be done, of all tasks; the message says why in one sentence.
    """
    on_cpu = str(model_options.get("device")).startswith("cpu")
    alone = alone or bool(model_options.get("tensor_parallel"))  # whose other processes follow the first
    ranks = SINGLE_PROCESS if alone else launched(cpu=on_cpu)
    with ranks.propagating_errors():
        chosen = chosen_normalizations(normalizations)
        experiment = planned(
            model,
            tasks,
            shots=shots,
            seeds=seeds,
            prompts=prompts,
            data=data,
            split=split,
            demonstrations=demonstrations,
            limit=limit,
            overflow=overflow,
            decode=decode,
            out=out,
            keep=keep,
            note=note,
            library=library,
            **model_options,
        )
        return experiment.measure(chosen, progress, ranks)


def explain(
    model: str | Path | LanguageModel | tuple[Any, Any], tasks: str | Task | Sequence[str | Task], **options: Any
) -> Explanation:
    """What `evaluate` would ask and compute with the same options, all but `normalizations`, `progress` and `alone`.

    Nothing is computed, whatever launcher started this process. Of a run whose folder holds answers only what is
    missing is counted.

    Raises:
        IclEvalError: what was asked cannot be done; the message says why in one sentence.
    """
    return planned(model, tasks, **{**defaults(), **options}).explain()


def defaults() -> dict[str, Any]:
    """The arguments that `planned` takes, as `evaluate` has them by default."""
    return {name: value for name, value in (evaluate.__kwdefaults__ or {}).items() if name not in ANSWERED}


def planned(
    model: str | Path | LanguageModel | tuple[Any, Any],
    tasks: str | Task | Sequence[str | Task],
    *,
    shots: int | Sequence[int],
    seeds: int | Sequence[int],
    prompts: str | Sequence[str],
    data: str | Path,
    split: str | None,
    demonstrations: str | None,
    limit: int | str | None,
    overflow: str,
    decode: Mapping[str, Any] | Decode | None,
    out: str | Path | None,
    keep: bool,
    note: str | None,
    library: Library | None,
    **model_options: Any,
) -> Experiment:
    """What `evaluate`'s arguments ask for, names and data checked before any model is loaded.

    Raises:
        IclEvalError: what was asked cannot be done; the message says why in one sentence.
    """
    wanted = [tasks] if isinstance(tasks, str | Task) else list(tasks)
    own = own_tasks(wanted)
    model = str(model) if isinstance(model, Path) else model
    model_config, load_config = split_options(model_options)
    try:
        ask = RunConfig(
            model=name_of(model),
            **model_config,
            data=place_of(data),
            tasks=tuple(dict.fromkeys(each.name if isinstance(each, Task) else each for each in wanted)),
            prompts=(prompts,) if isinstance(prompts, str) else tuple(dict.fromkeys(prompts)),
            shots=(shots,) if isinstance(shots, int) else tuple(shots),
            seeds=seed_list(seeds),
            split=split,
            demonstrations=demonstrations,
            limit=limit,
            overflow=overflow,  # type: ignore[arg-type]
            decode=dict(decode) if decode else None,
        )
    except ValueError as error:
        raise RunError(first_problem(error)) from error
    check_model(model, ask, load_config)
    chosen, suites = selected(ask.tasks, own, library or Library(), trust_remote_code=load_config.trust_remote_code)
    chosen, suites = written(chosen, suites, ask.decode)
    source = source_of(ask.data, unused=all(task.source is not None for task in chosen))
    prepared, failures = _prepared(chosen, ask, source)
    for each in prepared:
        check_metrics(each.task, each.examples, trust_remote_code=load_config.trust_remote_code)
    place = Path(out) if out is not None else RESULTS / ask.folder_name() if keep else None
    sample = SAMPLE_NOTE if SAMPLE in [each.record.data for each in prepared] else None  # all records are read now
    note = "; ".join(filter(None, (note, sample))) or None
    return Experiment(model, ask, load_config, tuple(prepared), tuple(failures), tuple(suites), place, note)


def _prepared(tasks: Sequence[Task], ask: RunConfig, source: Source) -> tuple[list[Prepared], list[Failure]]:
    """The tasks with each of their prompts, and those of which data is missing.

    Raises:
        MissingData: there is data for no task.
        IclEvalError: what was asked cannot be done.
    """
    prepared: list[Prepared] = []
    missing: list[tuple[Failure, MissingData]] = []
    for task in tasks:
        try:
            prepared += [each for style in ask.prompts or (None,) for each in prepare(task, style, ask, source)]
        except MissingData as error:
            missing.append((Failure(task=task.name, selection="", reason=str(error)), error))
    if missing and not prepared:
        raise missing[0][1]
    return prepared, [failure for failure, _ in missing]
