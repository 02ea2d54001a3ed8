"""Several processes on one run: each loads the model, and they share only the run folder."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from rank_threads import errors_of, together
from toy_tasks import NAMES, PROMPT, answers, knowing, parity

from icl_eval import Result, Sweep, Task, evaluate, rescore, sweep
from icl_eval.engine import SINGLE_PROCESS, Ranks
from icl_eval.errors import ModelError, RankError, RunError, UnknownName, WindowError, WorkerError
from icl_eval.models import ScoreRequest, Sink
from icl_eval.testing import FakeLM

from .crew import finish, run, run_forked, start
from .folders import journal, manifest

KEPT = ("scores.json", "examples.jsonl")
ASKED = {
    "choices": "evaluate('tiny', 'superglue', shots=[0, 4], seeds=2, limit=3, data='sample', out=sys.argv[1])",
    "texts": "evaluate('tiny', ['arithmetic/1d-composite', 'unscramble/reversed-words'], shots=[0, 2], limit=12,"
    " out=sys.argv[1])",
    "likelihoods": "evaluate('tiny', text(), shots=[0, 2, 6], out=sys.argv[1])",
    "one prefix": "evaluate('tiny', text('fixed'), shots=[6], out=sys.argv[1])",
    "a black box": "evaluate(FakeLM(), [parity(range(60)), text()], shots=[0, 2], out=sys.argv[1])",
}
LONG = "evaluate('tiny', 'superglue', shots=[0, 4], seeds=2, limit=5, data='sample', out=sys.argv[1])"


def several_chunks() -> Task:
    """A task whose requests are several chunks, by few long prompts."""
    return parity(range(200), prompt="-" * 120 + PROMPT)


InThreads = Callable[[Callable[[int], Any]], Callable[[Ranks], Any]]


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> InThreads:
    """Turns the work of a process into that of a thread with its rank."""
    thread = threading.local()
    for name in ("evaluate", "sweep"):
        monkeypatch.setattr(f"icl_eval.runs.{name}.launched", lambda **_: getattr(thread, "ranks", SINGLE_PROCESS))

    def at_rank(work: Callable[[int], Any]) -> Callable[[Ranks], Any]:
        def run(ranks: Ranks) -> Any:
            thread.ranks = ranks
            return work(ranks.rank)

        return run

    return at_rank


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in KEPT}


def test_a_run_by_one_process_is_as_ever(tmp_path: Path) -> None:
    evaluate(knowing(0), parity(), shots=0, out=tmp_path)

    assert manifest(tmp_path)["processes"] == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".jsonl") == [
        "answers.jsonl",
        "examples.jsonl",
        "prompts.jsonl",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("kind", ASKED)
def test_scores_and_every_answer_are_those_of_one_process_to_the_last_byte(
    kind: str, size: int, tmp_path: Path
) -> None:
    code = f"result = {ASKED[kind]}; print(len(result), result.manifest.processes, result.score(result.scores[0].task))"
    (alone,) = run(code, tmp_path / "alone", 1)
    printed = run(code, tmp_path / "many", size)

    assert contents(tmp_path / "many") == contents(tmp_path / "alone")
    assert printed == [alone.replace(" 1 ", f" {size} ", 1)] * size
    assert (found := manifest(tmp_path / "many"))["processes"] == size
    assert found["computed"] == manifest(tmp_path / "alone")["computed"] == len(journal(tmp_path / "many"))
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == [
        ".lock",
        "answers.jsonl",
        "examples.jsonl",
        "manifest.json",
        "prompts.jsonl",
        "scores.json",
    ]


@pytest.mark.slow
def test_two_processes_score_as_one_does(tmp_path: Path) -> None:
    code = "print(evaluate('tiny', 'superglue/cb', shots=[0, 3], limit=6, data='sample', out=sys.argv[1]).table())"
    alone = evaluate("tiny", "superglue/cb", shots=[0, 3], limit=6, data="sample", out=tmp_path / "alone")

    assert run(code, tmp_path / "many", 2) == [alone.table() + "\n"] * 2
    assert contents(tmp_path / "many") == contents(tmp_path / "alone")


def test_processes_leave_their_group_before_they_end(tmp_path: Path) -> None:
    code = (
        "import atexit, torch.distributed as group\n"
        "atexit.register(lambda: print(group.is_initialized()))\n"
        "evaluate(knowing(0), parity(), shots=0, out=sys.argv[1])\n"
        "print(group.is_initialized())"
    )

    assert run_forked(code, tmp_path / "many", 2) == ["True\nFalse\n"] * 2


def test_more_processes_than_questions(tmp_path: Path, in_threads: InThreads) -> None:
    alone = evaluate(knowing(0), parity(range(1)), shots=0, out=tmp_path / "alone")
    found = together(3, in_threads(lambda _: evaluate(knowing(0), parity(range(1)), shots=0, out=tmp_path / "many")))

    assert [result.table() for result in found] == [alone.table()] * 3
    assert contents(tmp_path / "many") == contents(tmp_path / "alone")
    assert manifest(tmp_path / "many")["computed"] == 4


def test_processes_share_what_calibration_needs(tmp_path: Path, in_threads: InThreads) -> None:
    options: dict[str, Any] = {"shots": [0, 2], "calibrate": "contextual"}
    evaluate(knowing(0), parity(), out=tmp_path / "alone", **options)
    together(2, in_threads(lambda _: evaluate(knowing(0), parity(), out=tmp_path / "many", **options)))

    assert contents(tmp_path / "many") == contents(tmp_path / "alone")


def test_processes_choose_the_same_demonstrations(tmp_path: Path, in_threads: InThreads) -> None:
    options: dict[str, Any] = {
        "shots": [0, 2],
        "seeds": 2,
        "select": ["random", "bm25", "mdl", "vote-k:4"],
        "labels": ["gold", "flipped"],
    }
    evaluate(knowing(0), parity(), out=tmp_path / "alone", **options)
    together(2, in_threads(lambda _: evaluate(knowing(0), parity(), out=tmp_path / "many", **options)))

    assert contents(tmp_path / "many") == contents(tmp_path / "alone")
    assert manifest(tmp_path / "many")["computed"] == manifest(tmp_path / "alone")["computed"]


def test_all_processes_get_the_result_of_the_first(tmp_path: Path, in_threads: InThreads) -> None:
    ticks: list[int] = []

    def progress(total: int) -> Callable[[int], None]:
        ticks.append(-total)
        return ticks.append

    def work(_: int) -> Result:
        return evaluate(knowing(0, 1), parity(), shots=[0, 2], out=tmp_path, progress=progress)

    first, second = together(2, in_threads(work))

    assert first == second
    assert (first.manifest.processes, first.folder) == (2, tmp_path)
    assert first.manifest.computed == len(journal(tmp_path))
    assert sum(ticks) == 0
    assert rescore(tmp_path).scores == first.scores


def test_another_grid_goes_on_with_what_several_answered(tmp_path: Path, in_threads: InThreads) -> None:
    together(2, in_threads(lambda _: evaluate(knowing(0), parity(), shots=0, out=tmp_path)))
    lm = knowing(0)
    evaluate(lm, parity(), shots=[0, 1], out=tmp_path)

    assert lm.answered == 8 * 2


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this platform kills otherwise")
@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3])
def test_what_was_answered_before_a_process_was_killed_is_not_computed_again(size: int, tmp_path: Path) -> None:
    run(LONG, tmp_path / "alone", 1)
    processes = start(LONG, tmp_path / "many", 2)
    other = tmp_path / "many" / "answers.1.jsonl"
    while not (other.is_file() and other.stat().st_size):
        assert processes[1].poll() is None, processes[1].communicate()
        time.sleep(0.005)
    os.kill(processes[1].pid, signal.SIGKILL)
    (first, *_), (killed, *_) = finish(processes)
    kept = sum(path.read_bytes().count(b"\n") for path in (tmp_path / "many").glob("answers*.jsonl"))
    run(LONG, tmp_path / "many", size)

    assert (first, killed) == (1, -signal.SIGKILL)
    assert 0 < kept < len(journal(tmp_path / "alone"))
    assert len(journal(tmp_path / "many")) == len(journal(tmp_path / "alone"))
    assert manifest(tmp_path / "many")["computed"] == len(journal(tmp_path / "alone")) - kept
    assert (tmp_path / "many" / "scores.json").read_bytes() == (tmp_path / "alone" / "scores.json").read_bytes()


def test_what_killed_processes_left_is_merged_without_the_lines_they_tore(tmp_path: Path) -> None:
    whole = knowing(0, 1)
    evaluate(whole, parity(), shots=[0, 2], out=tmp_path / "whole")
    lines = (tmp_path / "whole" / "answers.jsonl").read_bytes().splitlines(keepends=True)
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "answers.jsonl").write_bytes(b"".join(lines[:5]) + lines[5][:9])
    (cut / "answers.1.jsonl").write_bytes(b"".join(lines[4:9]) + lines[9][:-1])
    (cut / "answers.12.jsonl").write_bytes(b"".join(lines[10:12]))
    (cut / "answers.2.jsonl").write_bytes(b"")
    (cut / "answers.old.jsonl").write_bytes(b"not ours")
    rest = knowing(0, 1)
    evaluate(rest, parity(), shots=[0, 2], out=cut)

    assert rest.answered == whole.answered - 11
    assert contents(cut) == contents(tmp_path / "whole")
    assert sorted(entry["key"] for entry in journal(cut)) == sorted(
        entry["key"] for entry in journal(tmp_path / "whole")
    )
    assert sorted(path.name for path in cut.glob("answers*")) == ["answers.jsonl", "answers.old.jsonl"]


def test_a_damaged_line_of_a_process_that_was_killed_is_named(tmp_path: Path) -> None:
    (tmp_path / "answers.1.jsonl").write_bytes(b"{broken\n{}\n")

    with pytest.raises(RunError, match=r"answers\.1\.jsonl:1: the lines 1 to 2 of the journal are damaged"):
        evaluate(knowing(0), parity(), shots=0, out=tmp_path)


def test_a_mistake_of_all_is_reported_by_the_first_alone(tmp_path: Path, in_threads: InThreads) -> None:
    first, second = errors_of(2, in_threads(lambda _: evaluate("tiny", "superglue/cd", data="sample", out=tmp_path)))

    assert isinstance(first, UnknownName)
    assert isinstance(second, WorkerError)
    assert str(second) == f"process 0: {first}"


def test_processes_without_a_folder_cannot_share(in_threads: InThreads) -> None:
    first, _ = errors_of(2, in_threads(lambda _: evaluate(knowing(0), parity(), shots=0)))

    assert str(first) == "2 processes share their answers through a run folder: give `out` or `keep`"


def test_processes_that_do_not_do_the_same_are_reported(tmp_path: Path, in_threads: InThreads) -> None:
    model, _ = errors_of(2, in_threads(lambda rank: evaluate(knowing(rank), parity(), shots=0, out=tmp_path)))
    shots, _ = errors_of(2, in_threads(lambda rank: evaluate(knowing(0), parity(), shots=rank, out=tmp_path)))

    assert str(model) == "process 1 and process 0 have different models"
    assert str(shots) == "process 1 and process 0 have different configurations"


def test_a_folder_in_use_is_reported_once(tmp_path: Path, in_threads: InThreads) -> None:
    with FileLock(tmp_path / ".lock"):
        first, second = errors_of(2, in_threads(lambda _: evaluate(knowing(0), parity(), shots=0, out=tmp_path)))

    assert str(first) == f"{tmp_path}: another process is writing this run folder"
    assert isinstance(second, WorkerError)


def test_processes_agree_on_which_tasks_fail(tmp_path: Path, in_threads: InThreads) -> None:
    rows = [{"n": n, "label": 0} for n in ("2", "2" * 99)]
    long = Task.from_records("long", evaluation=rows, prompt=PROMPT, options=NAMES)

    def narrow() -> FakeLM:
        return FakeLM(answers([0]), window=50)

    first, second = together(
        2, in_threads(lambda _: evaluate(narrow(), [long, parity()], shots=0, out=tmp_path / "many"))
    )
    alone = evaluate(narrow(), parity(), shots=0, out=tmp_path / "alone")
    errors = errors_of(2, in_threads(lambda _: evaluate(narrow(), long, shots=0, out=tmp_path / "none")))

    assert first == second
    assert [each.task for each in first.failures] == ["long"]
    assert first.scores == alone.scores
    assert contents(tmp_path / "many") == contents(tmp_path / "alone")
    assert [type(error) for error in errors] == [WindowError, WorkerError]


def test_an_error_of_one_process_alone_ends_the_others_and_loses_no_answer(
    tmp_path: Path, in_threads: InThreads
) -> None:
    class Failing(FakeLM):
        def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
            raise ModelError("the device went away")

    models = [FakeLM(), Failing()]
    first, second = errors_of(
        2, in_threads(lambda rank: evaluate(models[rank], several_chunks(), shots=0, out=tmp_path))
    )
    kept = len(journal(tmp_path))
    rest = FakeLM()
    evaluate(rest, several_chunks(), shots=0, out=tmp_path)

    assert (type(first), type(second)) == (WorkerError, RankError)
    assert str(first) == str(second) == "process 1: the device went away"
    assert kept > 0
    assert rest.answered == len(journal(tmp_path)) - kept


def swept_by(ranks: int, in_threads: InThreads, models: Callable[[int], list[FakeLM]], out: Path | None) -> list[Sweep]:
    """The results of processes that sweep together, each with its instances of the models."""
    return together(ranks, in_threads(lambda rank: sweep(models(rank), several_chunks(), shots=0, out=out)))


def members(folder: Path) -> dict[str, dict[str, Any]]:
    return {each["model"]: each for each in json.loads((folder / "sweep.json").read_text())["members"]}


def test_processes_share_every_model_of_a_sweep(tmp_path: Path, in_threads: InThreads) -> None:
    models_of_rank = {rank: [FakeLM(name="one"), FakeLM(name="two")] for rank in range(2)}
    first, second = swept_by(2, in_threads, models_of_rank.__getitem__, tmp_path / "many")
    alone = sweep([FakeLM(name="one"), FakeLM(name="two")], several_chunks(), shots=0, out=tmp_path / "alone")

    assert first == second
    assert first.table() == alone.table()
    assert [result.manifest.processes for result in first] == [2, 2]
    assert members(tmp_path / "many") == members(tmp_path / "alone")
    for name, member in members(tmp_path / "many").items():
        many, one = (tmp_path / parent / member["folder"] for parent in ("many", "alone"))
        assert contents(many) == contents(one), name
        assert len(journal(many)) == sum(
            lm.answered for lms in models_of_rank.values() for lm in lms if lm.name == name
        )
    assert all(lm.answered for lms in models_of_rank.values() for lm in lms)


def test_a_model_that_fails_in_one_process_fails_in_all_and_the_next_is_shared(
    tmp_path: Path, in_threads: InThreads
) -> None:
    class Failing(FakeLM):
        def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
            raise ModelError("the device went away")

    models_of_rank = {rank: [[FakeLM, Failing][rank](name="one"), FakeLM(name="two")] for rank in range(2)}
    first, second = swept_by(2, in_threads, models_of_rank.__getitem__, tmp_path)

    assert first == second
    assert [(each.label, each.failed) for each in first.failures] == [("one", "process 1: the device went away")]
    assert [result.manifest.model_name for result in first] == ["two"]
    assert all(lms[1].answered for lms in models_of_rank.values())


def test_a_mistake_that_is_no_models_ends_a_sweep_in_all_processes(tmp_path: Path, in_threads: InThreads) -> None:
    first, second = errors_of(2, in_threads(lambda _: sweep([FakeLM()], parity(), shots=0)))
    with FileLock(tmp_path / ".lock"):
        taken, _ = errors_of(2, in_threads(lambda _: sweep([FakeLM()], parity(), shots=0, out=tmp_path)))

    assert str(first) == "2 processes share their answers through a run folder: give `out` or `keep`"
    assert str(second) == f"process 0: {first}"
    assert str(taken) == f"{tmp_path}: another process is writing this run folder"


def test_what_is_finished_is_loaded_by_none_of_several_processes(
    tmp_path: Path, in_threads: InThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = sweep("tiny", parity(range(2)), shots=0, out=tmp_path)
    monkeypatch.setattr("icl_eval.runs.model.load", None)
    found = together(2, in_threads(lambda _: sweep("tiny", parity(range(2)), shots=0, out=tmp_path)))

    assert [each.results[0].scores for each in found] == [kept.results[0].scores] * 2


@pytest.mark.slow
def test_a_process_may_measure_alone(tmp_path: Path) -> None:
    code = "import os\nif os.environ['RANK'] == '0':\n    evaluate(knowing(0), parity(), shots=0, alone=True)"

    assert run(code, tmp_path, 2) == ["", ""]
