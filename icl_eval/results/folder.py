"""The run folder: its manifest, journal, examples, prompts and scores, written by one process at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

from icl_eval.engine import SINGLE_PROCESS, Journal, Ranks, SharedJournal, absorb_others, journal_path
from icl_eval.errors import RunError
from icl_eval.results.examples import ExampleResult, read_examples
from icl_eval.results.files import lock, replace_file, write_errors
from icl_eval.results.manifest import SWEEP, Manifest, read_manifest
from icl_eval.results.prompt_texts import NAME as PROMPTS
from icl_eval.results.prompt_texts import PromptParts, text_writer
from icl_eval.results.score import Score


class RunFolder:
    """The run folder in the first or only process. Journals of the processes of a killed run are merged.

    Args:
        path: the folder; it is created if it does not exist.
        ranks: the processes that share the folder, of which this is the first.

    Raises:
        RunError: the folder cannot be written, another run is using it, or it is the folder of a sweep.
        WorkerError: another process failed.
    """

    def __init__(self, path: Path, ranks: Ranks = SINGLE_PROCESS) -> None:
        self.path = path
        if (path / SWEEP).is_file():
            raise RunError("this folder contains a sweep over several models; give another --out", path)
        self._lock = lock(path)
        with ExitStack() as unless_open:
            unless_open.callback(self._lock.release)
            journal = unless_open.enter_context(Journal(journal_path(path, 0)))
            absorb_others(journal, path)
            self.journal = journal if ranks.size == 1 else _shared(journal, path, ranks)
            unless_open.pop_all()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.journal.__exit__(kind, error, trace)
        self._lock.release()

    def claim(self, manifest: Manifest) -> None:
        """Start a run in the folder. Results of an earlier run of the same model, data and tasks are deleted.

        The earlier run may have another grid, such as other numbers of shots; its answers are reused.

        Raises:
            RunError: the folder contains a run of another model, other data or other tasks.
        """
        if (self.path / "manifest.json").is_file():
            before = read_manifest(self.path)
            old, new = before.claim(), manifest.claim()
            if others := [f"`{name}`" for name in {**new, **old} if old.get(name) != new.get(name)]:
                run = f"{before.config.model} on {', '.join(before.config.tasks)}"
                message = f"this folder contains a run of {run} with other options: {', '.join(others)}"
                raise RunError(f"{message}; give another --out", self.path)
        for name in ("scores.json", "examples.jsonl", PROMPTS):
            with write_errors(self.path / name):
                (self.path / name).unlink(missing_ok=True)
        self.write_manifest(manifest)

    def merge(self) -> None:
        """Merge the answers of all processes into `answers.jsonl`. The journal cannot be read afterwards."""
        if isinstance(self.journal, SharedJournal):
            self.journal.merge()

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace `manifest.json`."""
        replace_file(self.path / "manifest.json", [manifest.model_dump_json(indent=1)])

    @contextmanager
    def examples(self, failed: Collection[tuple[str, str]]) -> Iterator[Callable[[ExampleResult], None]]:
        """A context that writes `examples.jsonl`; the file is only replaced when it is complete.

        Args:
            failed: (task, prompt) pairs whose examples are left out; it is read when the context ends.

        Yields:
            A function that writes one example.

        Raises:
            RunError: the file cannot be written.
        """
        partial = self.path / "examples.jsonl.partial"
        with ExitStack() as stack:
            with write_errors(partial):
                file = stack.enter_context(partial.open("w", encoding="utf-8"))

            def write(example: ExampleResult) -> None:
                with write_errors(partial):
                    file.write(example.line() + "\n")

            yield write
            with write_errors(partial):
                file.flush()
        if failed:
            kept = (each.line() + "\n" for each in read_examples(partial) if each.cell.task_prompt not in failed)
            replace_file(partial, kept, end="")
        with write_errors(partial):
            partial.replace(self.path / "examples.jsonl")

    def examples_digest(self) -> str:
        """The SHA-256 of `examples.jsonl`."""
        with (self.path / "examples.jsonl").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def prompts(self) -> AbstractContextManager[Callable[[ExampleResult, PromptParts], None]]:
        """A context that writes `prompts.jsonl`, as `text_writer`."""
        return text_writer(self.path)

    def write_scores(self, scores: Iterable[Score]) -> None:
        """Replace `scores.json`."""
        write_scores(self.path / "scores.json", scores)


class WorkerFolder:
    """The run folder in any other process, which only writes its own journal.

    Raises:
        RunError: the folder cannot be written.
        WorkerError: another process failed.
    """

    def __init__(self, path: Path, ranks: Ranks) -> None:
        self.path = path
        ranks.gather(None)  # waits until the first process has opened the folder
        with write_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as unless_open:
            journal = unless_open.enter_context(Journal(journal_path(path, ranks.rank)))
            self.journal = SharedJournal(journal, path, ranks)
            unless_open.pop_all()

    def __enter__(self) -> WorkerFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.journal.__exit__(kind, error, trace)

    def claim(self, _manifest: Manifest) -> None:
        """Do nothing, because the first process claims the folder."""

    @contextmanager
    def examples(self, _failed: Collection[tuple[str, str]]) -> Iterator[Callable[[ExampleResult], None]]:
        """Write nothing, because the first process writes the file."""
        yield lambda _: None

    @contextmanager
    def prompts(self) -> Iterator[Callable[[ExampleResult, PromptParts], None]]:
        """Write nothing, because the first process writes the file."""
        yield lambda _, __: None

    def merge(self) -> None:
        """Let the first process merge the answers of this one."""
        self.journal.merge()


@contextmanager
def open_folder(path: Path | None, ranks: Ranks = SINGLE_PROCESS) -> Iterator[RunFolder | WorkerFolder]:
    """Open the run folder for this process; without a path, a temporary folder."""
    with ExitStack() as stack:
        if path is None:  # so that not all answers have to be in memory
            path = Path(stack.enter_context(TemporaryDirectory(prefix="icl-eval-")))
        folder = WorkerFolder(path, ranks) if ranks.rank else RunFolder(path, ranks)
        stack.enter_context(folder)
        yield folder


def write_scores(path: Path, scores: Iterable[Score]) -> None:
    """Replace a `scores.json`. Undefined numbers are null.

    Raises:
        RunError: the file cannot be written.
    """
    entries = [score.stored() for score in scores]
    replace_file(path, [json.dumps({"scores": entries}, indent=1, ensure_ascii=False, allow_nan=False)])


def _shared(journal: Journal, path: Path, ranks: Ranks) -> SharedJournal:
    ranks.gather(None)  # lets the other processes open their journals
    return SharedJournal(journal, path, ranks)
