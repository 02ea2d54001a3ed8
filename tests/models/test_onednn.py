from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from icl_eval.models import Decoding, GenerateAnswer, GenerateRequest
from icl_eval.models.causal.model import CausalLM
from icl_eval.models.generation.onednn import OneDnnLayers

from .architectures import VOCABULARY, WINDOW, build
from .checkpoints import letter_tokenizer

HAS_ONEDNN: bool = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
needs_onednn = pytest.mark.skipif(not HAS_ONEDNN, reason="this torch has no oneDNN")


def logits(model: Any) -> torch.Tensor:
    tokens = torch.arange(3, 23).reshape(2, 10) % VOCABULARY
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=tokens, use_cache=False).logits
    return found


@needs_onednn
@pytest.mark.parametrize(
    ("name", "linear", "gated"),
    [
        ("llama", 15, 2),  # two layers of seven, and the head
        ("llama_tied", 15, 2),
        ("gemma", 15, 2),
        ("qwen2", 15, 2),  # with biases
        ("gpt2", 9, 0),  # weights (inputs, outputs)
        ("opt", 13, 0),
        ("phi3_sliding", 9, 0),  # gate and up in one product
    ],
)
def test_layers_of_onednn_give_what_the_model_gives(name: str, linear: int, gated: int) -> None:
    model = build(name, sharpness=3.0)
    expected, layers = logits(model), OneDnnLayers(model)

    with layers.used():
        found = logits(model)

    kinds = [hasattr(module, "gate_proj") for module in layers.forwards]
    assert (kinds.count(False), kinds.count(True)) == (linear, gated)
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))
    assert torch.equal(logits(model), expected)


def test_layers_are_those_of_the_model_again_after_an_error() -> None:
    model = build("llama")
    layers = OneDnnLayers(model)

    with pytest.raises(KeyError), layers.used():
        raise KeyError

    assert not [module for module in model.modules() if "forward" in vars(module)]


@needs_onednn
def test_layers_that_are_watched_or_changed_stay_as_they_are() -> None:
    model = build("llama")
    first, second = (layer.mlp for layer in model.model.layers)
    seen: list[torch.Tensor] = []
    first.gate_proj.register_forward_hook(lambda _, __, output: seen.append(output))

    class Clamped(type(second)):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> Any:
            return self.down_proj((self.act_fn(self.gate_proj(x)) * self.up_proj(x)).clamp(max=1.0))

    second.__class__ = Clamped
    layers = OneDnnLayers(model)
    with layers.used():
        logits(model)

    assert len(seen) == 1
    assert not {first, first.gate_proj, second} & set(layers.forwards)
    assert second.gate_proj in layers.forwards


@pytest.mark.parametrize("memory", [0, 7, 8])
def test_weights_are_copied_only_where_they_take_little_of_the_memory(memory: int) -> None:
    model = build("llama")
    size = sum(module.weight.nbytes for module in model.modules() if isinstance(module, torch.nn.Linear))

    found = OneDnnLayers(model, memory=memory * size).forwards

    assert bool(found) == (memory == 8 and HAS_ONEDNN)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_stay_as_they_are(dtype: torch.dtype) -> None:
    assert not OneDnnLayers(build("llama").to(dtype)).forwards


@needs_onednn
def test_texts_are_generated_with_the_layers_of_onednn() -> None:
    model = build("llama", sharpness=3.0)
    lm = CausalLM(model, letter_tokenizer(), "tiny", "weights", bos=False, window=WINDOW)
    plain = copy.copy(lm)
    plain.generation = replace(lm.generation, layers=OneDnnLayers(model, memory=0).used)
    used: list[bool] = []
    model.model.embed_tokens.register_forward_hook(lambda *_: used.append("forward" in vars(model.lm_head)))
    answers: dict[CausalLM, dict[int, GenerateAnswer]] = {lm: {}, plain: {}}

    for each, found in answers.items():
        requests = [GenerateRequest.of([3 + index, 7], Decoding(6, (), beams=2)) for index in range(3)]
        each.generate(requests, lambda index, answer, found=found: found.update({index: answer}))  # type: ignore[misc]

    steps = len(used) // 2
    assert used == [True] * steps + [False] * steps
    for index, answer in answers[lm].items():
        assert answer.texts == answers[plain][index].texts
        assert answer.scores == pytest.approx(answers[plain][index].scores, abs=1e-4)
