"""Models of `transformers` in this process, and how many tokens their batches may hold."""

from __future__ import annotations

from typing import Any

import psutil
import torch

from icl_eval.models.loading.precision import precision_of
from icl_eval.models.network import Network
from icl_eval.models.protocol import Budget
from icl_eval.models.tokenization import TokenizerModel

LOGITS = 2**26  # of one batch, scored tokens x vocabulary: 256 MiB in float32
CPU_ROW_BUDGET = 4096  # tokens; larger batches are no faster on a CPU
BYTES_PER_ACTIVATION = (
    40  # bytes per token, layer width and byte of the weights' type: a guess, halved when memory runs out
)


class LocalModel(TokenizerModel):
    """A loaded model of `transformers` and its tokenizer.

    Args:
        model: a `PreTrainedModel`.
        tokenizer: its tokenizer.
        name: its name in tables.
        start: special tokens before every text.
        window: context length in tokens.
    """

    measures_noise = True
    gives_moments = True
    budget: Budget

    def __init__(self, model: Any, tokenizer: Any, name: str, start: tuple[int, ...], window: int) -> None:
        super().__init__(tokenizer, name, start)
        self.model, self.window = model.eval(), window
        self.precision = precision_of(model)
        self.weights = sum(parameter.nbytes for parameter in model.parameters())
        self.parameter_count = model.num_parameters()
        self._network = Network(model)
        self.device = self._network.device
        self.vocabulary = int(self._network.config.vocab_size)
        self.token_bytes = bytes_per_token(model)
        self.budget = Budget(token_budget(model, self.device, window))


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
