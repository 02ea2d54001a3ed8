from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from icl_eval.engine import Engine
from icl_eval.errors import ModelError
from icl_eval.models import load_model
from icl_eval.models.loading import precision
from icl_eval.models.loading.precision import precision_of, weights_type

from .checkpoints import checkpoint, refusal
from .reference import random_requests

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
needs_package = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
METHODS: list[tuple[dict[str, Any], str, str]] = [  # as checkpoints of these methods say it, and who is to load them
    ({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}, "gptq4", "optimum"),
    ({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}, "awq4", "gptqmodel"),
    ({"quant_method": "bitsandbytes", "load_in_8bit": True, "load_in_4bit": False}, "int8", "bitsandbytes"),
    (
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False, "bnb_4bit_quant_type": "nf4"},
        "nf4",
        "bitsandbytes",
    ),
    ({"quant_method": "hqq", "quant_config": {}}, "hqq", "hqq"),
]


def model(settings: Any, dtype: torch.dtype = torch.float16) -> Any:
    return SimpleNamespace(dtype=dtype, config=SimpleNamespace(quantization_config=settings))


def test_the_type_is_the_checkpoints_on_a_gpu_and_float32_on_a_cpu() -> None:
    assert (weights_type("auto", CPU), weights_type("auto", GPU)) == (torch.float32, "auto")


@pytest.mark.parametrize("error", [RuntimeError, TypeError])
def test_a_type_that_the_device_does_not_compute_with_is_reported(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def refuse(*_: Any) -> None:
        raise error("\"addmm_impl_cpu_\" not implemented for 'Half'")

    monkeypatch.setattr(torch.Tensor, "__matmul__", refuse)

    with pytest.raises(ModelError) as caught:
        weights_type("float16", CPU)
    assert str(caught.value) == "--dtype float16 cannot be used: this CPU does not support it"


@pytest.mark.parametrize("supported", [True, False])
def test_bfloat16_is_for_gpus_that_have_it(monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)

    if supported:
        assert weights_type("bfloat16", GPU) is torch.bfloat16
    else:
        with pytest.raises(ModelError, match="bfloat16 cannot be used: the device cuda:0 does not support it"):
            weights_type("bfloat16", GPU)


@pytest.mark.parametrize(("settings", "word", "_"), METHODS)
def test_precision_names_method_and_bits(settings: dict[str, Any], word: str, _: str) -> None:
    assert precision_of(model(settings)) == f"{word}-float16"
    assert precision_of(model(SimpleNamespace(to_dict=lambda: settings), torch.bfloat16)) == f"{word}-bfloat16"


def test_precision_of_plain_weights_is_their_type() -> None:
    assert precision_of(model(None)) == "float16"
    assert precision_of(SimpleNamespace(dtype=torch.float32, config=SimpleNamespace())) == "float32"


@pytest.mark.parametrize(("settings", "_", "package"), METHODS)
def test_a_quantised_checkpoint_names_the_package_that_is_missing(
    tmp_path: Path, settings: dict[str, Any], _: str, package: str
) -> None:
    if find_spec(package):
        pytest.skip(f"{package} is installed")
    folder = checkpoint(tmp_path / "llama")
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "quantization_config": settings}))

    assert package in refusal(folder)


def test_quantised_weights_are_not_quantised_again(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "llama")
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "quantization_config": METHODS[0][0]}))

    assert refusal(folder, quantize="4bit") == "--quantize has no effect on weights that are quantised already: gptq4"


def test_quantising_without_the_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "find_spec", lambda _: None)

    assert refusal(checkpoint(tmp_path / "llama"), quantize="8bit") == (
        "--quantize needs the package bitsandbytes: pip install 'icl-eval[quantized]'"
    )


def test_bits_that_there_are_not() -> None:
    with pytest.raises(ModelError, match="`quantize` cannot be '2bit'"):
        load_model("tiny", quantize="2bit")


@needs_package
@pytest.mark.parametrize(("bits", "word", "close"), [("8bit", "int8", 0.1), ("4bit", "nf4", 0.5)])
@pytest.mark.filterwarnings("ignore:MatMul8bitLt")
def test_quantised_weights_answer_nearly_as_the_plain_ones(tmp_path: Path, bits: str, word: str, close: float) -> None:
    folder = checkpoint(tmp_path / "llama", hidden_size=64, intermediate_size=128, head_dim=16, sharpness=2.0)
    requests = random_requests(np.random.default_rng(3))
    plain, coarse = load_model(str(folder), device="cpu"), load_model(str(folder), device="cpu", quantize=bits)
    first, second = ([each.logprobs for each in Engine(lm).answer(requests)] for lm in (plain, coarse))
    differences = [abs(x - y) for a, b in zip(first, second, strict=True) for x, y in zip(a, b, strict=True)]

    assert coarse.precision == f"{word}-float32"
    assert coarse.fingerprint != plain.fingerprint
    assert 1e-4 < max(differences) < close
