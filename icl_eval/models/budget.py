"""How many tokens a batch may hold."""

from __future__ import annotations

from typing import Any

import psutil
import torch

LOGITS = 2**26  # of one batch, scored tokens x vocabulary: 256 MiB in float32
CPU_ROW_BUDGET = 4096  # tokens; larger batches are no faster on a CPU
BYTES_PER_ACTIVATION = (
    40  # bytes per token, layer width and byte of the weights' type: a guess, halved when memory runs out
)


def bytes_per_token(model: Any) -> int:
    """Memory that a token of a batch is expected to take."""
    return BYTES_PER_ACTIVATION * int(model.config.get_text_config().hidden_size) * int(model.dtype.itemsize)


def state_budget(model: Any, device: torch.device, least: int) -> int:
    """Tokens whose keys and values half of the free memory of the fullest device can hold.

    Args:
        model: its layers may be on several devices; each is counted as if it held all states.
        device: of the input tokens.
        least: tokens of one window.
    """
    config = model.config.get_text_config()
    heads = int(config.num_attention_heads) if hasattr(config, "num_attention_heads") else 1
    shared = heads // int(getattr(config, "num_key_value_heads", None) or heads) or 1
    state_bytes = 2 * int(config.num_hidden_layers) * int(config.hidden_size) * int(model.dtype.itemsize) // shared
    return max(least, _free(model, device) // 2 // state_bytes)


def token_budget(model: Any, device: torch.device, least: int) -> int:
    """Tokens per batch that half of the free memory of the fullest device can hold.

    Args:
        model: its parameters may be on several devices.
        device: of the input tokens.
        least: tokens of one window.
    """
    tokens = max(least, _free(model, device) // 2 // bytes_per_token(model))
    return tokens if device.type == "cuda" else min(CPU_ROW_BUDGET, tokens)


def _free(model: Any, device: torch.device) -> int:
    """Free memory of the fullest device, in bytes."""
    if device.type == "cuda":
        devices = {device, *(each.device for each in model.parameters() if each.is_cuda)}
        return min(torch.cuda.mem_get_info(each)[0] for each in devices)
    return int(psutil.virtual_memory().available)
