from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_tasks import knowing

from icl_eval import rescore
from icl_eval.testing import FakeLM

from .shell import TOY, IclEval


def test_run_prints_the_table_on_stdout_and_the_folder_on_stderr(icl_eval: IclEval, lm: FakeLM) -> None:
    said = icl_eval("run", "--task", "toy", "--shots", "0,2", "--out", "kept", "--model", "any", *TOY)

    assert said.code == 0
    assert said.out == rescore("kept").table()
    assert said.err == "stored in kept\n"
    assert lm.answered > 0


def test_tasks_are_given_by_comma_or_repeated_or_by_path(icl_eval: IclEval, lm: FakeLM) -> None:
    rows = [
        icl_eval("run", *tasks, "--shots", "0", "--format", "csv", "--model", "any", "--data-dir", "data").out
        for tasks in (
            ("--include", ".", "--task", "toy/parity,toy/pairs"),
            ("--include", ".", "-t", "toy/parity", "-t", "toy/pairs"),
            ("--task", "tasks/toy/parity.yaml", "--task", "tasks/toy/pairs.yaml"),
        )
    ]

    assert rows[0] == rows[1] == rows[2]
    assert [row["task"] for row in csv.DictReader(io.StringIO(rows[0]))] == ["toy/parity", "toy/pairs", "toy/pairs"]


@pytest.mark.parametrize(("seeds", "expected"), [("2", [0, 1]), ("7,3", [7, 3]), ("3,", [3])])
def test_seeds_are_a_number_or_a_list(seeds: str, expected: list[int], icl_eval: IclEval, lm: FakeLM) -> None:
    icl_eval("run", "-t", "toy/parity", "--shots", "1", "--seeds", seeds, "--out", "kept", *TOY)

    assert json.loads(Path("kept/manifest.json").read_text())["config"]["seeds"] == expected


def test_score_all_shows_every_normalisation(icl_eval: IclEval, lm: FakeLM) -> None:
    said = icl_eval("run", "-t", "toy/parity", "--shots", "0", "--normalization", "all", "--format", "csv", *TOY)
    found = [row["normalization"] for row in csv.DictReader(io.StringIO(said.out))]

    assert found == ["sum", "token", "char", "byte", "unconditional"]


@pytest.mark.parametrize("format", ["table", "md", "csv", "json"])
def test_stdout_holds_the_results_and_nothing_else(format: str, icl_eval: IclEval, lm: FakeLM) -> None:
    said = icl_eval("run", "-t", "toy/parity", "--shots", "0", "--format", format, "--out", "kept", *TOY)

    assert said.out == rescore("kept").table(format)


def test_without_a_model_the_run_is_the_demonstration(
    icl_eval: IclEval, lm: FakeLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icl_eval.runs.tasks.SAMPLE_PATH", Path("data").resolve())
    said = icl_eval("run", "-t", "toy/parity", "--shots", "0", "--include", ".", "--out", "kept")
    manifest = json.loads(Path("kept/manifest.json").read_text())

    assert "note: no --model was given, so the bundled tiny GPT-2 was evaluated" in said.out
    assert "toy/parity (sample)" in said.out
    assert (manifest["config"]["model"], manifest["config"]["data"]) == ("tiny", "sample")
    assert manifest["note"] in said.out


def test_with_a_model_the_data_is_the_hubs(icl_eval: IclEval, lm: FakeLM, monkeypatch: pytest.MonkeyPatch) -> None:
    said = icl_eval("run", "-t", "toy/parity", "--model", "any", "--include", ".").mistake

    assert said == "the task names no data set on the Hub; pass --data-dir"


def test_the_same_command_again_computes_nothing(icl_eval: IclEval, lm: FakeLM) -> None:
    first = icl_eval("run", "-t", "toy", "--shots", "0,1", *TOY)
    asked = lm.answered
    again = icl_eval("run", "-t", "toy", "--shots", "0,1", *TOY)

    assert lm.answered == asked > 0
    assert (again.out, again.err) == (first.out, first.err)
    assert len(list(Path("results").iterdir())) == 1


def test_an_interrupt_prints_the_command_that_goes_on(icl_eval: IclEval, model: Callable[[FakeLM], FakeLM]) -> None:
    model(_Interrupted(after=5))
    command = ("run", "-t", "toy/parity", "--shots", "0", "--out", "my run", *TOY)
    said = icl_eval(*command)
    lm = model(knowing(0))
    resumed = icl_eval(*command)

    assert (said.code, said.out) == (130, "")
    assert said.err.splitlines()[-1] == (
        "  icl-eval run -t toy/parity --shots 0 --out 'my run' --include . --data-dir data"
    )
    assert resumed.code == 0
    assert lm.answered == 18 - 5


def test_a_polite_kill_is_an_interrupt(icl_eval: IclEval, model: Callable[[FakeLM], FakeLM]) -> None:
    model(_Terminated())
    said = icl_eval("run", "-t", "toy/parity", "--shots", "0", *TOY)

    assert said.code == 130
    assert "all answers are stored" in said.err


def test_a_bug_shows_its_traceback(icl_eval: IclEval, model: Callable[[FakeLM], FakeLM]) -> None:
    model(_Buggy())
    with pytest.raises(ZeroDivisionError):
        icl_eval("run", "-t", "toy/parity", "--shots", "0", *TOY)


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_names_every_command(arguments: tuple[str, ...], icl_eval: IclEval) -> None:
    said = icl_eval(*arguments)

    assert (said.code, said.err) == (0, "")
    assert all(f"\n  {name} " in said.out for name in ("run", "list", "show", "check", "rescore", "compare", "regress"))


@pytest.mark.parametrize(
    ("options", "total"),
    [
        ((), "32/32"),
        (("--until", "0.1"), "32 of at most 32"),
        (("--formats", "2", "--budget", "40"), " of at most 128"),
    ],
)
def test_the_bar_counts_at_most_all_answers_where_a_run_may_end_before(
    icl_eval: IclEval, lm: FakeLM, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], total: str
) -> None:
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True)
    done = icl_eval("run", "toy/parity", "--shots", "0", *options, *TOY)

    assert total in done.err


def test_progress_is_silent_when_nobody_watches(icl_eval: IclEval, lm: FakeLM) -> None:
    assert not sys.stderr.isatty()
    assert icl_eval("run", "-t", "toy/parity", "--shots", "0", "--out", "kept", *TOY).err == "stored in kept\n"


class _Interrupted(FakeLM):
    def __init__(self, after: int) -> None:
        super().__init__({key.decode(): value.decode() for key, value in knowing(0).answers.items()})
        self.after = after

    def score(self, requests: Any, sink: Any) -> None:
        super().score(requests[: self.after], sink)
        raise KeyboardInterrupt


class _Terminated(FakeLM):
    def score(self, requests: Any, sink: Any) -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGTERM)
        super().score(requests, sink)


class _Buggy(FakeLM):
    def score(self, requests: Any, sink: Any) -> None:
        raise ZeroDivisionError


def test_explain_prints_the_plan_and_computes_and_keeps_nothing(icl_eval: IclEval, lm: FakeLM) -> None:
    command = ("run", "--task", "toy", "--shots", "0,2", "--model", "any", *TOY)

    planned = icl_eval(*command, "--explain")
    assert (planned.code, planned.err, lm.answered) == (0, "", 0)
    assert not Path("results").exists()
    icl_eval(*command)
    done = icl_eval(*command, "--explain")

    asked = int(planned.out.split()[1].rstrip(","))
    repeated = int(planned.out.splitlines()[0].split()[-2])
    assert lm.answered == asked - repeated
    assert f"{asked} of them cached, 0 duplicates" in done.out
    assert "computed tokens  0\n" in done.out


def test_explain_plans_batches_and_memory_of_a_real_model(icl_eval: IclEval) -> None:
    said = icl_eval("run", "--task", "symbols", "--shots", "0,4", "--limit", "4", "--explain")

    names = [line[:16].rstrip() for line in said.out.splitlines()]
    assert names == ["requests", "input tokens", "computed tokens", "sharing factor", "batches", "memory"]
    assert "weights 3 MiB" in said.out


def test_a_task_that_fails_does_not_end_the_others_and_the_exit_code_says_so(icl_eval: IclEval, lm: FakeLM) -> None:
    lm.window = 24
    Path("prompts/toy/pairs/plain.jinja").write_text("The pair of the number {{ n }}\nA:")
    reason = (
        "toy/pairs has no scores: toy/pairs, example '0': the query alone takes 31 tokens, but the context length is 24"
    )
    asked = ("-t", "toy", "-m", "any", "--shots", "0", "--out", "kept", *TOY)
    said, plan, again = icl_eval("run", *asked), icl_eval("run", "--explain", *asked), icl_eval("run", *asked)
    Path("prompts/toy/pairs/plain.jinja").write_text("{{ n }}\nA:")

    assert (said.code, plan.code, again.code) == (1, 1, 1)
    rescored = icl_eval("rescore", "kept")
    assert (rescored.code, rescored.out) == (1, said.out)
    assert said.err == f"stored in kept\n{rescored.err}"
    assert said.out == again.out == rescore("kept").table()
    assert "toy/parity" in said.out
    assert reason in said.out
    assert said.err == f"stored in kept\nicl-eval: {reason}; --overflow truncate cuts its start\n"
    assert plan.out.splitlines()[-1].startswith(f"failure          {reason}")
    assert icl_eval("run", *asked).code == 0


def test_a_task_whose_data_is_missing_does_not_end_the_others(icl_eval: IclEval, lm: FakeLM) -> None:
    Path("data/pairs/val.jsonl").unlink()
    said = icl_eval("run", "-t", "toy", "-m", "any,other", "--shots", "0", *TOY)

    assert said.code == 1
    assert "icl-eval: fake: toy/pairs has no scores: " in said.err
    assert "there is no file pairs/val.jsonl" in said.err
