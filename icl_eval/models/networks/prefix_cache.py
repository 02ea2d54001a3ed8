"""The keys and values of a prefix that many rows begin with, cached from one batch to the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from icl_eval.models.checkpoints.devices import to_device
from icl_eval.models.protocol import common_prefix


class PrefixCache:
    """The states of the last prefix; of the next one, only what the two do not share is computed.

    Args:
        model: a `PreTrainedModel` with a key-value cache.
        device: where its tokens go.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model, self._device = model, device
        self._tokens = np.empty(0, np.int32)
        self._states: list[tuple[torch.Tensor, torch.Tensor]] = []  # per layer, (1, heads, prefix, width)

    def of(self, tokens: NDArray[np.int32], copies: int = 1) -> Any:
        """A cache with the states of `tokens`, for `copies` rows, that the model may append to."""
        shared = common_prefix(self._tokens, tokens)
        if shared < len(tokens):
            self._extend(shared, tokens)
        size = len(tokens)
        return _cache(
            (k[:, :, :size].expand(copies, -1, -1, -1), v[:, :, :size].expand(copies, -1, -1, -1))
            for k, v in self._states
        )

    def clear(self) -> None:
        """Clear the cache: the next prefix is computed from its first token."""
        self._tokens, self._states = np.empty(0, np.int32), []

    @property
    def token_bytes(self) -> int:
        """Memory of one token's states, in bytes; 0 before the first prefix."""
        total = sum(part.nbytes for layer in self._states for part in layer)
        return total // max(len(self._tokens), 1)

    def _extend(self, shared: int, tokens: NDArray[np.int32]) -> None:
        cache = _cache((k[:, :, :shared], v[:, :, :shared]) for k, v in self._states if shared)
        new = to_device(torch.from_numpy(tokens[shared:].astype(np.int64))[None], self._device)
        positions = torch.arange(shared, len(tokens), device=self._device)[None]
        self._model.base_model(input_ids=new, position_ids=positions, past_key_values=cache, use_cache=True)
        self._states = [(layer.keys, layer.values) for layer in cache.layers]
        self._tokens = tokens.copy()


def _cache(states: Any) -> Any:
    from transformers import DynamicCache

    cache = DynamicCache()
    for layer, (keys, values) in enumerate(states):
        cache.update(keys, values, layer)
    return cache
