"""`evaluate`: measure a model on tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Unpack

from icl_eval.analysis.calibration import check_collected, check_labels
from icl_eval.analysis.rescore import ChosenMetrics
from icl_eval.analysis.score import chosen_normalizations
from icl_eval.config import SAMPLE, RunOptions, takes_options
from icl_eval.engine import SINGLE_PROCESS, launched
from icl_eval.errors import MissingData, RunError
from icl_eval.results.records import Failure
from icl_eval.results.result import Result
from icl_eval.results.run_config import RunConfig, read_run
from icl_eval.runs.cells import PreparedTask, prepare
from icl_eval.runs.collect import stopping_rules
from icl_eval.runs.model import Model, check_model, name_of
from icl_eval.runs.requests import domain_premise
from icl_eval.runs.run import Progress, Run
from icl_eval.runs.tasks import (
    SAMPLE_NOTE,
    check_effect,
    check_metrics,
    check_protocol,
    given_tasks,
    selected,
    source_of,
    with_decoding,
)
from icl_eval.scoring import CALIBRATIONS, gaussian_mixture, prototypes_limit
from icl_eval.tasks import Library, Source, Task

RESULTS = Path("results")


@takes_options
def evaluate(
    model: Model,
    tasks: str | Task | Sequence[str | Task],
    *,
    library: Library | None = None,
    progress: Progress = lambda _: lambda _: None,
    alone: bool = False,
    **options: Unpack[RunOptions],
) -> Result:
    """Evaluate a model on tasks over a grid of shots and seeds.

    Under a launcher such as `accelerate launch`, every process makes the same call. The processes share the work
    through the run folder, so `out` or `keep` is required, and all return the same result.

    Args:
        model: `tiny` for the bundled GPT-2, a directory, a GGUF file, a name on the Hub, the URL of an endpoint, a
            (model, tokenizer) pair of `transformers`, or any `LanguageModel`. A pair takes only the model options
            `bos`, `max_length` and `pll`, a `LanguageModel` none.
        tasks: names of tasks and suites, or `Task` objects.
        library: where names of tasks are looked up; the bundled library by default.
        progress: called with the number of requests; the function that it returns is called with the number of
            requests answered since its last call.
        alone: evaluate in this process alone, even if a launcher started several.
        options: of the run, listed below.

    Returns:
        The scores of all tasks that could be evaluated. Its `failures` list the others: their data is missing, or a
        query does not fit the model. Calling `evaluate` again with the same arguments retries them.

    Raises:
        IclEvalError: no task can be evaluated, or an option is wrong; the message says why in one sentence.
    """
    on_cpu = str(options.get("device")).startswith("cpu")
    alone = alone or bool(options.get("tensor_parallel"))  # its other processes run what the first process runs
    ranks = SINGLE_PROCESS if alone else launched(cpu=on_cpu)
    with ranks.propagating_errors():
        chosen = chosen_normalizations(options.get("normalizations", ()))
        return planned(model, tasks, library, **options).evaluate(chosen, progress, ranks)


def planned(
    model: Model, tasks: str | Task | Sequence[str | Task], library: Library | None, **options: Unpack[RunOptions]
) -> Run:
    """The run that `evaluate` would do with these arguments. Names and data are checked; no model is loaded.

    Raises:
        IclEvalError: no task can be evaluated, or an option is wrong; the message says why in one sentence.
    """
    wanted = _wanted(tasks)
    for name, kinds, kind in (("out", str | Path | None, "path"), ("note", str | None, "text")):
        if not isinstance(value := options.get(name), kinds):
            raise RunError(f"`{name}` must be a {kind}, not {type(value).__name__}")
    given = given_tasks(wanted)
    model = str(model) if isinstance(model, Path) else model
    config, load_config = read_run(
        name_of(model), [each.name if isinstance(each, Task) else each for each in wanted], options
    )
    check_model(model, config, load_config)
    trusts = load_config.trust_remote_code
    metrics = ChosenMetrics.of(options.get("metrics", ()), trusts)
    code = {name: each for task in given.values() for name, each in task.code.items()} | dict(metrics.given)
    chosen, suites = selected(config.tasks, given, library or Library(), trust_remote_code=trusts, given=code)
    chosen, suites = with_decoding(chosen, suites, config.decode)
    check_protocol(chosen, config.protocol(), config.fewshot_split)
    source = source_of(config.data, unused=all(task.source is not None for task in chosen))
    prepared, failures = _prepared(chosen, config, source)
    check_effect(config, max(each.shots[-1] for each in prepared))
    prepared = [
        each.with_record(metrics=record.metrics, primary=record.primary)
        for each, record in zip(prepared, metrics.applied([each.record for each in prepared]), strict=True)
    ]
    for each in (each for each in prepared if each.prompt.format is None):
        check_metrics(each.task, each.examples, each.record.metrics, trust_remote_code=trusts, given=code)
    _check_calibrations(prepared, config, chosen_normalizations(options.get("normalizations", ())))
    stopping_rules(config.until, prepared, code, trust_remote_code=trusts)  # raises if scores cannot be bounded
    out = options.get("out")
    folder = Path(out) if out is not None else RESULTS / config.folder_name() if options.get("keep") else None
    sample = SAMPLE_NOTE if SAMPLE in [each.record.data for each in prepared] else None  # after all records are read
    note = "; ".join(filter(None, (options.get("note"), sample))) or None
    return Run(model, config, load_config, tuple(prepared), tuple(failures), tuple(suites), folder, note, code)


def _wanted(tasks: Any) -> list[str | Task]:
    """The requested tasks as a list; raises `RunError` if they are not names of tasks or `Task` objects."""
    wanted = list(tasks) if isinstance(tasks, Iterable) and not isinstance(tasks, str | Task) else [tasks]
    for each in wanted:
        if not isinstance(each, str | Task):
            raise RunError(f"`tasks` are names or `Task` objects, not {type(each).__name__}")
    return wanted


def _prepared(tasks: Sequence[Task], config: RunConfig, source: Source) -> tuple[list[PreparedTask], list[Failure]]:
    """The tasks with each of their prompts, and the tasks whose data is missing.

    Raises:
        MissingData: the data of every task is missing.
        IclEvalError: the configuration is not valid, or the run cannot be done; the message says why.
    """
    prepared: list[PreparedTask] = []
    missing: list[tuple[Failure, MissingData]] = []
    for task in tasks:
        try:
            prepared += [each for style in config.prompts or (None,) for each in prepare(task, style, config, source)]
        except MissingData as error:
            missing.append((Failure(task=task.name, selection="", reason=str(error)), error))
    if missing and not prepared:
        raise missing[0][1]
    return prepared, [failure for failure, _ in missing]


def _check_calibrations(prepared: Iterable[PreparedTask], config: RunConfig, scorings: Sequence[str]) -> None:
    """Check before the run that every task can be calibrated as the options say.

    Raises:
        RunError: a task cannot be calibrated, or the run does not collect the answers that a calibration needs.
        PromptError: the domain premise of a task is not a valid template.
        UnknownName: the domain premise uses a field that the task does not have.
    """
    calibrations = [name for name in CALIBRATIONS if name in (*scorings, *config.calibrate)]
    tasks = [each for each in prepared if each.record.has_labels] if calibrations else []
    for each in tasks:
        premise = each.task.definition.score.domain_premise
        if "dc-pmi" in calibrations and premise is None:
            message = f"{each.task.name} has no domain premise, which dc-pmi needs; add `score.domain_premise`"
            raise RunError(message, each.task.path)
        if "dc-pmi" in calibrations and premise:
            domain_premise(each.task.name, premise).check_fields(each.examples[0].fields)
    check_collected([each.record for each in prepared], calibrations)
    for calibration in calibrations:
        for each in tasks:
            check_labels(each.task.name, calibration, _labels(each))
    for each in tasks if "prototypical" in calibrations else ():
        gaussian_mixture()
        if limit := prototypes_limit(len(each.examples), len(each.examples[0].options)):
            raise RunError(f"{each.task.name}: {limit}")


def _labels(prepared: PreparedTask) -> Iterator[tuple[str, list[str]]]:
    """The id of every example, and the texts of its options as they will be scored."""
    for each in prepared.examples:
        indices = range(len(each.options))
        yield each.id, [prepared.prompt.answer(each.fields, each.options, index) for index in indices]
