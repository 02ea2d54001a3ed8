from __future__ import annotations

import gc
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from icl_eval.engine import Engine
from icl_eval.models import Decoding, GenerateAnswer, GenerateRequest, load_model, wrap_model
from icl_eval.models.causal.model import CausalLM
from icl_eval.models.causal.rows import Row
from icl_eval.models.generation.kv_pool import PooledDecoder

from . import checkpoints
from .architectures import build
from .checkpoints import byte_tokenizer, written_to
from .reference import random_requests

refusal = partial(checkpoints.refusal, device=None)
MAPS: dict[str, dict[str, int | str]] = {
    "llama": {
        "model.embed_tokens": "disk",
        "model.layers.0": "disk",
        "model.layers.1": "cpu",
        "model.norm": "cpu",
        "model.rotary_emb": "cpu",
        "lm_head": "disk",
    },
    "gpt2": {  # with one matrix for embeddings and head
        "transformer.wte": "disk",
        "transformer.wpe": "cpu",
        "transformer.h.0": "cpu",
        "transformer.h.1": "disk",
        "transformer.ln_f": "disk",
        "lm_head": "disk",
    },
}


@pytest.fixture(scope="module", params=MAPS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    name = request.param
    folder = tmp_path_factory.mktemp("saved") / name
    build(name, vocab_size=258, sharpness=3.0).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return name, folder


def answers(lm: Any) -> list[tuple[float, ...]]:
    return [answer.logprobs for answer in Engine(lm).answer(random_requests(np.random.default_rng(5)))]


def texts(lm: Any, *decodings: Decoding) -> list[GenerateAnswer]:
    rng = np.random.default_rng(7)
    shared = rng.integers(3, 200, 20).tolist()
    prompts = [[*shared, *rng.integers(3, 200, size).tolist()] for size in (1, 4, 9)]
    found: dict[int, GenerateAnswer] = {}
    requests = [GenerateRequest.of(prompt, decoding) for decoding in decodings for prompt in prompts]
    lm.generate(requests, found.__setitem__)
    return [found[index] for index in range(len(requests))]


def lies(model: Any) -> set[str]:
    return {parameter.device.type for parameter in model.parameters()}


def test_rows_that_branch_on_cached_prefixes_are_the_same_from_disk_and_memory(
    saved: tuple[str, Path], tmp_path: Path
) -> None:
    name, folder = saved
    plain = load_model(str(folder), device="cpu")
    spread = load_model(str(folder), device_map=written_to(tmp_path, MAPS[name]))

    assert isinstance(spread, CausalLM)
    assert lies(spread.model) == {"cpu", "meta"}  # so something really is not there
    assert spread.shares_prefixes
    assert spread.has_tree_attention
    assert spread.caches_prefixes
    assert spread.fingerprint == plain.fingerprint
    for mine, theirs in zip(answers(spread), answers(plain), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)


def test_a_cached_prefix_is_extended_on_disk(saved: tuple[str, Path]) -> None:
    name, folder = saved
    models: list[Any] = [load_model(str(folder), **each) for each in ({"device": "cpu"}, {"device_map": MAPS[name]})]
    tokens = np.arange(5, 17, dtype=np.int32)
    parents = np.array([*range(-1, 9), 7, 10], np.int32)
    for prefix_length in (3, 6, 4):
        row = Row(tokens, parents, np.array([9, 11], np.int32), tokens[:2], prefix_length)
        (theirs,), (mine,) = (lm.forward([row]) for lm in models)
        assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)


def test_texts_are_the_same_from_disk_and_memory(saved: tuple[str, Path]) -> None:
    name, folder = saved
    decodings = Decoding(8), Decoding(6, beams=3), Decoding(6, temperature=0.9, samples=2)
    plain, spread = load_model(str(folder), device="cpu"), load_model(str(folder), device_map=MAPS[name])

    found = texts(spread, *decodings)

    assert type(spread.generation.decoders((0, 0))) is PooledDecoder  # type: ignore[attr-defined]
    for mine, theirs in zip(found, texts(plain, *decodings), strict=True):
        assert mine.texts == theirs.texts
        assert mine.scores == pytest.approx(theirs.scores, abs=1e-4)


@pytest.mark.parametrize("path", ["masks", "alone"])
def test_other_computations_are_the_same_from_disk_and_memory(saved: tuple[str, Path], path: str) -> None:
    name, folder = saved
    plain = load_model(str(folder), device="cpu")
    spread = load_model(str(folder), device_map=MAPS[name], attn="sdpa" if path == "masks" else None)
    if path == "alone":
        spread.shares_prefixes = spread.caches_prefixes = spread.has_tree_attention = False  # type: ignore[attr-defined]

    for mine, theirs in zip(answers(spread), answers(plain), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)
    for text, expected in zip(texts(spread, Decoding(8)), texts(plain, Decoding(8)), strict=True):
        assert text.texts == expected.texts


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_16_bit_head_on_the_disk_gives_float32(saved: tuple[str, Path], dtype: str) -> None:
    name, folder = saved
    plain, spread = (load_model(str(folder), dtype=dtype, device_map=devices) for devices in ({"": "cpu"}, MAPS[name]))
    found = answers(spread)
    rounded = [tuple(torch.tensor(each).to(getattr(torch, dtype)).tolist()) for each in found]

    assert found != rounded
    for mine, theirs in zip(found, answers(plain), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)


def test_everything_may_be_on_the_disk(saved: tuple[str, Path]) -> None:
    _, folder = saved
    plain, spread = load_model(str(folder), device="cpu"), load_model(str(folder), device_map={"": "disk"})

    assert lies(spread.model) == {"meta"}  # type: ignore[attr-defined]
    assert spread.weights == plain.weights
    for mine, theirs in zip(answers(spread), answers(plain), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("policy", ["auto", "balanced", "balanced_low_0", "sequential"])
def test_what_exceeds_the_memory_goes_to_the_disk(llama: Path, policy: str) -> None:
    spread = load_model(str(llama), device_map=policy, max_memory={"cpu": "120KB"})

    assert lies(spread.model) == {"cpu", "meta"}  # type: ignore[attr-defined]
    for mine, theirs in zip(answers(spread), answers(load_model(str(llama), device="cpu")), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)


def test_a_map_without_limits_needs_no_disk(llama: Path) -> None:
    assert lies(load_model(str(llama), device_map="auto").model) == {"cpu"}  # type: ignore[attr-defined]


def test_the_tiny_model_takes_a_map() -> None:
    lm = load_model("tiny", device_map="auto", max_memory={"cpu": "2MB"})

    assert (lm.precision, lies(lm.model)) == ("float32", {"cpu", "meta"})  # type: ignore[attr-defined]


def test_offloaded_weights_go_where_they_are_placed(llama: Path, tmp_path: Path) -> None:
    pickled = Path(shutil.copytree(llama, tmp_path / "pickled"))
    (pickled / "model.safetensors").unlink()
    torch.save(build("llama", vocab_size=258).state_dict(), pickled / "pytorch_model.bin")

    load_model(str(pickled), device_map=MAPS["llama"], offload_dir=tmp_path / "off", allow_pickle=True)

    assert list((tmp_path / "off").iterdir())


def test_a_temporary_folder_goes_with_the_model(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    lm = load_model(str(llama), device_map=MAPS["llama"])
    assert len(list(tmp_path.iterdir())) == 1

    del lm
    gc.collect()

    assert list(tmp_path.iterdir()) == []


def test_a_wrapped_model_has_one_fingerprint_wherever_its_weights_are(saved: tuple[str, Path]) -> None:
    name, folder = saved
    plain, spread = load_model(str(folder), device="cpu"), load_model(str(folder), device_map=MAPS[name])
    wrapped = [wrap_model(lm.model, byte_tokenizer(), name="a") for lm in (plain, spread)]  # type: ignore[attr-defined]

    assert wrapped[0].fingerprint == wrapped[1].fingerprint
    assert answers(wrapped[1]) == [pytest.approx(each, abs=1e-4) for each in answers(wrapped[0])]


def test_options_that_exclude_each_other(llama: Path) -> None:
    assert refusal(llama, device="cpu", device_map="auto") == "give either --device or --device-map, not both"
    others: list[dict[str, Any]] = [{"device": "cpu"}, {"device_map": "auto"}]
    for other in others:
        assert "cannot be combined with --device or --device-map" in refusal(llama, tensor_parallel=True, **other)
    for device_map in (None, {"": "cpu"}):
        assert refusal(llama, max_memory={"cpu": "1GiB"}, device_map=device_map) == (
            "--max-memory needs --device-map auto, balanced, balanced_low_0 or sequential"
        )
    assert "--offload-dir needs a --device-map" in refusal(llama, offload_dir="x")


def test_one_process_cannot_divide_a_model(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)

    assert refusal(llama, tensor_parallel=True).startswith(
        "--tensor-parallel divides a model among several processes, but there is only one; start accelerate launch "
    )


def test_a_model_without_a_plan_cannot_be_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    build("bloom", vocab_size=258).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)

    assert refusal(tmp_path, tensor_parallel=True) == (
        "--tensor-parallel: BloomForCausalLM has no plan for dividing its layers"
    )
