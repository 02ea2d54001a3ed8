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
    result = icl_eval("run", "--task", "toy", "--shots", "0,2", "--out", "kept", "--model", "any", *TOY)

    assert result.code == 0
    assert result.out == rescore("kept").table()
    assert result.err == "stored in kept\n"
    assert lm.answered > 0


def test_tasks_are_separated_by_commas_repeated_or_paths(icl_eval: IclEval, lm: FakeLM) -> None:
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


def test_normalization_all_prints_every_normalisation(icl_eval: IclEval, lm: FakeLM) -> None:
    result = icl_eval("run", "-t", "toy/parity", "--shots", "0", "--normalization", "all", "--format", "csv", *TOY)
    found = [row["normalization"] for row in csv.DictReader(io.StringIO(result.out))]

    assert found == ["sum", "token", "char", "byte", "unconditional"]


@pytest.mark.parametrize("format", ["table", "md", "csv", "json"])
def test_stdout_has_only_the_results(format: str, icl_eval: IclEval, lm: FakeLM) -> None:
    result = icl_eval("run", "-t", "toy/parity", "--shots", "0", "--format", format, "--out", "kept", *TOY)

    assert result.out == rescore("kept").table(format)


def test_run_without_a_model_is_a_demonstration_on_sample_data(
    icl_eval: IclEval, lm: FakeLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icl_eval.runs.tasks.SAMPLE_PATH", Path("data").resolve())
    result = icl_eval("run", "-t", "toy/parity", "--shots", "0", "--include", ".", "--out", "kept")
    manifest = json.loads(Path("kept/manifest.json").read_text())

    assert "note: no --model was given, so the bundled tiny GPT-2 was evaluated" in result.out
    assert "toy/parity (sample)" in result.out
    assert (manifest["config"]["model"], manifest["config"]["data"]) == ("tiny", "sample")
    assert manifest["note"] in result.out


def test_run_with_a_model_reads_data_from_the_hub(
    icl_eval: IclEval, lm: FakeLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = icl_eval("run", "-t", "toy/parity", "--model", "any", "--include", ".").mistake

    assert result == "the task names no data set on the Hub; pass --data-dir"


def test_repeated_command_computes_nothing(icl_eval: IclEval, lm: FakeLM) -> None:
    first = icl_eval("run", "-t", "toy", "--shots", "0,1", *TOY)
    answered = lm.answered
    again = icl_eval("run", "-t", "toy", "--shots", "0,1", *TOY)

    assert lm.answered == answered > 0
    assert (again.out, again.err) == (first.out, first.err)
    assert len(list(Path("results").iterdir())) == 1


def test_interrupt_prints_the_command_that_continues_the_run(
    icl_eval: IclEval, model: Callable[[FakeLM], FakeLM]
) -> None:
    model(InterruptedModel(after=5))
    command = ("run", "-t", "toy/parity", "--shots", "0", "--out", "my run", *TOY)
    result = icl_eval(*command)
    lm = model(knowing(0))
    resumed = icl_eval(*command)

    assert (result.code, result.out) == (130, "")
    assert result.err.splitlines()[-1] == (
        "  icl-eval run -t toy/parity --shots 0 --out 'my run' --include . --data-dir data"
    )
    assert resumed.code == 0
    assert lm.answered == 18 - 5


def test_sigterm_is_handled_like_an_interrupt(icl_eval: IclEval, model: Callable[[FakeLM], FakeLM]) -> None:
    model(TerminatedModel())
    result = icl_eval("run", "-t", "toy/parity", "--shots", "0", *TOY)

    assert result.code == 130
    assert "all answers are stored" in result.err


def test_bug_raises_its_exception(icl_eval: IclEval, model: Callable[[FakeLM], FakeLM]) -> None:
    model(FaultyModel())
    with pytest.raises(ZeroDivisionError):
        icl_eval("run", "-t", "toy/parity", "--shots", "0", *TOY)


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_every_command(arguments: tuple[str, ...], icl_eval: IclEval) -> None:
    result = icl_eval(*arguments)

    assert (result.code, result.err) == (0, "")
    assert all(
        f"\n  {name} " in result.out for name in ("run", "list", "show", "check", "rescore", "compare", "regress")
    )


@pytest.mark.parametrize(
    ("options", "total"),
    [
        ((), "32/32"),
        (("--until", "0.1"), "32 of at most 32"),
        (("--formats", "2", "--budget", "40"), " of at most 128"),
    ],
)
def test_progress_bar_of_a_run_that_may_stop_early_has_an_upper_bound(
    icl_eval: IclEval, lm: FakeLM, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], total: str
) -> None:
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True)
    done = icl_eval("run", "toy/parity", "--shots", "0", *options, *TOY)

    assert total in done.err


def test_no_progress_is_printed_without_a_terminal(icl_eval: IclEval, lm: FakeLM) -> None:
    assert not sys.stderr.isatty()
    assert icl_eval("run", "-t", "toy/parity", "--shots", "0", "--out", "kept", *TOY).err == "stored in kept\n"


class InterruptedModel(FakeLM):
    def __init__(self, after: int) -> None:
        super().__init__({key.decode(): value.decode() for key, value in knowing(0).answers.items()})
        self.after = after

    def score(self, requests: Any, sink: Any) -> None:
        super().score(requests[: self.after], sink)
        raise KeyboardInterrupt


class TerminatedModel(FakeLM):
    def score(self, requests: Any, sink: Any) -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGTERM)
        super().score(requests, sink)


class FaultyModel(FakeLM):
    def score(self, requests: Any, sink: Any) -> None:
        raise ZeroDivisionError


def test_explain_prints_the_plan_without_computing_or_storing_anything(icl_eval: IclEval, lm: FakeLM) -> None:
    command = ("run", "--task", "toy", "--shots", "0,2", "--model", "any", *TOY)

    planned = icl_eval(*command, "--explain")
    assert (planned.code, planned.err, lm.answered) == (0, "", 0)
    assert not Path("results").exists()
    icl_eval(*command)
    done = icl_eval(*command, "--explain")

    requests = int(planned.out.split()[1].rstrip(","))
    duplicates = int(planned.out.splitlines()[0].split()[-2])
    assert lm.answered == requests - duplicates
    assert f"{requests} of them cached, 0 duplicates" in done.out
    assert "computed tokens  0\n" in done.out


def test_explain_plans_batches_and_memory_of_a_real_model(icl_eval: IclEval) -> None:
    result = icl_eval("run", "--task", "symbols", "--shots", "0,4", "--limit", "4", "--explain")

    names = [line[:16].rstrip() for line in result.out.splitlines()]
    assert names == ["requests", "input tokens", "computed tokens", "sharing factor", "batches", "memory"]
    assert "weights 3 MiB" in result.out


def test_failed_task_does_not_stop_the_others_and_sets_the_exit_code(icl_eval: IclEval, lm: FakeLM) -> None:
    lm.window = 24
    Path("prompts/toy/pairs/plain.jinja").write_text("The pair of the number {{ n }}\nA:")
    reason = (
        "toy/pairs has no scores: toy/pairs, example '0': the query alone takes 31 tokens, but the context length is 24"
    )
    arguments = ("-t", "toy", "-m", "any", "--shots", "0", "--out", "kept", *TOY)
    result, plan, again = (
        icl_eval("run", *arguments),
        icl_eval("run", "--explain", *arguments),
        icl_eval("run", *arguments),
    )
    Path("prompts/toy/pairs/plain.jinja").write_text("{{ n }}\nA:")

    assert (result.code, plan.code, again.code) == (1, 1, 1)
    rescored = icl_eval("rescore", "kept")
    assert (rescored.code, rescored.out) == (1, result.out)
    assert result.err == f"stored in kept\n{rescored.err}"
    assert result.out == again.out == rescore("kept").table()
    assert "toy/parity" in result.out
    assert reason in result.out
    assert result.err == f"stored in kept\nicl-eval: {reason}; --overflow truncate cuts its start\n"
    assert plan.out.splitlines()[-1].startswith(f"failure          {reason}")
    assert icl_eval("run", *arguments).code == 0


def test_task_without_data_does_not_stop_the_others(icl_eval: IclEval, lm: FakeLM) -> None:
    Path("data/pairs/val.jsonl").unlink()
    result = icl_eval("run", "-t", "toy", "-m", "any,other", "--shots", "0", *TOY)

    assert result.code == 1
    assert "icl-eval: fake: toy/pairs has no scores: " in result.err
    assert "there is no file pairs/val.jsonl" in result.err
