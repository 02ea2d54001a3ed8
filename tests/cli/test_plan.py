from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toy_tasks import knowing

from icl_eval.testing import FakeLM

from .shell import TOY, IclEval

PAGE = Path(__file__).resolve().parents[2] / "docs" / "command-line.md"


@pytest.mark.slow
def test_plan_prints_the_documented_plan(icl_eval: IclEval) -> None:
    section = PAGE.read_text("utf-8").split("\n## `icl-eval plan`")[1].split("\n## ")[0]
    config, command, output = re.search(
        r"```json\n(.*?)```.*?```console\n(.*?)```.*?```\n(.*?)```", section, re.DOTALL
    ).groups()  # type: ignore[union-attr]
    Path("gpt3-175b").mkdir()
    Path("gpt3-175b/config.json").write_text(config)
    done = icl_eval(*shlex.split(command.replace("\\\n", " "))[1:])

    progress = re.compile(r"[\d,]+ of [\d,]+ prompts, about .* left")  # lines of a slow machine
    assert [line for line in done.err.splitlines() if not progress.fullmatch(line)] == []
    assert (done.code, done.out) == (0, output)


def test_the_documented_plan_is_of_gpt3() -> None:
    """Brown et al. 2020, Table 2.1 and section 3: 175.0B parameters in 96 layers of 12288 units."""
    output = PAGE.read_text("utf-8").split("\n## `icl-eval plan`")[1]
    parameters = int(re.search(r"model +([\d,]+) parameters", output)[1].replace(",", ""))  # type: ignore[index]
    longest = int(re.search(r"longest request, (\d+) tokens", output)[1])  # type: ignore[index]
    token = 2 * 96 * 12288 * 4

    assert parameters == pytest.approx(175e9, rel=0.01)
    assert f"bfloat16 {2 * parameters / 2**30:.1f} GiB" in output
    assert f"of a token float32 {token / 2**20:.1f} MiB, bfloat16 {token / 2**21:.1f} MiB; " in output
    assert f"float32 {token * longest / 2**30:.1f} GiB, bfloat16 {token * longest / 2**31:.1f} GiB" in output
    assert "NVIDIA H100 SXM" in output
    assert "5 hold the bfloat16 weights" in output


def test_the_bundled_model_is_planned_by_default(icl_eval: IclEval) -> None:
    options = (
        "--task",
        "symbols",
        "--shots",
        "0,2",
        "--seeds",
        "3,4",
        "--limit",
        "3",
        "--bos",
        "yes",
        "--max-length",
        500,
    )

    explained = icl_eval("run", *options, "--device", "cpu", "--explain").out
    output = icl_eval("plan", *options, "--device", "cpu").out

    assert explained
    assert explained in output


def test_user_error_is_one_sentence(icl_eval: IclEval) -> None:
    Path("empty").mkdir()

    assert icl_eval("plan", "--task", "toy/parity", "--model", "empty", *TOY).mistake == (
        "empty: this directory is not a checkpoint: it has no config.json"
    )
    assert icl_eval("plan", "--task", "toy/party", *TOY).mistake == (
        "no task or suite is named 'toy/party'; did you mean toy/parity or toy/pairs?"
    )
    assert icl_eval("plan", "--task", "toy/parity", "--tokenizer", "./gone", *TOY).mistake == (
        "gone: there is no such tokenizer directory"
    )


def test_plan_detect_prints_the_documented_table(icl_eval: IclEval) -> None:
    section = PAGE.read_text("utf-8").split("\n### Examples and seeds for a comparison")[1].split("\n## ")[0]
    command, output = re.search(r"```console\n(.*?)```.*?```\n(.*?)```", section, re.DOTALL).groups()  # type: ignore[union-attr]
    done = icl_eval(*shlex.split(command.replace("\\\n", " "))[1:])

    assert (done.code, done.err.startswith("data: the bundled sample; ")) == (0, True)
    assert done.out == output


PARTS = re.compile(r" toy/parity +accuracy +0 +1 +8 +([\d,]+) ")


def test_variance_is_measured_in_given_runs(model: Callable[[FakeLM], FakeLM], icl_eval: IclEval) -> None:
    for folder, right in (("one", range(3)), ("other", range(6))):
        model(knowing(*right))
        icl_eval("run", "-t", "toy/parity", "--shots", "0", "--out", folder, *TOY)
    plan = ("plan", "-t", "toy/parity", "--shots", "0", "--detect", "0.1", *TOY)
    assumed, one, two = (
        PARTS.search(icl_eval(*plan, *runs).out)
        for runs in ((), ("--from", "one"), ("--from", "one", "--from", "other"))
    )
    assert assumed
    assert one
    assert two

    target = (0.1 / (1.959964 + 0.841621)) ** 2
    gains = np.array([0, 0, 0, 1, 1, 1, 0, 0])
    solved = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    variances = (4 / 9, 4 / 3 * solved.var(ddof=1), gains.var(ddof=1))
    assert [int(found[1].replace(",", "")) for found in (assumed, one, two)] == [
        math.ceil(each / target) for each in variances
    ]


def test_user_error_of_detect_is_one_sentence(icl_eval: IclEval) -> None:
    plan = ("plan", "-t", "toy/parity", *TOY)

    assert icl_eval(*plan, "--from", "one").mistake == ("--from needs --detect, such as --detect 0.02")
    assert icl_eval(*plan, "--detect", "0").mistake == "the difference to detect is 0, but must be above 0"
    assert icl_eval(*plan, "--detect", "2").mistake == (
        "accuracy of toy/parity is between 0 and 1, so it cannot differ by 2; 0.02 is two points"
    )
    assert icl_eval(*plan, "--detect", "0.02", "--from", "gone").mistake == (
        "gone: this is not a run folder: it does not exist"
    )
    assert icl_eval(*plan, "--detect", "0.02", *["--from", "gone"] * 3).mistake == (
        "the variance of a difference is measured in at most two runs, not in 3"
    )
