"""The run itself: questions to a loaded model, its answers into the folder, scores and a manifest out."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import icl_eval
from icl_eval.engine import Engine, Journal, Ranks, SharedJournal, Workload, measure_noise
from icl_eval.errors import MetricError
from icl_eval.models import CAUSAL, LanguageModel, RowModel, Setup
from icl_eval.runs.ask import Ask
from icl_eval.runs.cells import Prepared
from icl_eval.runs.evidence import Evidence, gather, windows
from icl_eval.runs.explanation import Explanation
from icl_eval.runs.folder import GuestFolder, RunFolder
from icl_eval.runs.manifest import Manifest
from icl_eval.runs.questions import Question, Questioner
from icl_eval.runs.result import Result
from icl_eval.runs.score import Score
from icl_eval.runs.scores import score_evidence
from icl_eval.tasks import Normalization, SuiteDefinition

VERSIONED = ("torch", "transformers", "tokenizers", "datasets", "jinja2", "numpy")

Progress = Callable[[int], Callable[[int], None]]  # total requests -> a tick that is told how many more are answered


@dataclass(frozen=True)
class Run:
    """A grid whose data is read, and the loaded model that is asked.

    Attributes:
        ask: what stands in the manifest.
        setup: how the model was loaded.
        prepared: every task with each of its prompts.
        suites: whose averages are taken.
        note: what a reader of the scores must know first.
        model: what is asked.
        folder: where the run is kept; None if nothing is.
        journal: where answers are kept.
        ranks: the processes that share the work.
    """

    ask: Ask
    setup: Setup
    prepared: Sequence[Prepared]
    suites: Sequence[SuiteDefinition]
    note: str | None
    model: LanguageModel
    folder: RunFolder | GuestFolder | None
    journal: Journal | SharedJournal
    ranks: Ranks

    def finish(self, normalizations: Sequence[Normalization], progress: Progress) -> Result:
        """Ask everything that is not yet answered, and score it; all processes get what the first one has scored."""
        began = time.monotonic()
        manifest = self._manifest()
        tick = progress(sum(each.request_count() for each in self.prepared))
        engine = Engine(self.model, self.journal, tick)
        if isinstance(self.folder, GuestFolder):
            return self._assist(self.folder, engine)
        if self.folder:
            self.folder.claim(manifest)
        evidence: Iterator[Evidence] = gather(self._questions(), engine)
        scores: list[Score] = []
        unscored: MetricError | None = None
        try:
            scores = score_evidence(
                self.folder.write_evidence(evidence) if self.folder else evidence,
                manifest.tasks,
                self.suites,
                model_words=manifest.model_words,
                noise=manifest.noise,
                normalizations=normalizations,
                trust_remote_code=self.setup.trust_remote_code,
            )
        except MetricError as error:
            if self.folder is None or not self.folder.is_answered:
                raise
            unscored = MetricError(
                f"{error.message}; the answers are kept, and `icl-eval rescore {self.folder.path} --metrics NAME` "
                f"scores them by another metric",
                error.path,
                error.line,
            )
        manifest = manifest.model_copy(
            update={
                "finished": _now(),
                "seconds": round(time.monotonic() - began, 3),
                "computed": sum(self.ranks.gather(engine.computed)),
                "reused": engine.reused,
            }
        )
        if self.folder:
            self.folder.merge()
            self.folder.write_scores(scores)
            self.folder.write_manifest(manifest)
        if unscored is not None:
            raise unscored
        return self.ranks.gather(Result(tuple(scores), manifest, self.folder.path if self.folder else None))[0]

    def _assist(self, folder: GuestFolder, engine: Engine) -> Result:
        """Answer this process's share, and get the result of all."""
        for _ in gather(self._questions(), engine):
            pass
        self.ranks.gather(engine.computed)
        folder.merge()
        result: list[Any] = self.ranks.gather(None)
        return result[0]  # type: ignore[no-any-return]

    def explain(self) -> Explanation:
        """What is still to be asked, and what it takes."""
        engine = Engine(self.model, self.journal)
        work, planned = Workload(), set[str]()
        for window in windows(self._questions()):
            work += engine.workload([request for question in window for request in question.requests], planned)
        if not isinstance(self.model, RowModel):
            return Explanation(work, getattr(self.model, "weights", 0), {})
        memory = work.memory(self.model.token_bytes, self.model.state_bytes, self.model.vocabulary)
        return Explanation(work, self.model.weights, memory, self.model.why_not)

    def _questions(self) -> Iterator[Question]:
        return chain.from_iterable(
            Questioner(each, self.model, self.ask.overflow).questions() for each in self.prepared
        )

    def _manifest(self) -> Manifest:
        import torch

        return Manifest(
            ask=self.ask,
            note=self.note,
            model_name=self.model.name,
            model_fingerprint=self.model.fingerprint,
            model_words=_model_words(self.model),
            window=self.model.window,
            sharing=getattr(self.model, "why_not", ""),
            noise=None if self.ranks.rank else measure_noise(self.model),
            tasks=tuple(each.record for each in self.prepared),
            suites=tuple(self.suites),
            versions=versions(),
            parameters=_count(self.model),
            device=str(getattr(self.model, "device", "none")),
            threads=torch.get_num_threads(),
            started=_now(),
            processes=self.ranks.size,
        )


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
