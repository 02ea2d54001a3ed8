"""Causal language models of `transformers`: log-probabilities of the targets of packed rows, and generated texts.

Log-softmax is computed in float32, whatever the type of the weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from icl_eval.errors import ModelError
from icl_eval.models.causal.blocks import TreePlan
from icl_eval.models.causal.rows import PendingRows, Row, RowAnswer, depths, visibility
from icl_eval.models.causal.scheduling import RowModel
from icl_eval.models.causal.sharing import (
    Sharing,
    has_causal_masks,
    line,
    longrope_lengths,
    narrowed,
    sharing,
)
from icl_eval.models.causal.tree_attention import Kernel, KernelError, attending, checked, kernels_of, plain_blocks
from icl_eval.models.decoding import GenerateRequest, TextSink
from icl_eval.models.generation.generation import Generation, Limits
from icl_eval.models.generation.probing import causal_generation
from icl_eval.models.loading.devices import queue_depth, to_device
from icl_eval.models.network import (
    LocalModel,
    distance,
    enqueue_token_logprobs,
    full_device,
    ordinary_tokens,
    padded,
    state_budget,
    tolerance,
)
from icl_eval.models.protocol import LOGITS, common_prefix
from icl_eval.models.tokenization import bos_tokens, window_of

ARITHMETIC = 6  # increased with every change after which the same tokens may get another answer
DEVICE_PROBE = 24  # factor of the length of test rows on a GPU, whose kernels work in tiles of up to 256 tokens
RULES = rf"bos[01]\|arithmetic{ARITHMETIC}"  # the last part of a fingerprint


class CausalLM(LocalModel, RowModel):
    """A causal language model.

    Args:
        model: a `PreTrainedModel` with a language-model head.
        tokenizer: its tokenizer.
        name: the name in tables.
        fingerprint: identifies weights, precision and tokenizer.
        bos: whether every text begins with the BOS token; by default if the tokenizer adds it.
        window: context length in tokens; by default that of the configuration.
        own_attention: whether to use only the model's own implementation of attention, even for branching rows.

    Raises:
        ModelError: the context length is unknown, `bos` is True but the tokenizer has no BOS token, or the model is not
            causal.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        fingerprint: str,
        bos: bool | None = None,
        window: int | None = None,
        own_attention: bool = False,
    ) -> None:
        super().__init__(model, tokenizer, name, bos_tokens(tokenizer, bos), window_of(model.config, tokenizer, window))
        self.fingerprint = f"{fingerprint}|{self.precision}|bos{len(self.start)}|arithmetic{ARITHMETIC}"
        self._config = self._network.config
        self.hidden_size = int(self._config.hidden_size)
        self._own_attention = own_attention
        self.queue_depth = queue_depth(model, self.device)
        self.has_tree_attention = False
        self._kernel: Kernel | None = None  # for rows that branch or continue a cached prefix; None: use a mask
        self._prefix_cache = PrefixCache(model, self.device)
        rows = [line([1, 2, 3]), line([2, 1])]
        self._network.restrict_head(lambda: self._logits(rows), self.precision)
        if not self._is_causal():
            raise ModelError(f"{type(model).__name__} attends to later tokens, so it is not a causal language model")
        found = self._best_sharing([] if own_attention else kernels_of(self.device.type))
        self.shares_prefixes, self.max_shared_length = found.works, found.max_shared_length
        self.prefix_sharing_limit = found.prefix_sharing_limit
        self.has_tree_attention = found.works and self._kernel is not None
        self.caches_prefixes = found.works and self._cached_prefix_works()
        self.state_bytes = self._prefix_cache.token_bytes

    def forward(self, rows: Sequence[Row]) -> list[RowAnswer]:
        """Run rows as one batch and return their answers."""
        return self.enqueue(rows)()

    def enqueue(self, rows: Sequence[Row]) -> PendingRows:
        """Start to run rows as one batch; they are padded on the right, which causal attention never reads.

        Raises:
            OutOfMemory: the batch does not fit the device.
        """
        with full_device(), torch.inference_mode():
            pending = enqueue_token_logprobs(
                self._run(rows, cached=False, falls_back=True)[0],
                np.concatenate([row.targets for row in rows]),
                any(row.moments for row in rows),
            )
        cuts = np.cumsum([len(row.scored) for row in rows])[:-1]

        def read() -> list[RowAnswer]:
            parts = (np.split(each, cuts, axis=-1) for each in pending())
            return [RowAnswer(*scores) for scores in zip(*parts, strict=True)]

        return read

    def generate(self, requests: Sequence[GenerateRequest], sink: TextSink) -> None:
        """Generate texts after prompts; call `sink` with each answer as soon as it is known.

        Raises:
            OutOfMemory: a single prompt does not fit the device.
            FloatingPointError: the model returns something that is not a log-probability.
        """
        if requests:
            generation = self.generation
            self.clear_cache()  # so that generated texts depend on these requests only
            generation.generate(requests, sink)

    def clear_cache(self) -> None:
        """Clear the prefix cache."""
        self._prefix_cache.clear()

    @cached_property
    def generation(self) -> Generation:
        """Generation with the fastest decoders that work for this model, which are determined at first use."""
        continues = self.caches_prefixes and not self._own_attention
        return causal_generation(
            self._network,
            self.tokenizer,
            partial(self._run, cached=True, falls_back=True) if continues else None,
            branches=self.has_tree_attention,
            precision=self.precision,
            max_length=self.max_shared_length,
            cache_invalid=set(longrope_lengths(self._config)),
            limits=Limits(
                LOGITS // self.vocabulary,
                self.budget.size,
                state_budget(self.model, self.device, self.window, self.state_bytes),
            ),
        )

    def _logits(self, rows: Sequence[Row], positions: NDArray[np.int64] | None = None) -> torch.Tensor:
        """Next-token logits (N, V) in float32 at the scored tokens of all rows."""
        return self._run(rows, positions, cached=False)[0]

    def _run(
        self,
        rows: Sequence[Row],
        positions: NDArray[np.int64] | None = None,
        *,
        cached: bool,
        falls_back: bool = False,
    ) -> tuple[torch.Tensor, Any]:
        """Next-token logits (N, V) in float32 at the scored tokens of all rows; and the cache, if `cached`.

        Args:
            rows: the rows of a batch.
            positions: of the tokens of a single row, (length,); by default their depths.
            cached: whether to return a cache of all tokens.
            falls_back: whether to warn, and use matrix products from now on, if an attention kernel fails.
        """
        inputs, indices, attention = self._inputs(rows, positions, cached)
        try:
            with attention:
                logits, output = self._network.forward(inputs, indices)
        except KernelError as error:
            if not falls_back or self._kernel is plain_blocks:
                raise
            message = f"an attention kernel failed ({error}); slower matrix products are used from now on"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
            self._kernel = plain_blocks
            return self._run(rows, positions, cached=cached)
        return logits, getattr(output, "past_key_values", None)

    def _inputs(
        self, rows: Sequence[Row], positions: NDArray[np.int64] | None, cached: bool
    ) -> tuple[dict[str, Any], torch.Tensor, AbstractContextManager[None]]:
        """The inputs of the network, the indices (N,) of scored tokens in the flattened batch, and the attention."""
        from transformers import DynamicCache

        prefix = rows[0].prefix_length  # the same for all
        tokens = padded([row.tokens[prefix:] for row in rows])  # (B, T)
        length = tokens.shape[1]
        indices = torch.from_numpy(
            np.concatenate([index * length + row.scored - prefix for index, row in enumerate(rows)])
        )
        inputs: dict[str, Any] = {"input_ids": to_device(tokens, self.device), "use_cache": cached or bool(prefix)}
        if prefix:
            inputs["past_key_values"] = self._prefix_cache.of(rows[0].tokens[:prefix], copies=len(rows))
        elif cached:
            # keeps all tokens; the default cache of a layer with a sliding window would drop some
            inputs["past_key_values"] = DynamicCache()
        attention: AbstractContextManager[None] = nullcontext()
        if self._kernel is not None and len(rows) == 1 and self._uses_kernel(rows[0]):
            used = depths(rows[0].parents) if positions is None else positions
            inputs["position_ids"] = to_device(torch.from_numpy(used[prefix:])[None], self.device)
            kernel = self._kernel if self.has_tree_attention else checked(self._kernel)  # while it is probed
            attention = attending(self._config, TreePlan(rows[0].parents, prefix), kernel)
        elif prefix or not all(row.is_linear for row in rows):
            inputs |= self._branching(rows, length, positions)
        return inputs, indices, attention

    def _uses_kernel(self, row: Row) -> bool:
        """Whether to run a row with the kernel.

        Rows that branch or continue a cached prefix need it. Plain rows are faster with it if several batches are in
        flight, because `transformers` waits for the device to find out whether a row is plain.
        """
        overlaps = self.queue_depth > 1 and self.has_tree_attention and len(row.tokens) <= self.max_shared_length
        return row.prefix_length > 0 or not row.is_linear or overlaps

    def _branching(self, rows: Sequence[Row], length: int, custom: NDArray[np.int64] | None) -> dict[str, torch.Tensor]:
        """Positions (B, T), and an additive mask (B, 1, T, P + T) of the ancestors of each token.

        P is the length of the cached prefix; T counts the new tokens only.
        """
        prefix = rows[0].prefix_length
        positions = torch.zeros(len(rows), length, dtype=torch.long)
        visible = torch.zeros(len(rows), 1, length, prefix + length, dtype=torch.bool)
        visible[:, 0, :, prefix:].diagonal(dim1=1, dim2=2).fill_(True)  # also of padding: without keys, it gives NaN
        for index, row in enumerate(rows):
            size = len(row.tokens) - prefix
            positions[index, :size] = torch.from_numpy((depths(row.parents) if custom is None else custom)[prefix:])
            visible[index, 0, :size, : prefix + size] = torch.from_numpy(visibility(row.parents)[prefix:])
        mask = torch.zeros(visible.shape, dtype=self.model.dtype)
        mask.masked_fill_(~visible, torch.finfo(self.model.dtype).min)
        return {"position_ids": to_device(positions, self.device), "attention_mask": to_device(mask, self.device)}

    def _is_causal(self) -> bool:
        """Whether predictions do not depend on later tokens, as they do in an encoder with a language-model head."""
        row, tokens = line([0, 0, 0]), np.array([[5, 6, 7], [5, 6, 8], [9, 6, 7]], np.int32) % self.vocabulary
        rows = [replace(row, tokens=each, scored=np.array([1], np.int32)) for each in tokens]
        with torch.inference_mode():
            plain, later, earlier = self._logits(rows).cpu().numpy()
        return not distance(later, plain) > tolerance(self.precision) * distance(earlier, plain)  # True for NaN

    def _best_sharing(self, kernels: Sequence[Kernel]) -> Sharing:
        """Select the kernel with which the longest sequences can share rows, or a mask; return what it allows."""
        best: tuple[Kernel | None, Sharing] | None = None
        for kernel in kernels:
            self._kernel, found = kernel, self._sharing(kernel)
            if found.works and (best is None or found.max_shared_length > best[1].max_shared_length):
                best = kernel, found
            if found.works and not found.prefix_sharing_limit:
                break
        if best is None:
            best = None, self._sharing(None)
        self._kernel, found = best
        return found

    def _sharing(self, kernel: Kernel | None) -> Sharing:
        self._kernel = kernel

        def logits(row: Row, positions: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
            with torch.inference_mode():
                return self._logits([row], positions).cpu().numpy()

        masks = has_causal_masks(self.model, self.window)
        windows = partial(narrowed, self.model, self._config) if kernel else None
        size = 1 if self.device.type == "cpu" else DEVICE_PROBE
        return sharing(self._config, masks, self.window, self.precision, logits, windows, size)

    def _cached_prefix_works(self) -> bool:
        """Whether a row that continues a cached prefix gives the same logits as the whole row."""
        tokens = ordinary_tokens(6, self.vocabulary).astype(np.int32)
        row = Row(tokens, np.array([-1, 0, 1, 2, 1, 4], np.int32), np.array([3, 5], np.int32), tokens[:2])
        other = replace(row, tokens=np.where(np.arange(6) < 3, tokens[::-1], tokens).astype(np.int32))
        try:
            with torch.inference_mode():
                whole, cached, different = (
                    self._logits([each]).cpu().numpy() for each in (row, replace(row, prefix_length=2), other)
                )
        except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
            return False
        return distance(cached, whole) <= tolerance(self.precision) * distance(different, whole)


class PrefixCache:
    """The keys and values of the last prefix; of the next prefix, only the tokens that differ are computed.

    Args:
        model: a `PreTrainedModel` with a key-value cache.
        device: the device of its input tokens.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model, self._device = model, device
        self._tokens = np.empty(0, np.int32)
        self._states: list[tuple[torch.Tensor, torch.Tensor]] = []  # per layer, (1, heads, prefix, width)

    def of(self, tokens: NDArray[np.int32], copies: int = 1) -> Any:
        """A new key-value cache of `tokens` for a batch of `copies` rows."""
        shared = common_prefix(self._tokens, tokens)
        if shared < len(tokens):
            self._extend(shared, tokens)
        size = len(tokens)
        return _cache(
            (k[:, :, :size].expand(copies, -1, -1, -1), v[:, :, :size].expand(copies, -1, -1, -1))
            for k, v in self._states
        )

    def clear(self) -> None:
        """Clear the cache, so that the next prefix is computed from its first token."""
        self._tokens, self._states = np.empty(0, np.int32), []

    @property
    def token_bytes(self) -> int:
        """Memory of each cached token in bytes; 0 before the first prefix."""
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
