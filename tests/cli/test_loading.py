from __future__ import annotations

from pathlib import Path

import pytest

from .shell import TOY, IclEval


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("empty", "empty: this directory is not a checkpoint: it has no config.json"),
        ("./gone", "gone: there is no such model directory"),
        ("/no/where", "/no/where: there is no such model directory"),
        ("", ".: this directory is not a checkpoint: it has no config.json"),
    ],
)
def test_model_directory_without_a_model(model: str, sentence: str, icl_eval: IclEval) -> None:
    Path("empty").mkdir()

    assert icl_eval("run", "--task", "toy/parity", "--model", model, *TOY).mistake == sentence


def test_a_model_that_is_a_file(icl_eval: IclEval) -> None:
    Path("model.bin").write_bytes(b"x")
    message = icl_eval("run", "--task", "toy/parity", "--model", "model.bin", *TOY).mistake

    assert message == "model.bin: this is a file; a model is a directory, a GGUF file, or a name on the Hub"


def test_a_model_directory_with_a_damaged_configuration(icl_eval: IclEval) -> None:
    Path("odd").mkdir()
    Path("odd/config.json").write_text("{")
    message = icl_eval("run", "--task", "toy/parity", "--model", "odd", *TOY).mistake

    assert message.startswith("'odd' cannot be loaded: ")
