from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from toy_tasks import knowing

from icl_eval.testing import FakeLM

from .shell import TOY, IclEval

HERE = ("--include", ".")


@pytest.fixture
def baseline(icl_eval: IclEval, lm: FakeLM) -> Path:
    icl_eval("run", "-t", "toy", "-m", "any", "--shots", "0,2", "--out", "kept", *TOY)
    result = icl_eval("regress", "base.json", "--update", "kept")

    assert (result.code, result.out, result.err) == (0, "base.json: 32 answered examples, 8 scores\n", "")
    return Path("base.json")


def test_regress_of_an_unchanged_model_passes(baseline: Path, icl_eval: IclEval) -> None:
    result = icl_eval("regress", baseline, *HERE)

    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("base.json: 0 differences in 32 answered examples and 8 scores; the largest of a log-")


def test_regress_with_another_model_prints_two_lines_and_exits_with_1(
    baseline: Path, icl_eval: IclEval, model: Callable[[FakeLM], FakeLM]
) -> None:
    model(knowing(0, 1))
    result = icl_eval("regress", baseline, *HERE)

    assert result.code == 1
    assert result.out == (
        "this is not the baseline's model: its weights, tokenizer or arithmetic differ, so the differences are counted "
        "and not listed\n"
    )
    assert result.err.startswith(
        "base.json: 10 differences in 32 answered examples and 8 scores; the largest of a log-"
    )


def test_regress_prints_a_changed_log_probability(baseline: Path, icl_eval: IclEval) -> None:
    content = json.loads(baseline.read_text())
    content["examples"][3]["logprobs"][0][0] -= 2e-4
    baseline.write_text(json.dumps(content))
    result = icl_eval("regress", baseline, *HERE)

    assert result.code == 1
    assert result.out.startswith("toy/parity (plain, ")
    assert result.out.count("\n") == 1
    assert result.err.endswith("the largest of a log-probability is 2.0e-04 nats\n")


def test_regress_rejects_a_file_that_is_not_a_baseline(icl_eval: IclEval) -> None:
    assert icl_eval("regress", "tasks/toy.yaml").mistake.startswith(
        "tasks/toy.yaml: this is not a baseline: Invalid JSON"
    )


def test_regress_update_rejects_a_folder_without_a_run(icl_eval: IclEval) -> None:
    assert icl_eval("regress", "b.json", "--update", "data").mistake.startswith("data: this is not a run folder")
    assert not Path("b.json").exists()
