from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from icl_eval import Plan, explain, plan
from icl_eval.errors import IclEvalError, ModelError, RunError, UnknownName
from icl_eval.models import load_meta_model
from icl_eval.models.loading.checkpoint import TINY_PATH
from icl_eval.models.options import read_options
from icl_eval.runs.cost import Device, devices, fraction_of_peak
from icl_eval.runs.evaluate import planned as planned_run
from icl_eval.runs.plan import estimated

GPT3 = {"model_type": "gpt2", "n_layer": 96, "n_embd": 12288, "n_head": 96, "n_positions": 2048, "vocab_size": 50257}
ASKED: dict[str, Any] = {"shots": [0, 4], "data": "sample", "limit": 4, "device": "cpu"}


@cache
def planned() -> Plan:
    """The plan of the bundled model on bundled data, made once."""
    return plan("tiny", "symbols", **ASKED)


def folder(path: Path, config: dict[str, Any] | None, *, tokenizer: bool = False) -> Path:
    path.mkdir()
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json") if tokenizer else ():
        shutil.copy(TINY_PATH / name, path / name)
    return path


@pytest.mark.parametrize("task", ["symbols", "superglue-generated/rte", "arithmetic/2d-addition"])
def test_a_plan_counts_what_explain_counts_of_the_loaded_model(task: str) -> None:
    options = ASKED if task != "arithmetic/2d-addition" else {**ASKED, "data": "hub"}

    assert plan("tiny", task, **options).explanation == explain("tiny", task, **options)


def test_no_weights_are_read(tmp_path: Path) -> None:
    config = json.loads((TINY_PATH / "config.json").read_text())
    bare = folder(tmp_path / "bare", config, tokenizer=True)
    broken = folder(tmp_path / "broken", config, tokenizer=True)
    (broken / "model.safetensors").write_bytes(b"no weights")
    expected = planned()

    for directory in (bare, broken):
        assert plan(directory, "symbols", dtype="float32", **ASKED) == expected


def test_operations_are_two_for_each_parameter_and_four_for_each_unit_of_attention() -> None:
    planned_run = plan("tiny", "arithmetic/2d-addition", shots=1, limit=3, device="cpu")
    work, width, layers = planned_run.explanation.workload, 128, 4
    body = layers * (4 * width**2 + 2 * width * 384 + 9 * width + 384) + 2 * width

    assert planned_run.counts.body == body
    assert planned_run.prefill_flops == (
        2 * body * work.computed + 2 * 837 * width * work.scored + 4 * layers * width * work.attended
    )
    assert work.generated > 0
    assert planned_run.generation_flops == work.generated * (
        2 * body + 2 * 837 * width + 4 * layers * width * work.context
    )


def test_a_device_reads_by_its_peak_and_writes_by_its_bandwidth() -> None:
    device = Device("toy", "bfloat16", operations=100.0, bandwidth=10.0, memory=7.0, source="")

    assert device.prefill_seconds(500) == 500 / (100 * fraction_of_peak("prefill"))
    assert device.generation_seconds(tokens=3, parameters=20) == 3 * 20 * 2 / (10 * fraction_of_peak("generation"))
    assert [device.devices_needed(parameters) for parameters in (3, 4, 7, 8)] == [1, 2, 2, 3]


def test_devices_name_their_sources() -> None:
    assert all(device.source for device in devices())
    assert 0 < fraction_of_peak("prefill") < 1
    assert 0 < fraction_of_peak("generation") < 1


def test_a_run_without_generation_estimates_no_generation() -> None:
    text = str(planned())

    assert "generation" not in text
    assert "for prefill; 1 holds the bfloat16 weights" in text


def test_a_plan_says_how_many_experts_a_token_meets(tmp_path: Path) -> None:
    config = {
        "model_type": "mixtral",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "num_local_experts": 4,
        "num_experts_per_tok": 1,
        "vocab_size": 1024,
    }
    planned_run = plan(folder(tmp_path / "mixture", config, tokenizer=True), "symbols", **ASKED)

    routed = 2 * 4 * 3 * 32 * 64  # layers, experts, matrices
    assert planned_run.counts.active == planned_run.counts.parameters - routed * 3 // 4
    assert f"{planned_run.counts.active:,} of them active for a token" in str(planned_run)


@pytest.mark.parametrize(
    ("config", "tokenizer", "sentence"),
    [
        (None, True, "model: this directory is not a checkpoint: it has no config.json"),
        (GPT3, False, "has no tokenizer; name one with --tokenizer"),
        ({"model_type": "no-such"}, True, "no-such"),
        ({"model_type": "t5", "vocab_size": 100}, True, "is a t5 model"),
        ({"model_type": "bert", "vocab_size": 100}, True, "is a bert model"),
        ({"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}, True, "is run only with --trust-remote-code"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(
    config: dict[str, Any] | None, tokenizer: bool, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder(Path("model"), config, tokenizer=tokenizer)
    with pytest.raises(ModelError) as found:
        plan("model", "symbols", **ASKED)

    assert sentence in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({"tokenizer": "./gone"}, ModelError, "gone: there is no such tokenizer directory"),
        ({"max_length": 1}, ModelError, "`max_length` cannot be 1"),
        ({"windows": 5}, UnknownName, "no option is named 'windows'"),
        ({"allow_pickle": True}, RunError, "`allow_pickle` has no effect"),
        ({"quantize": "4bit"}, RunError, "`quantize` has no effect"),
        ({"dtype": "int3"}, ModelError, "int3 is not one of"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], kind: type[IclEvalError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        plan("tiny", "symbols", **{**ASKED, **options})


def test_an_endpoint_is_not_planned() -> None:
    with pytest.raises(
        ModelError, match="'http://localhost:1/v1' is an endpoint, whose configuration is not available"
    ):
        plan("http://localhost:1/v1", "symbols", tokenizer="tiny", **ASKED)


def test_a_plan_is_printed_as_it_is_counted() -> None:
    assert str(explain("tiny", "symbols", **ASKED)) in str(planned())


def test_a_large_run_is_estimated_from_a_part_of_its_prompts() -> None:
    grid: dict[str, Any] = {"shots": [0, 1, 4], "seeds": 4, "data": "sample"}
    exact = plan("tiny", "symbols", device="cpu", **grid).explanation
    lm = load_meta_model("tiny", *read_options({"device": "cpu"}))
    ticks: list[int] = []

    def progress(total: int) -> Callable[[int], None]:
        ticks.append(-total)
        return ticks.append

    run = planned_run(lm, "symbols", None, **grid)
    found = estimated(run, lm, progress, counted=2**12, sampled=2**13)

    assert exact.sample == ""
    assert sum(ticks) == 0
    assert found.sample == f"from {-ticks[0]} of 720 prompts"
    assert -ticks[0] < 300
    assert str(found).startswith(f"estimated        from {-ticks[0]} of 720 prompts\nrequests ")
    assert found.workload.requests == exact.workload.requests
    assert found.workload.one_by_one == pytest.approx(exact.workload.one_by_one, rel=0.1)
    assert found.workload.computed == pytest.approx(exact.workload.computed, rel=0.3)  # short prompts share by chance
