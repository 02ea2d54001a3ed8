"""`sweep`: measure several models, or several revisions of a model, on the same tasks."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from icl_eval.analysis.score import chosen_normalizations
from icl_eval.config import RunOptions, takes_options
from icl_eval.engine import SINGLE_PROCESS, Ranks, launched, rank_and_world_size
from icl_eval.errors import IclEvalError, ModelError, ProcessError, RunError, WindowError
from icl_eval.models import LanguageModel, resolve
from icl_eval.results.files import lock
from icl_eval.results.members import Member, write_members
from icl_eval.results.result import Result, Sweep
from icl_eval.results.run_config import short_name, slug
from icl_eval.runs.cost import Explanation
from icl_eval.runs.evaluate import RESULTS, planned
from icl_eval.runs.model import Model, name_of
from icl_eval.runs.plan import explain_run
from icl_eval.runs.run import Progress, Run
from icl_eval.scoring import Scoring
from icl_eval.tasks import Library, Task

MODEL_ERRORS = (ModelError, WindowError)  # errors that concern one model; the other models are still measured


@takes_options
def sweep(
    models: Model | Sequence[Model],
    tasks: str | Task | Sequence[str | Task],
    *,
    revisions: str | Sequence[str] = (),
    library: Library | None = None,
    progress: Progress = lambda _: lambda _: None,
    alone: bool = False,
    **options: Unpack[RunOptions],
) -> Sweep:
    """Measure several models on the same tasks, one after the other.

    A model that is given by name is freed before the next is loaded. Under a launcher, every process makes the same
    call, with `out` or `keep`. The processes share the work for each model, and all return the same result.

    Args:
        models: one or a list of the models that `evaluate` takes. Each is measured at every revision.
        tasks: names of tasks and suites, or `Task` objects.
        revisions: revisions of the models' repositories on the Hub; the default revision if empty.
        library: where names of tasks are looked up; the bundled library by default.
        progress: as in `evaluate`, for each model in turn.
        alone: as in `evaluate`.
        options: those of `evaluate`, the same for all models. `out` and `keep` name a folder that contains the run
            folders of all models. Finished models in this folder are not loaded again, and stored answers are reused.

    Returns:
        The results of all models that could be measured, and why each other model could not, for example because it
        does not fit into the memory of the device.

    Raises:
        IclEvalError: the options are not valid for a model, or no model could be measured.
        ProcessError: another process raised an error, or only this one did.
    """
    if options.get("tensor_parallel") and rank_and_world_size()[1] > 1:
        raise RunError("`tensor_parallel` takes one model, but a sweep has several: evaluate each with its own command")
    ranks = SINGLE_PROCESS if alone else launched(cpu=str(options.get("device")).startswith("cpu"))
    results: list[Result] = []
    members: list[Member] = []
    with ExitStack() as stack:
        with ranks.propagating_errors():
            chosen = chosen_normalizations(options.get("normalizations", ()))
            folder, runs = _planned(models, tasks, revisions, library, options)
            written = folder if ranks.rank == 0 else None  # only the first process writes the list of members
            stack.enter_context(_folder(written, list(runs)))
        for member, run in runs.items():
            result, found = _measured(member, run, chosen, progress, ranks)
            results += [result] if result is not None else []
            members.append(found)
            _free_memory(run)
        if written:
            write_members(written, members)
    return Sweep.of(results, members, folder)


def explain_sweep(
    models: Model | Sequence[Model],
    tasks: str | Task | Sequence[str | Task],
    *,
    revisions: str | Sequence[str] = (),
    library: Library | None = None,
    **options: Unpack[RunOptions],
) -> Iterator[tuple[str, Explanation]]:
    """Describe what `sweep` would compute with the same arguments: the label of each model and its explanation.

    The models are loaded one after the other.

    Raises:
        IclEvalError: the configuration is not valid, or the run cannot be done; the message says why.
    """
    _, runs = _planned(models, tasks, revisions, library, options)
    for member, run in runs.items():
        yield member.label, explain_run(run)
        _free_memory(run)


def _measured(
    member: Member, run: Run, normalizations: Sequence[Scoring], progress: Progress, ranks: Ranks
) -> tuple[Result | None, Member]:
    """The result of a member; or None, and the member with the text of the error, which itself would hold the model."""
    try:
        with ranks.propagating_errors():
            return run.evaluate(normalizations, progress, ranks), member
    except IclEvalError as error:
        if not issubclass(error.kind if isinstance(error, ProcessError) else type(error), MODEL_ERRORS):
            raise
        return None, member.model_copy(update={"failed": " ".join(str(error).split("\n"))})


def _planned(
    models: Model | Sequence[Model],
    tasks: str | Task | Sequence[str | Task],
    revisions: str | Sequence[str],
    library: Library | None,
    options: RunOptions,
) -> tuple[Path | None, dict[Member, Run]]:
    """The folder of the sweep and the run of each member. Tasks and data are read once, and no model is loaded."""
    if "revision" in options:
        raise RunError("a sweep takes a list of `revisions` instead of one `revision`")
    members = _members(models, revisions)
    first, model = next(iter(members.items()))
    shared: RunOptions = {**options, "revision": first.revision, "out": None, "keep": False}
    common = planned(model, tasks, library, **shared)
    runs = {member: common.with_model(model, member.revision) for member, model in members.items()}
    out = options.get("out")
    folder = Path(out) if out is not None else RESULTS / _name(runs) if options.get("keep") else None
    if folder is None:
        return None, runs
    if (folder / "manifest.json").is_file():
        raise RunError("this folder contains a run of a single model; give another --out", folder)
    return folder, {member: replace(each, folder=folder / member.folder) for member, each in runs.items()}


def _members(models: Model | Sequence[Model], revisions: str | Sequence[str]) -> dict[Member, Model]:
    """Every model at every revision; raises an error for a path that does not exist, and for repeated models."""
    listed: Sequence[Model] = models if isinstance(models, Sequence) and not isinstance(models, str) else [models]
    chosen: list[str | None] = [revisions] if isinstance(revisions, str) else list(revisions)
    members: dict[Member, Model] = {}
    seen: dict[tuple[str, str | None], Member] = {}
    for model in listed:
        for revision in chosen or [None]:
            member = Member.of(name_of(model), revision)
            path = resolve(member.model, revision) if isinstance(model, str | Path) else member.model
            weights = str(Path(path).resolve()) if Path(path).exists() else path
            for key in (weights, member.model):  # a loaded model can have the name of another one
                if (other := seen.setdefault((key, revision), member)) is not member:
                    raise RunError(_repeated(other.label, member.label))
            members[member] = model
    if not members:
        raise RunError("the list of models is empty")
    return members


def _repeated(first: str, second: str) -> str:
    if first == second:
        return f"{first!r} is listed twice among the models"
    return f"{first!r} and {second!r} are the same model"


def _name(runs: dict[Member, Run]) -> str:
    """A folder name that depends only on the configuration, so that the same command continues the same sweep."""
    configs = [each.config for each in runs.values()]
    digest = hashlib.sha256("\n".join(each.of_answers() for each in configs).encode()).hexdigest()[:8]
    models = dict.fromkeys(short_name(each.model, each.served_name) for each in configs)
    return f"{slug(configs[0].tasks)}-{slug(list(models))}-{digest}"


@contextmanager
def _folder(folder: Path | None, members: Sequence[Member]) -> Iterator[None]:
    """Lock the folder of the sweep and write the list of its members."""
    if folder is None:
        yield
        return
    taken = lock(folder)
    try:
        write_members(folder, members)
        yield
    finally:
        taken.release()


def _free_memory(run: Run) -> None:
    """Free the memory of the model that a run loaded; a model that the caller loaded is kept."""
    if isinstance(run.model, LanguageModel):
        return
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
