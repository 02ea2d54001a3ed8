"""Replace activations that `transformers` computes in several operations by fused ones of torch."""

from __future__ import annotations

import torch


def fuse_activations(model: torch.nn.Module) -> None:
    """Replace the tanh GELU of GPT-2 and others, in place: one pass over a layer instead of seven."""
    from transformers.activations import FastGELUActivation, NewGELUActivation

    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation | FastGELUActivation):
                setattr(module, name, torch.nn.GELU(approximate="tanh"))
