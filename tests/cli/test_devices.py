from __future__ import annotations

import json
from pathlib import Path

import pytest

from icl_eval.cli import options
from icl_eval.errors import RunError

from .shell import TOY, IclEval

TINY = ("run", "--task", "toy/parity", "--model", "tiny", *TOY)


def test_memory_sizes_are_separated_by_commas_or_repeated() -> None:
    assert options.pairs(["0=20GiB, cpu = 30GiB", "1=500MB"], "--max-memory") == {
        0: "20GiB",
        "cpu": "30GiB",
        1: "500MB",
    }


@pytest.mark.parametrize("word", ["20GiB", "0=", "=20GiB", "0"])
def test_memory_size_without_a_device_is_an_error(word: str, icl_eval: IclEval) -> None:
    message = icl_eval(*TINY, "--device-map", "auto", "--max-memory", word).mistake

    assert message == f"--max-memory takes NAME=VALUE,... without repeated names, not {word!r}"


def test_repeated_device_is_an_error() -> None:
    with pytest.raises(RunError, match="without repeated names"):
        options.pairs(["0=1GiB,0=2GiB"], "--max-memory")


def test_device_map_and_memory_limits_do_not_change_scores(icl_eval: IclEval) -> None:
    plain = icl_eval(*TINY, "--out", "plain", "--format", "json")
    spread = icl_eval(*TINY, "--out", "spread", "--device-map", "auto", "--max-memory", "cpu=2MB", "--format", "json")

    assert (plain.code, spread.code) == (0, 0), (plain.err, spread.err)
    first, second = ([row["value"] for row in json.loads(each.out)["scores"]] for each in (plain, spread))
    assert first == pytest.approx(second, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--device", "cpu", "--device-map", "auto"], "give either --device or --device-map, not both"),
        (["--device-map", "auto", "--max-memory", "cpu=much"], "--max-memory cpu=much: write a size as"),
        (["--device-map", "nowhere.yaml"], "there is no file 'nowhere.yaml'"),
        (["--device-map", "devices.yaml"], "devices.yaml: no module of the model is named 'transformer.g'"),
        (["--tensor-parallel"], "--tensor-parallel divides a model among several processes, but there is only one"),
        (["--attn", "flash_attention_2"], "--attn flash_attention_2 cannot be used: "),
    ],
)
def test_invalid_devices_are_one_sentence(arguments: list[str], sentence: str, icl_eval: IclEval) -> None:
    Path("devices.yaml").write_text("transformer.g: cpu\n")

    assert sentence in icl_eval(*TINY, *arguments).mistake
