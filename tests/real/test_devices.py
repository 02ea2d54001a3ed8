"""A checkpoint under `ICL_EVAL_MODEL`, with its weights on the disk and in memory."""

from __future__ import annotations

import os
from typing import Any

import pytest

from icl_eval.engine import Engine
from icl_eval.models import Decoding, GenerateAnswer, GenerateRequest, ScoreRequest, load_model

TEXTS = (
    "The capital of France is Paris, and the capital of Italy is",
    "The capital of France is Paris, and the capital of Spain is",
    "Two and two make",
)
ENDS = (" Rome", " Madrid", " four", " a river")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("ICL_EVAL_MODEL" not in os.environ, reason="ICL_EVAL_MODEL names no checkpoint"),
]


@pytest.fixture(scope="module")
def plain() -> Any:
    return load_model(os.environ["ICL_EVAL_MODEL"], device="cpu", dtype="float32")


def spread(plain: Any) -> Any:
    """The same model with every third part of it in memory, and all else on the disk, tied embeddings included."""
    modules = [name for name, module in plain.model.named_modules() if name and list(module.parameters(recurse=False))]
    devices = {name: "cpu" if index % 3 == 1 else "disk" for index, name in enumerate(modules)}
    devices[modules[0]] = devices[modules[-1]] = "disk"
    return load_model(os.environ["ICL_EVAL_MODEL"], device_map=devices, dtype="float32")


def test_a_real_model_answers_from_the_disk_as_from_memory(plain: Any) -> None:
    lm = spread(plain)
    requests = [ScoreRequest.of(*lm.encode([text, end])) for text in TEXTS for end in ENDS]
    prompts = [GenerateRequest.of(ids, Decoding(6)) for ids in lm.encode(list(TEXTS))]
    found: dict[int, GenerateAnswer] = {}
    expected: dict[int, GenerateAnswer] = {}
    lm.generate(prompts, found.__setitem__)
    plain.generate(prompts, expected.__setitem__)

    assert {parameter.device.type for parameter in lm.model.parameters()} == {"cpu", "meta"}
    for mine, theirs in zip(Engine(lm).answer(requests), Engine(plain).answer(requests), strict=True):
        assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)
    assert [found[index].texts for index in range(3)] == [expected[index].texts for index in range(3)]
