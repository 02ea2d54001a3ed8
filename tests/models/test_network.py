"""The fused activation is the spelt-out one."""

from __future__ import annotations

from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from icl_eval.models.network import fuse_activations


def test_logits_are_the_same() -> None:
    torch.manual_seed(0)
    model: Any = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2, initializer_range=0.5))
    model.eval()
    tokens = torch.randint(64, (2, 20))
    with torch.inference_mode():
        before = model(tokens).logits
        fuse_activations(model)
        after = model(tokens).logits

    assert [type(block.mlp.act) for block in model.transformer.h] == [torch.nn.GELU, torch.nn.GELU]
    assert float((after - before).abs().max()) < 1e-5 * float(before.abs().max())


def test_other_activations_stay() -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
    }
    model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=16, **sizes))
    before = model.model.layers[0].mlp.act_fn
    fuse_activations(model)

    assert model.model.layers[0].mlp.act_fn is before
