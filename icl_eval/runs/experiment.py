"""A grid for a model that is not loaded yet, and when it need not be loaded: a finished run stands in its folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from icl_eval.engine import SINGLE_PROCESS, Ranks
from icl_eval.errors import ModelError, RunError
from icl_eval.models import GeneratingModel, LanguageModel, LoadConfig, is_current
from icl_eval.results.folder import RunFolder, WorkerFolder
from icl_eval.results.manifest import Manifest, read_manifest
from icl_eval.results.records import Failure
from icl_eval.results.run_config import RunConfig
from icl_eval.runs.cells import Prepared
from icl_eval.runs.explanation import Explanation
from icl_eval.runs.model import Model, check_model, loaded, name_of
from icl_eval.runs.rescoring import rescore
from icl_eval.runs.result import Result
from icl_eval.runs.run import Progress, Run, versions
from icl_eval.tasks import Normalization, SuiteDefinition


@dataclass(frozen=True)
class Experiment:
    """A grid whose data is read and checked, for a model that is not loaded yet.

    Attributes:
        model: what is asked: a name, or a loaded model.
        ask: what stands in the manifest.
        load_config: how the model is loaded.
        prepared: every task with each of its prompts.
        failures: the tasks whose data is missing.
        suites: whose averages are taken.
        place: the run folder; None if nothing is kept.
        note: what a reader of the scores must know first.
    """

    model: str | LanguageModel | tuple[Any, Any]
    ask: RunConfig
    load_config: LoadConfig
    prepared: tuple[Prepared, ...]
    failures: tuple[Failure, ...]
    suites: tuple[SuiteDefinition, ...]
    place: Path | None
    note: str | None

    def of(self, model: Model, revision: str | None) -> Experiment:
        """The same of another model, which no folder is given to.

        Raises:
            ModelError: the model is not one, has no revisions, or an option has no effect on it.
            RunError: an option has no effect on a model that is loaded already.
        """
        model = str(model) if isinstance(model, Path) else model
        ask = self.ask.model_copy(update={"model": name_of(model), "revision": revision})
        check_model(model, ask, self.load_config)
        return replace(self, model=model, ask=ask, place=None)

    def measure(
        self, normalizations: Sequence[Normalization], progress: Progress, ranks: Ranks = SINGLE_PROCESS
    ) -> Result:
        """Load the model and ask it, unless the folder holds just this, finished.

        Raises:
            RunError: there is no folder in which the processes could share their answers.
        """
        if ranks.size > 1 and self.place is None:
            raise RunError(f"{ranks.size} processes share their answers through a run folder: give `out` or `keep`")
        if (kept := ranks.gather(None if ranks.rank else self._kept(normalizations))[0]) is not None:
            return kept
        with self._opened(new=True, ranks=ranks) as run:
            return run.finish(normalizations, progress)

    def explain(self) -> Explanation:
        """What measuring would ask and compute."""
        with self._opened(new=False, ranks=SINGLE_PROCESS) as run:
            return run.explain()

    @contextmanager
    def _opened(self, *, new: bool, ranks: Ranks) -> Iterator[Run]:
        """The model loaded and the folder opened, which is made if `new`."""
        lm = loaded(self.model, self.ask, self.load_config)
        _check_kinds(self.prepared, lm)
        _check_alike(ranks, self.ask, lm)
        with ExitStack() as stack:
            if keeps := self.place is not None and (new or self.place.is_dir()):
                path = self.place
            else:  # answers need not all be in memory
                path = Path(stack.enter_context(TemporaryDirectory(prefix="icl-eval-")))
            folder = WorkerFolder(path, ranks) if ranks.rank else RunFolder(path, ranks)
            stack.enter_context(folder)
            read = self.ask, self.load_config, self.prepared, self.failures, self.suites, self.note
            yield Run(*read, lm, folder, keeps, ranks)

    def _kept(self, normalizations: Sequence[Normalization]) -> Result | None:
        """The finished run in the folder, read without its model; None if there is none or anything has changed."""
        if self.place is None or not (self.place / "manifest.json").is_file() or not isinstance(self.model, str):
            return None
        if self.load_config.tensor_parallel:  # the folder is the first process's alone
            return None
        with RunFolder(self.place) as folder:
            try:
                manifest = read_manifest(self.place)
                if not self._stands(manifest, self.model):
                    return None
                result = rescore(self.place, normalizations, trust_remote_code=self.load_config.trust_remote_code)
            except RunError:  # what is damaged is made again
                return None
            folder.write_scores(result)
        return result

    def _stands(self, manifest: Manifest, name: str) -> bool:
        """Whether measuring would end in this manifest, but for clock and counts; what failed is tried again."""
        same = {
            "ask": self.ask,
            "note": self.note,
            "tasks": tuple(each.record for each in self.prepared),
            "suites": self.suites,
            "versions": versions(),
        }
        return (
            manifest.finished is not None
            and not (manifest.failures or self.failures)
            and all(getattr(manifest, field) == value for field, value in same.items())
            and is_current(manifest.model_fingerprint, manifest.device, name, self.ask, self.load_config)
        )


def _check_kinds(prepared: Sequence[Prepared], model: LanguageModel) -> None:
    """Raise `ModelError` if a task is to be answered in writing by a model that cannot write."""
    for each in prepared:
        if each.record.answer == "text" and not isinstance(model, GeneratingModel):
            raise ModelError(f"{model.name} cannot write ({model.kind}), but {each.record.task} is answered in writing")


def _check_alike(ranks: Ranks, ask: RunConfig, model: LanguageModel) -> None:
    """Raise `RunError` if the processes are not about to do the same."""
    asked = ranks.gather((ask.model_dump_json(), model.fingerprint))
    for rank, each in enumerate(asked):
        if each != asked[0]:
            what = "asks otherwise" if each[0] != asked[0][0] else "has another model"
            raise RunError(f"process {rank} {what} than process 0")
