from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from icl_eval.errors import UnknownName
from icl_eval.models.loading.placement import memory_of
from icl_eval.models.options import LoadConfig

from . import checkpoints
from .architectures import build
from .checkpoints import byte_tokenizer, written_to

refusal = partial(checkpoints.refusal, device=None)


def test_a_process_of_several_gets_its_share_of_the_memory(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(4, rank=1, processes=2)
    there = {0: 100, 1: 200, 2: 300, 3: 400, "cpu": 1000}
    monkeypatch.setattr("accelerate.utils.get_max_memory", lambda: there)

    assert memory_of(LoadConfig(device_map="auto")) == {2: 270, 3: 360, "cpu": 450}
    limits: dict[int | str, int | str] = {0: "1GiB", 2: "1GiB", 3: "2GiB", "cpu": "3GiB"}
    assert memory_of(LoadConfig(device_map="auto", max_memory=limits)) == {
        2: "1GiB",
        3: "2GiB",
        "cpu": "3GiB",
    }


def test_a_process_alone_leaves_its_memory_to_accelerate(machine: Any) -> None:
    machine(2)

    assert memory_of(LoadConfig(device_map="auto")) is None


def test_processes_do_not_share_gpus_by_a_map(machine: Any, llama: Path) -> None:
    machine(2, rank=1, processes=2)

    assert refusal(llama, device_map={"": 1}) == (
        "'' is mapped to 1, which 2 processes would share: use --device-map auto"
    )
    assert "balanced_low_0 needs one process, but 2 processes" in refusal(llama, device_map="balanced_low_0")


def test_a_map_that_misses_a_module_names_the_first(llama: Path, tmp_path: Path) -> None:
    path = written_to(tmp_path, {"model.embed_tokens": "cpu", "model.layers.1": "cpu", "lm_head": "cpu"})

    assert refusal(llama, device_map=path) == (
        f"{path}: the device map gives no device for the module 'model.layers.0.self_attn.q_proj'"
    )


def test_a_module_is_not_covered_by_one_whose_name_is_a_prefix_of_its_name(tmp_path: Path) -> None:
    modules = build("llama", vocab_size=258, num_hidden_layers=11)
    modules.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    names = ["model.embed_tokens", "model.norm", "lm_head", *(f"model.layers.{layer}" for layer in range(10))]

    assert "for the module 'model.layers.10." in refusal(tmp_path, device_map=dict.fromkeys(names, "cpu"))


def test_a_map_with_a_module_that_is_not_there_names_the_nearest(llama: Path, tmp_path: Path) -> None:
    path = written_to(tmp_path, "model: cpu\nlm_heat: cpu\n")

    assert (
        refusal(llama, error=UnknownName, device_map=path)
        == f"{path}: no module of the model is named 'lm_heat'; did you mean lm_head?"
    )


@pytest.mark.parametrize(("embeddings", "head"), [("cpu", "disk"), ("disk", "cpu")])
def test_tied_weights_are_on_one_device(tmp_path: Path, embeddings: str, head: str) -> None:
    build("gpt2", vocab_size=258).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    devices = {"transformer": "cpu", "transformer.wte": embeddings, "lm_head": head}

    assert refusal(tmp_path, device_map=devices) == (
        "'lm_head' and 'transformer.wte' share weights: map both to the disk, or neither"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", [0, "cuda:0", "warp", -1])
def test_a_map_with_a_device_that_is_not_there(llama: Path, tmp_path: Path, device: int | str) -> None:
    path = written_to(tmp_path, {"": device})

    assert refusal(llama, device_map=path).startswith(f"{path}: '' is mapped to {device!r}, which does not exist: ")


@pytest.mark.parametrize("device", [True, None, 0.5, ["cpu"]])
def test_a_map_with_something_that_is_no_device(llama: Path, tmp_path: Path, device: Any) -> None:
    path = written_to(tmp_path, {"": device})

    assert refusal(llama, device_map=path).endswith(
        "which does not exist: a device is the index of a GPU, or a name such as cpu, disk or cuda:0"
    )


@pytest.mark.parametrize("content", ["- cpu\n", "cpu\n", "", "{}\n", "0: cpu\n"])
def test_a_map_that_is_no_mapping(llama: Path, tmp_path: Path, content: str) -> None:
    path = written_to(tmp_path, content)

    assert refusal(llama, device_map=path).startswith(f"{path}: a device map is a mapping of modules to devices")


@pytest.mark.parametrize("content", [b"a: [\n", b"a: \xe9\n", b"a: 2020-13-45\n", b"a: !!int x\n"])
def test_a_map_that_cannot_be_read(llama: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "devices.yaml"
    path.write_bytes(content)

    assert refusal(llama, device_map=str(path)).startswith(f"{path}: the device map cannot be read: ")


def test_a_map_that_is_neither_known_nor_a_file(llama: Path) -> None:
    assert refusal(llama, device_map="automatic") == (
        "--device-map must be auto, balanced, balanced_low_0, sequential or a file, and there is no file 'automatic'"
    )


def test_sizes_that_are_none_and_devices_that_are_not_there(llama: Path) -> None:
    assert refusal(llama, device_map="auto", max_memory={"cpu": "much"}) == (
        "--max-memory cpu=much: write a size as 20GiB or 500MB"
    )
    assert refusal(llama, device_map="auto", max_memory={"warp": "1GiB"}).startswith(
        "--max-memory warp=1GiB: there is no such device: "
    )
