from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from icl_eval.cli.processes import LAUNCHER, stop_with_launcher, without_option
from icl_eval.engine import SINGLE_PROCESS
from icl_eval.testing import FakeLM

from .shell import TOY, IclEval, Shell

ROOT = Path(__file__).resolve().parents[2]
TINY = (
    "run",
    "-t",
    "superglue/cb,superglue/copa",
    "--shots",
    "0,3",
    "--limit",
    "5",
    "--device",
    "cpu",
    "--format",
    "csv",
)
LONG = ("run", "-t", "superglue", "--shots", "0,4", "--seeds", "2", "--limit", "20", "--device", "cpu")


def start(*words: object, processes: int = 1) -> subprocess.Popen[str]:
    """`icl-eval` as a user starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "icl_eval", *map(str, words), "--processes", str(processes)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[str]) -> Shell:
    out, err = process.communicate(timeout=300)
    return Shell(process.returncode, out, err)


def rank_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("RANK")
    except psutil.Error:
        return None


@pytest.mark.slow
def test_several_processes_print_once_what_one_prints(icl_eval: IclEval, tmp_path: Path) -> None:
    alone = icl_eval(*TINY, "--out", tmp_path / "alone")
    many = finish(start(*TINY, "--out", tmp_path / "many", processes=2))

    assert alone.code == 0
    assert many == Shell(0, alone.out, f"stored in {tmp_path / 'many'}\n")
    assert (tmp_path / "many" / "scores.json").read_bytes() == (tmp_path / "alone" / "scores.json").read_bytes()


def test_the_launcher_starts_this_command_and_its_failure_is_that_of_the_command(
    icl_eval: IclEval, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    codes: list[dict[int, int]] = [{}, {0: 2, 1: -15}, {0: 1}, {1: 130}]

    def launch(command: Any) -> None:
        started.append((command, os.environ[LAUNCHER]))
        if failures := codes[len(started) - 1]:
            found: Any = {rank: SimpleNamespace(exitcode=code) for rank, code in failures.items()}
            raise ChildFailedError("icl_eval", found)

    monkeypatch.setattr("accelerate.commands.launch.launch_command", launch)
    monkeypatch.setattr(ChildFailedError, "format_msg", lambda _: "")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    words = ("run", "-t", "toy/parity", "--device", "cpu", *TOY)
    found = [icl_eval(*words, "--processes", 2) for _ in codes]

    assert [each.code for each in found] == [0, 2, 1, 130]
    assert [each.out for each in found] == [""] * 4
    assert LAUNCHER not in os.environ
    for command, launcher in started:
        assert (command.module, command.training_script, command.training_script_args) == (True, "icl_eval", [*words])
        assert (command.num_processes, command.num_cpu_threads_per_process, command.main_process_port) == (2, 3, 0)
        assert launcher == str(os.getpid())


@pytest.mark.parametrize("words", [(), ("--explain",), ("-m", "second")])
def test_only_the_first_of_several_processes_prints(
    words: tuple[str, ...], icl_eval: IclEval, lm: FakeLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("run", "-m", "any", "-t", "toy/parity", "--shots", "0", *TOY, *words)
    alone = icl_eval(*command, "--out", "alone")
    monkeypatch.setattr("icl_eval.runs.evaluate.launched", lambda **_: SINGLE_PROCESS)
    monkeypatch.setattr("icl_eval.runs.sweep.launched", lambda **_: SINGLE_PROCESS)
    monkeypatch.setenv("WORLD_SIZE", "2")
    results = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        results.append(icl_eval(*command, "--out", "many"))

    assert alone.out
    assert [(each.code, each.out) for each in results] == [(0, alone.out), (0, "")]
    assert results[0].err == alone.err.replace("alone", "many")


@pytest.mark.slow
def test_several_processes_share_a_sweep_and_print_its_table_once(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "icl_eval/tiny/model", tmp_path / "copy")
    sweep = (*TINY, "--data", "sample", "--model", f"tiny,{tmp_path / 'copy'}")
    alone = finish(start(*sweep, "--out", tmp_path / "alone"))
    many = finish(start(*sweep, "--out", tmp_path / "many", processes=2))

    assert alone.code == 0
    assert many == Shell(0, alone.out, f"stored in {tmp_path / 'many'}\n")
    scores = [sorted(path.read_bytes() for path in (tmp_path / way).glob("*/scores.json")) for way in ("alone", "many")]
    assert len(scores[0]) == 2
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_a_mistake_of_all_processes_is_reported_once(tmp_path: Path) -> None:
    message = finish(
        start("run", "-t", "superglue/cd", "--device", "cpu", "--out", tmp_path / "run", processes=2)
    ).mistake

    assert message.startswith("no task or suite is named 'superglue/cd'; did you mean superglue/cb")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this platform has no SIGKILL")
@pytest.mark.parametrize("rank", [0, 1])
def test_killed_process_ends_the_run_and_the_same_command_continues_it(rank: int, tmp_path: Path) -> None:
    run = (*LONG, "--out", tmp_path / "many")
    started = start(*run, processes=2)
    while not (other := tmp_path / "many" / "answers.1.jsonl").is_file() or not other.stat().st_size:
        assert started.poll() is None, started.communicate()
        time.sleep(0.01)
    (victim,) = [each for each in psutil.Process(started.pid).children(recursive=True) if rank_of(each) == str(rank)]
    victim.kill()
    result = finish(started)
    kept = sum(path.read_bytes().count(b"\n") for path in other.parent.glob("answers*.jsonl"))
    again = finish(start(*run, processes=2))
    alone = finish(start(*LONG, "--out", tmp_path / "alone"))

    sentence = (
        "icl-eval: a process was killed (signal 9); all answers are stored, and the same command continues the run\n"
    )
    assert (result.code, result.out) == (1, "")
    assert result.err.endswith(sentence)  # torch may complain first that it is ended while it exits
    assert 0 < kept < (tmp_path / "alone" / "answers.jsonl").read_bytes().count(b"\n")
    assert again == Shell(0, alone.out, f"stored in {other.parent}\n")
    assert (other.parent / "scores.json").read_bytes() == (tmp_path / "alone" / "scores.json").read_bytes()


@pytest.mark.slow
def test_interrupt_prints_once_how_to_continue(tmp_path: Path) -> None:
    started = start(*LONG, "--out", tmp_path / "many", processes=2)
    while not (other := tmp_path / "many" / "answers.1.jsonl").is_file() or not other.stat().st_size:
        assert started.poll() is None, started.communicate()
        time.sleep(0.01)
    started.send_signal(signal.SIGTERM)
    result = finish(started)

    assert (result.code, result.out) == (130, "")
    assert result.err.startswith("\ninterrupted; all answers are stored, and this command continues the run:\n")
    assert result.err.rstrip().endswith("--processes 2")
    assert result.err.count("\n") == 3


def test_a_process_is_interrupted_when_its_launcher_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    parents, signals = iter([7, 7, 1]), queue.SimpleQueue[tuple[int, int]]()
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(os, "kill", lambda *sent: signals.put(sent))
    stop_with_launcher()
    monkeypatch.setenv(LAUNCHER, "7")
    stop_with_launcher(pause=0)

    assert signals.get(timeout=60) == (os.getpid(), signal.SIGTERM)
    assert next(parents, None) is None
    assert LAUNCHER not in os.environ  # other commands that it starts would end at once


def test_one_process_needs_no_launcher(icl_eval: IclEval, lm: FakeLM) -> None:
    assert icl_eval("run", "-t", "toy/parity", "--out", "kept", "--processes", 1, *TOY).code == 0
    assert lm.answered > 0


def test_explaining_starts_no_processes(icl_eval: IclEval, lm: FakeLM) -> None:
    result = icl_eval("run", "-t", "toy/parity", "--processes", 2, "--explain", *TOY)

    assert result.code == 0
    assert result.out.startswith("requests ")


def test_under_a_launcher_no_processes_are_started(
    icl_eval: IclEval, lm: FakeLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "0")
    message = icl_eval("run", "-t", "toy/parity", "--processes", 2, *TOY).mistake

    assert message == "--processes starts processes, but a launcher has already started 4; remove the option"


@pytest.mark.parametrize(("found", "sentence"), [(1, "there is 1"), (3, "there are 3")])
def test_more_processes_than_gpus(
    found: int, sentence: str, icl_eval: IclEval, lm: FakeLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    message = icl_eval("run", "-t", "toy/parity", "--processes", 4, *TOY).mistake

    assert message == f"--processes 4 needs 4 GPUs, but {sentence}"


def test_one_device_for_several_processes(icl_eval: IclEval, lm: FakeLM) -> None:
    message = icl_eval("run", "-t", "toy/parity", "--processes", 2, "--device", "cuda:1", *TOY).mistake

    assert message == "--device cuda:1 names one device, but --processes 2 needs one for each process; remove --device"


@pytest.mark.parametrize("rank", ["0", "1"])
def test_only_the_first_process_reports_usage_errors(
    rank: str, icl_eval: IclEval, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    results = [icl_eval("run", "--tasks", "toy"), icl_eval("run", "-t", "toy", "--shots", "x")]

    assert [each.code for each in results] == [2, 2]
    assert [bool(each.err) for each in results] == [rank == "0"] * 2


@pytest.mark.parametrize("option", [["--processes", "2"], ["--processes=2"], []])
def test_processes_get_all_options_except_processes(option: list[str]) -> None:
    assert without_option(["run", "-t", "2", *option, "--out", "processes"]) == ["run", "-t", "2", "--out", "processes"]
