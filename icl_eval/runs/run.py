"""The run itself: questions to a loaded model, its answers into the folder, scores and a manifest out."""

from __future__ import annotations

import importlib.metadata
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import icl_eval
from icl_eval.engine import Engine, Ranks, Workload, measure_noise
from icl_eval.errors import IclEvalError, MetricError
from icl_eval.models import CAUSAL, LanguageModel, LoadConfig, RowModel
from icl_eval.results.examples import read_examples
from icl_eval.results.folder import RunFolder, WorkerFolder
from icl_eval.results.manifest import Manifest
from icl_eval.results.records import Failure
from icl_eval.results.run_config import RunConfig
from icl_eval.results.score import Score
from icl_eval.runs.cells import Prepared
from icl_eval.runs.collect import collect, windows
from icl_eval.runs.explanation import Explanation
from icl_eval.runs.questions import EncodedQuery, RequestBuilder
from icl_eval.runs.result import Result
from icl_eval.runs.scores import score_examples
from icl_eval.tasks import Normalization, SuiteDefinition

Failed = dict[tuple[str, str], IclEvalError]  # by task and prompt: why it cannot be asked
VERSIONED = ("torch", "transformers", "tokenizers", "datasets", "jinja2", "numpy")

Progress = Callable[[int], Callable[[int], None]]  # total requests -> a tick that is told how many more are answered


@dataclass(frozen=True)
class Run:
    """A grid whose data is read, and the loaded model that is asked.

    Attributes:
        ask: what stands in the manifest.
        load_config: how the model was loaded.
        prepared: every task with each of its prompts.
        failures: the tasks whose data is missing.
        suites: whose averages are taken.
        note: what a reader of the scores must know first.
        model: what is asked.
        folder: where answers and examples are stored.
        keeps: whether the folder stays when the run has ended.
        ranks: the processes that share the work.
    """

    ask: RunConfig
    load_config: LoadConfig
    prepared: Sequence[Prepared]
    failures: tuple[Failure, ...]
    suites: Sequence[SuiteDefinition]
    note: str | None
    model: LanguageModel
    folder: RunFolder | WorkerFolder
    keeps: bool
    ranks: Ranks

    def finish(self, normalizations: Sequence[Normalization], progress: Progress) -> Result:
        """Collect the model's answers, then score them; all processes get the first one's scores."""
        began = time.monotonic()
        started = self._manifest()
        if isinstance(self.folder, RunFolder):
            self.folder.claim(started)
        manifest = self.collect(started, progress)
        if isinstance(self.folder, WorkerFolder):
            result: list[Any] = self.ranks.gather(None)
            return result[0]  # type: ignore[no-any-return]
        scores, unscored = self._score(manifest, normalizations)
        update = {"finished": _now(), "seconds": round(time.monotonic() - began, 3)}
        manifest = manifest.model_copy(update=update)
        self.folder.write_scores(scores)
        self.folder.write_manifest(manifest)
        if unscored is not None:
            raise unscored
        return self.ranks.gather(Result(tuple(scores), manifest, self.folder.path if self.keeps else None))[0]

    def _score(
        self, manifest: Manifest, normalizations: Sequence[Normalization]
    ) -> tuple[list[Score], MetricError | None]:
        """The scores of the collected examples; or none, and the error of a metric that cannot score them."""
        try:
            scores = score_examples(
                read_examples(self.folder.path / "examples.jsonl", manifest.tasks),
                manifest.tasks,
                self.suites,
                model_words=manifest.model_words,
                noise=manifest.noise,
                normalizations=normalizations,
                trust_remote_code=self.load_config.trust_remote_code,
            )
        except MetricError as error:
            if not self.keeps:
                raise
            command = f"`icl-eval rescore {self.folder.path} --metrics NAME`"
            advice = f"the answers are kept, and {command} scores them by another metric"
            return [], MetricError(f"{error.message}; {advice}", error.path, error.line)
        return scores, None

    def collect(self, manifest: Manifest, progress: Progress) -> Manifest:
        """Ask the model everything that is not yet in the journal; the first process writes `examples.jsonl`.

        Returns:
            The manifest without the tasks that failed, and with what answering took.

        Raises:
            IclEvalError: no task is left.
        """
        failed, control_names = Failed(), set[str]()
        engine = Engine(self.model, self.folder.journal, progress(sum(each.request_count() for each in self.prepared)))
        examples = collect(self._windows(failed, control_names), engine)
        if isinstance(self.folder, RunFolder):
            self.folder.write_examples(examples, failed)
        else:
            deque(examples, maxlen=0)
        failures = self._all_failures(failed)
        computed = sum(self.ranks.gather(engine.computed))
        self.folder.merge()
        return manifest.model_copy(
            update={
                "tasks": tuple(record for record in manifest.tasks if record.task_prompt not in failed),
                "failures": failures,
                "control_names": tuple(sorted(control_names)),
                "computed": computed,
                "reused": engine.reused,
            }
        )

    def explain(self) -> Explanation:
        """What is still to be asked, and what it takes."""
        engine = Engine(self.model, self.folder.journal)
        work, planned, failed = Workload(), set[str](), Failed()
        for window in self._windows(failed):
            work += engine.workload([request for question in window for request in question.requests], planned)
        failures = self._all_failures(failed)
        if not isinstance(self.model, RowModel):
            return Explanation(work, getattr(self.model, "weights", 0), {}, failures=failures)
        memory = work.memory(self.model.token_bytes, self.model.state_bytes, self.model.vocabulary)
        return Explanation(work, self.model.weights, memory, self.model.prefix_sharing_limit, failures)

    def _windows(self, failed: Failed, control_names: set[str] | None = None) -> Iterator[list[EncodedQuery]]:
        """The questions as the engine gets to see them, without those of tasks that have failed by then.

        Args:
            failed: gets the tasks that fail.
            control_names: gets the names in records that reach the model as control tokens.
        """
        for window in windows(self._questions(failed, set() if control_names is None else control_names)):
            yield [question for question in window if question.cell.task_prompt not in failed]

    def _questions(self, failed: Failed, control_names: set[str]) -> Iterator[EncodedQuery]:
        """All questions; of a task with one that cannot be asked, those before it. Its other prompts fail with it.

        Only prompts that were asked for by name do not: each has scores of its own.
        """
        for each in self.prepared:
            if each.record.task_prompt in failed:
                continue
            questioner = RequestBuilder(each, self.model, self.ask.overflow)
            try:
                yield from questioner.questions()
                control_names |= questioner.control_names
            except IclEvalError as error:
                failed |= dict.fromkeys(_sharing_scores(each, self.prepared), error)

    def _all_failures(self, failed: Failed) -> tuple[Failure, ...]:
        """The tasks without scores, each once: of those whose data is missing, and of these.

        Raises:
            IclEvalError: the first of these, if no task is left.
        """
        if len(failed) == len(self.prepared):
            raise next(iter(failed.values()))
        found = [
            Failure(task=each.task, selection=each.selection, reason=str(failed[each.task_prompt]))
            for each in (prepared.record for prepared in self.prepared)
            if each.task_prompt in failed
        ]
        return *self.failures, *dict.fromkeys(found)

    def _manifest(self) -> Manifest:
        import torch

        return Manifest(
            ask=self.ask,
            note=self.note,
            model_name=self.model.name,
            model_fingerprint=self.model.fingerprint,
            model_words=_model_words(self.model),
            window=self.model.window,
            prefix_sharing_limit=getattr(self.model, "prefix_sharing_limit", ""),
            noise=None if self.ranks.rank else measure_noise(self.model),
            tasks=tuple(each.record for each in self.prepared),
            failures=self.failures,
            suites=tuple(self.suites),
            versions=versions(),
            parameters=_count(self.model),
            device=str(getattr(self.model, "device", "none")),
            threads=torch.get_num_threads(),
            started=_now(),
            processes=self.ranks.size,
        )


def _sharing_scores(one: Prepared, prepared: Sequence[Prepared]) -> Iterator[tuple[str, str]]:
    """Of a task with its own prompts, which may be two for its numbers of shots, each; of a named prompt that alone."""
    for record in (each.record for each in prepared):
        if (record.task, record.selection) == (one.record.task, one.record.selection):
            yield record.task_prompt


def versions() -> dict[str, str]:
    """The versions of this package and of those that answers or their order may depend on."""
    own = {"icl-eval": icl_eval.__version__}
    return own | {name: importlib.metadata.version(name) for name in VERSIONED}


def _model_words(model: LanguageModel) -> str:
    """The signature's words for a model's rules; its kind if that is not the usual one."""
    kind = () if model.kind == CAUSAL else (model.kind,)
    return "|".join((*kind, f"bos{len(model.start)}", f"w{model.window}", model.precision))


def _count(model: LanguageModel) -> int | None:
    """The number of a model's parameters, if it says it; a module of one's own may have a method of that name."""
    said = getattr(model, "parameters", None)
    return said if isinstance(said, int) else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
