"""One run of one model: collect its answers in the run folder, then score them."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import icl_eval
from icl_eval.analysis.score import score_examples
from icl_eval.engine import SINGLE_PROCESS, Engine, Ranks, measure_noise
from icl_eval.errors import MetricError, ModelError, RunError
from icl_eval.metrics import MOMENT_METRIC
from icl_eval.models import CAUSAL, UNLIMITED, LanguageModel, LoadConfig, is_current
from icl_eval.results.examples import read_examples
from icl_eval.results.folder import RunFolder, WorkerFolder, open_folder
from icl_eval.results.manifest import Manifest, read_manifest
from icl_eval.results.prompt_texts import NAME as PROMPTS
from icl_eval.results.records import Failure
from icl_eval.results.result import Result
from icl_eval.results.run_config import RunConfig
from icl_eval.results.score import Score
from icl_eval.runs.cells import PreparedTask
from icl_eval.runs.collect import Queries, collect, stopping_rules
from icl_eval.runs.format_search import before_choices, searched
from icl_eval.runs.model import ChatForm, Model, chat_of, check_model, loaded, name_of
from icl_eval.runs.selection import Organizer, with_annotation
from icl_eval.scoring import Scoring
from icl_eval.tasks import SuiteDefinition

VERSIONED = ("torch", "transformers", "tokenizers", "datasets", "jinja2", "numpy")

Progress = Callable[[int], Callable[[int], None]]  # the total -> a function that is called with how many more are done


@dataclass(frozen=True)
class Run:
    """Tasks whose data is read and checked, and a model that is not loaded yet.

    Attributes:
        model: a name, or a model that the caller loaded.
        config: the configuration that the manifest stores.
        load_config: how the model is loaded.
        prepared: every task with each of its prompts.
        failures: the tasks whose data is missing.
        suites: the suites whose averages are computed.
        folder: the run folder; None if nothing is kept.
        note: a warning that is printed above the scores; None if there is none.
        code: metrics that the caller passed as Python functions or classes, by name.
    """

    model: str | LanguageModel | tuple[Any, Any]
    config: RunConfig
    load_config: LoadConfig
    prepared: tuple[PreparedTask, ...]
    failures: tuple[Failure, ...]
    suites: tuple[SuiteDefinition, ...]
    folder: Path | None
    note: str | None
    code: Mapping[str, Any] = field(default_factory=dict)

    def with_model(self, model: Model, revision: str | None) -> Run:
        """The same run with another model and without a folder.

        Raises:
            ModelError: the value is not a model, the model has no revisions, or an option has no effect on it.
            RunError: an option has no effect on a model that is loaded already.
        """
        model = str(model) if isinstance(model, Path) else model
        config = self.config.model_copy(update={"model": name_of(model), "revision": revision})
        check_model(model, config, self.load_config)
        return replace(self, model=model, config=config, folder=None)

    def evaluate(self, normalizations: Sequence[Scoring], progress: Progress, ranks: Ranks = SINGLE_PROCESS) -> Result:
        """Collect the model's answers and score them, or read the scores if the folder has this run and it is finished.

        Returns:
            The result of the first process, in every process.

        Raises:
            RunError: there are several processes but no folder in which they could share their answers.
        """
        if ranks.size > 1 and self.folder is None:
            raise RunError(f"{ranks.size} processes share their answers through a run folder: give `out` or `keep`")
        if (finished := ranks.gather(None if ranks.rank else self._finished(normalizations))[0]) is not None:
            return finished
        model = self.load(ranks)
        chat = chat_of(model, self.config)
        with open_folder(self.folder, ranks) as folder:
            began = time.monotonic()
            manifest = self._manifest(model, chat, ranks)
            folder.claim(manifest)
            engine = Engine(
                model,
                folder.journal,
                progress(sum(each.request_count() for each in before_choices(self.prepared, self.config))),
            )
            prepared = with_annotation(self.prepared, engine, self.config.overflow, chat)
            organizer = Organizer(prepared, engine, self.config.overflow, chat)
            if self.config.until is None:
                organizer.choose(organizer.prepared)
            prepared = searched(organizer.prepared, model, engine, chat, self.config)
            manifest = manifest.model_copy(update={"tasks": tuple(each.record for each in prepared)})
            trusts = self.load_config.trust_remote_code
            rules = stopping_rules(self.config.until, prepared, self.code, trust_remote_code=trusts)
            queries = Queries(prepared, model, self.config.overflow, chat, rules, choose=organizer.choose)
            collect(queries, engine, folder)
            manifest = self._collected(manifest, queries, engine, ranks)
            folder.merge()
            result = None if isinstance(folder, WorkerFolder) else self._score(folder, manifest, normalizations, began)
            scores: list[Any] = ranks.gather(result)
            return scores[0]  # type: ignore[no-any-return]

    def load(self, ranks: Ranks = SINGLE_PROCESS) -> LanguageModel:
        """Load the model and check that it is the same in all processes.

        Raises:
            ModelError: it cannot be loaded, or cannot do what a task or an option requires.
            RunError: the processes differ in their model or their options.
        """
        model = loaded(self.model, self.config, self.load_config)
        _check_abilities(self.prepared, model)
        if self.config.per_shot_loss and model.kind != CAUSAL:
            raise ModelError(f"{model.name} is not a causal language model, which `per_shot_loss` needs")
        _check_same(ranks, self.config, model)
        return model

    def _finished(self, normalizations: Sequence[Scoring]) -> Result | None:
        """The result in the folder, without loading the model; None if it is not finished or belongs to another run."""
        if self.folder is None or not (self.folder / "manifest.json").is_file() or not isinstance(self.model, str):
            return None
        if self.load_config.tensor_parallel:  # only the first process has the folder
            return None
        if not (self.folder / PROMPTS).is_file():  # written by an earlier version
            return None
        with RunFolder(self.folder) as folder:
            try:
                manifest = read_manifest(self.folder)
                if not self._is_current(manifest, self.model):
                    return None
                result = Result(tuple(self._scores(self.folder, manifest, normalizations)), manifest, self.folder)
            except RunError:  # a damaged file: run again
                return None
            folder.write_scores(result)
        return result

    def _is_current(self, manifest: Manifest, name: str) -> bool:
        """Whether a manifest describes this run, finished and without failures. Times and counts are not compared."""
        expected = {
            "config": self.config,
            "note": self.note,
            "suites": self.suites,
            "versions": _versions(),
        }
        return (
            manifest.finished is not None
            and self._has_tasks(manifest)
            and not (manifest.failures or self.failures)
            and all(getattr(manifest, field) == value for field, value in expected.items())
            and is_current(manifest.model_fingerprint, manifest.device, name, self.config, self.load_config)
        )

    def _has_tasks(self, manifest: Manifest) -> bool:
        """Whether a manifest has the tasks of this run; formats chosen by a search have to be among its formats."""
        records = [each.record for each in self.prepared]
        tasks = [each.as_planned for each in manifest.tasks]
        if self.config.budget is None:
            return tasks == records
        planned, stored = ([record for record in each if not record.format] for each in (records, tasks))
        return planned == stored and {record.digest for record in tasks} <= {record.digest for record in records}

    def _manifest(self, model: LanguageModel, chat: ChatForm | None, ranks: Ranks) -> Manifest:
        import torch

        return Manifest(
            config=self.config,
            note=self.note,
            model_name=model.name,
            model_fingerprint=model.fingerprint,
            model_words=_model_words(model, chat),
            window=model.window,
            prefix_sharing_limit=model.prefix_sharing_limit,
            noise=None if ranks.rank else measure_noise(model),
            tasks=tuple(each.record for each in self.prepared),
            failures=self.failures,
            suites=self.suites,
            versions=_versions(),
            parameters=model.parameter_count,
            device=str(model.device),
            threads=torch.get_num_threads(),
            started=_now(),
            processes=ranks.size,
        )

    def _collected(self, manifest: Manifest, queries: Queries, engine: Engine, ranks: Ranks) -> Manifest:
        """The manifest without the failed tasks, and with the counts of the first pass.

        Raises:
            IclEvalError: every task failed.
        """
        failures = (*self.failures, *queries.failures())
        return manifest.model_copy(
            update={
                "tasks": tuple(
                    queries.rules[record.task].stopped(record) if queries.rules else record
                    for record in manifest.tasks
                    if record.task_prompt not in queries.failed
                ),
                "failures": failures,
                "control_names": tuple(sorted(queries.control_names)),
                "computed": sum(ranks.gather(engine.computed)),
                "reused": engine.reused,
            }
        )

    def _score(self, folder: RunFolder, manifest: Manifest, normalizations: Sequence[Scoring], began: float) -> Result:
        """Score the collected examples and finish the folder.

        Raises:
            MetricError: a metric cannot score them. The folder is complete then, but has no scores.
        """
        scores, error = self._scores_or_error(folder, manifest, normalizations)
        seconds = round(time.monotonic() - began, 3)
        update = {"finished": _now(), "seconds": seconds, "examples_digest": folder.examples_digest()}
        manifest = manifest.model_copy(update=update)
        folder.write_scores(scores)
        folder.write_manifest(manifest)
        if error is not None:
            raise error
        return Result(tuple(scores), manifest, self.folder)

    def _scores_or_error(
        self, folder: RunFolder, manifest: Manifest, normalizations: Sequence[Scoring]
    ) -> tuple[list[Score], MetricError | None]:
        try:
            return self._scores(folder.path, manifest, normalizations), None
        except MetricError as error:
            if self.folder is None:
                raise
            command = f"`icl-eval rescore {self.folder} --metrics NAME`"
            advice = f"the answers are kept, and {command} scores them by another metric"
            return [], MetricError(f"{error.message}; {advice}", error.path, error.line)

    def _scores(self, path: Path, manifest: Manifest, normalizations: Sequence[Scoring]) -> list[Score]:
        return score_examples(
            read_examples(path / "examples.jsonl", manifest.tasks, manifest.examples_digest),
            manifest.tasks,
            manifest.suites,
            model_words=manifest.model_words,
            noise=manifest.noise,
            normalizations=normalizations,
            trust_remote_code=self.load_config.trust_remote_code,
            given=self.code,
        )


def _check_abilities(prepared: Sequence[PreparedTask], model: LanguageModel) -> None:
    """Raise `ModelError` if a task needs generated text or log-probabilities that the model cannot compute."""
    for each in prepared:
        if each.record.answer != "text" and model.scoring_limit:
            raise ModelError(f"{model.scoring_limit}; {each.record.task} needs them")
        if each.moments and not model.gives_moments:
            raise ModelError(
                f"{model.name} computes the log-probabilities of scored tokens only, and {MOMENT_METRIC} needs those "
                "of all tokens of the vocabulary"
            )
        if each.record.answer == "text" and not model.can_generate:
            raise ModelError(f"{model.name} cannot generate text ({model.kind}), which {each.record.task} needs")


def _check_same(ranks: Ranks, config: RunConfig, model: LanguageModel) -> None:
    """Raise `RunError` if the processes have different configurations or models."""
    configs = ranks.gather((config.model_dump_json(), model.fingerprint))
    for rank, each in enumerate(configs):
        if each != configs[0]:
            what = "configurations" if each[0] != configs[0][0] else "models"
            raise RunError(f"process {rank} and process 0 have different {what}")


def _versions() -> dict[str, str]:
    """The versions of icl-eval and of the packages that can change an answer."""
    return {"icl-eval": icl_eval.__version__} | {name: _version(name) for name in VERSIONED}


@cache
def _version(package: str) -> str:
    """The version of an installed package, cached because the lookup takes longer than scoring a small run."""
    return importlib.metadata.version(package)


def _model_words(model: LanguageModel, chat: ChatForm | None) -> str:
    """The words of a signature that describe the model: kind (unless causal), BOS, window, data type and chat."""
    kind = () if model.kind == CAUSAL else (model.kind,)
    start, words = (model.start, ()) if chat is None else (chat.start, (chat.words,))
    tokens = () if model.window == UNLIMITED else (f"bos{len(start)}", f"w{model.window}")
    return "|".join((*kind, *tokens, model.precision, *words))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
