"""Attention over a packed row, as an implementation of attention in the registry of `transformers`.

There are kernels with flash attention on a CPU, with two variable-length functions on CUDA, and with matrix products,
which run everywhere. Each computes the blocks or sequences of a row separately. They are merged exactly by the
log-sum-exps of their scores; an attention sink takes its share of the result. A layer passes the scale, soft cap,
sliding window and sinks of its scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

from icl_eval.models.causal.blocks import Sequences, TreePlan, sequences
from icl_eval.models.network import lacks_memory

NAME = "icl_eval_tree"  # in the registry of `transformers`, while a row runs
QUERIES = 256  # queries of a matrix product at a time, because all their scores are in memory


@dataclass(frozen=True, slots=True)
class Scores:
    """How a layer computes attention scores.

    Attributes:
        scaling: factor of the scores; by default 1 / sqrt(width).
        softcap: the scores are `softcap * tanh(score / softcap)`; None for no soft cap.
        window: number of tokens that a query attends to, including itself; None for all.
        sinks: (heads,), scores of attention sinks, which take weight but have no value.
    """

    scaling: float | None = None
    softcap: float | None = None
    window: int | None = None
    sinks: torch.Tensor | None = None


Parts = tuple[torch.Tensor, torch.Tensor]  # outputs (..., width), and log-sum-exps of the scores (...) in float32
Kernel = Callable[[TreePlan, Scores, torch.Tensor, torch.Tensor, torch.Tensor], Parts]
"""From queries (1, heads, new, width), keys and values (1, key heads, all, width) to parts (1, heads, new, ...)."""


class KernelError(RuntimeError):
    """A kernel does not support the attention of a layer."""


class Attention(Protocol):
    """Computes the attention of a layer."""

    def __call__(
        self, layer: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scores: Scores
    ) -> torch.Tensor:
        """The output (1, heads, new, width) in float32.

        Args:
            layer: the attention module.
            query: (1, heads, new, width).
            key, value: (1, key heads, cached + new, width).
            scores: how scores are computed.
        """
        ...


def attending(config: Any, plan: TreePlan, kernel: Kernel) -> AbstractContextManager[None]:
    """Let the layers of a model attend by `plan` in the block, instead of by their usual implementation."""
    return attending_as(config, partial(_by_plan, plan, kernel))


@contextmanager
def attending_as(config: Any, attention: Attention) -> Iterator[None]:
    """Replace the attention of all layers of a model in the block."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attention)
    usual, token = config._attn_implementation, _current.set(attention)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = usual
        _current.reset(token)


_current: ContextVar[Attention] = ContextVar("attention")


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    if attention_mask is not None or position_bias is not None:
        raise ValueError("this attention supports neither masks nor position biases")
    output = _current.get()(module, query, key, value, Scores(scaling, softcap, sliding_window, s_aux))
    return output.to(query.dtype).transpose(1, 2).contiguous(), None


def _by_plan(
    plan: TreePlan,
    kernel: Kernel,
    _: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scores: Scores,
) -> torch.Tensor:
    try:
        output, logsumexp = kernel(plan, scores, query, key, value)
    except (RuntimeError, NotImplementedError, TypeError, AttributeError) as error:
        if isinstance(error, RuntimeError) and lacks_memory(error):
            raise
        raise KernelError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    if scores.sinks is None:
        return output
    return output * torch.sigmoid(logsumexp - scores.sinks.float().reshape(1, -1, 1))[..., None]


def flash_blocks(plan: TreePlan, scores: Scores, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Parts:
    """Attention by blocks, with the flash attention of a CPU."""
    if scores.softcap is not None:
        raise ValueError("this kernel does not support soft caps")
    return _by_blocks(_flash_cpu, plan, scores, query, key, value)


def plain_blocks(plan: TreePlan, scores: Scores, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Parts:
    """Attention by blocks, with matrix products in float32: on any device, and with soft caps."""

    def products(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, _: float | None, **which: Any) -> Parts:
        return _products(q, k, v, scores, **which)

    return _by_blocks(products, plan, scores, query, key, value)


def flash_sequences(
    plan: TreePlan, scores: Scores, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> Parts:
    """Attention by sequences, with the flash attention of CUDA, for 16-bit types and widths up to 256."""
    return _by_sequences(_flash_cuda, plan, scores, query, key, value)


def efficient_sequences(
    plan: TreePlan, scores: Scores, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> Parts:
    """Attention by sequences, with the memory-efficient attention of CUDA, for all types."""
    return _by_sequences(_efficient_cuda, plan, scores, query, key, value)


def kernels_of(device: str) -> list[Kernel]:
    """The kernels to try on a type of device, fastest first."""
    fast: dict[str, list[Kernel]] = {"cpu": [flash_blocks], "cuda": [flash_sequences, efficient_sequences]}
    return [*fast.get(device, []), plain_blocks]


def checked(kernel: Kernel) -> Kernel:
    """The kernel, with its output compared with that of masked matrix products in float32.

    Raises:
        RuntimeError: raised by the returned kernel if they differ by more than rounding.
    """

    def compared(plan: TreePlan, scores: Scores, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Parts:
        output, logsumexp = kernel(plan, scores, query, key, value)
        mask = torch.zeros(query.shape[2], key.shape[2], device=query.device)
        mask.masked_fill_(~torch.from_numpy(plan.visible(scores.window)).to(query.device), torch.finfo(mask.dtype).min)
        expected, total = _products(query, key, value, scores, mask=mask)
        rounding = 1e-3 if query.dtype in (torch.float32, torch.float64) else 3e-2
        errors = (output - expected).abs().max() / expected.abs().max(), (logsumexp - total).abs().max()
        if not max(map(float, errors)) <= rounding:
            raise RuntimeError("an attention kernel gives other results than matrix products")
        return output, logsumexp

    return compared


def _flash_cpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    *,
    causal: bool = False,
    mask: torch.Tensor | None = None,
) -> Parts:
    """Outputs (batch, heads, queries, width) and log-sum-exps (batch, heads, queries) of the flash attention of a CPU.

    Args:
        query: (batch, heads, queries, width).
        key, value: (batch, heads, keys, width).
        scaling: factor of the scores; by default 1 / sqrt(width).
        causal: whether each query attends to the keys up to its own position.
        mask: additive, (queries, keys).
    """
    part, part_logsumexp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, causal, attn_mask=mask, scale=scaling
    )
    return part, part_logsumexp


def _products(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scores: Scores,
    *,
    causal: bool = False,
    mask: torch.Tensor | None = None,
) -> Parts:
    """Outputs and log-sum-exps as of `_flash_cpu`, by matrix products in float32; heads may share keys."""
    shared = query.shape[1] // key.shape[1]
    keys, values = _repeated(key, shared).float(), _repeated(value, shared).float()
    scaling = query.shape[-1] ** -0.5 if scores.scaling is None else scores.scaling
    parts = []
    for begin in range(0, query.shape[2], QUERIES):
        stop = min(begin + QUERIES, query.shape[2])
        seen = stop if causal else keys.shape[2]
        product = query[:, :, begin:stop].float() @ keys[:, :, :seen].transpose(2, 3) * scaling
        if scores.softcap is not None:
            product = torch.tanh(product / scores.softcap) * scores.softcap
        if mask is not None:
            product = product + mask[begin:stop].float()
        if causal:
            later = torch.ones(stop - begin, seen, dtype=torch.bool, device=query.device).triu_(begin + 1)
            product = product.masked_fill_(later, -torch.inf)
        total = product.logsumexp(dim=-1)
        parts.append(((product - total[..., None]).exp() @ values[:, :, :seen], total))
    outputs, totals = zip(*parts, strict=True)
    return torch.cat(outputs, dim=2), torch.cat(totals, dim=2)


def _merge(output: torch.Tensor, logsumexp: torch.Tensor, part: torch.Tensor, part_logsumexp: torch.Tensor) -> None:
    """Merge attention to other keys into the output in place, weighted by the log-sum-exps of both.

    Args:
        output: (..., width), the attention so far.
        logsumexp: (...), the log-sum-exps of its scores.
        part, part_logsumexp: outputs and log-sum-exps of the attention to other keys.
    """
    share = torch.sigmoid(part_logsumexp - logsumexp)[..., None]
    output.lerp_(part.to(output.dtype), share)
    torch.logaddexp(logsumexp, part_logsumexp, out=logsumexp)


def _by_blocks(
    attention: Callable[..., Parts],
    plan: TreePlan,
    scores: Scores,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
) -> Parts:
    heads, length = query.shape[1], query.shape[2]
    shared = heads // key.shape[1]  # heads that share a key head
    output = query.new_empty(1, heads, length, value.shape[-1], dtype=torch.float32)
    logsumexp = query.new_empty(1, heads, length, dtype=torch.float32)
    for block in plan.blocks(scores.window):
        queries, keys, values = query[:, :, block.queries], key[:, :, block.keys], value[:, :, block.keys]
        if block.causal or block.visible is not None:
            mask = plan.mask(block, query.device, query.dtype)
            keys, values = _repeated(keys, shared), _repeated(values, shared)
            part, part_logsumexp = attention(queries, keys, values, scores.scaling, causal=block.causal, mask=mask)
        else:
            part, part_logsumexp = _folded(attention, queries, keys, values, scores.scaling)
        if block.includes_queries:
            output[:, :, block.queries], logsumexp[:, :, block.queries] = part, part_logsumexp
        else:
            _merge(output[:, :, block.queries], logsumexp[:, :, block.queries], part, part_logsumexp)
    return output, logsumexp


def _folded(
    attention: Callable[..., Parts], query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
) -> Parts:
    folded = query.reshape(1, key.shape[1], -1, query.shape[-1])
    part, part_logsumexp = attention(folded, key, value, scaling)
    return part.reshape(*query.shape[:3], -1), part_logsumexp.reshape(query.shape[:3])


def _repeated(states: torch.Tensor, times: int) -> torch.Tensor:
    return states if times == 1 else states.repeat_interleave(times, dim=1)


def _by_sequences(
    attention: Callable[..., Parts],
    plan: TreePlan,
    scores: Scores,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
) -> Parts:
    if scores.softcap is not None:
        raise ValueError("this kernel does not support soft caps")
    queries, keys, values = (states[0].transpose(0, 1) for states in (query, key, value))  # (tokens, heads, width)
    calls = plan.cached((scores.window, query.device), sequences, scores.window, query.device)
    first = [call for call in calls if call.includes_queries]
    parts = [_attended(attention, call, queries, keys, values, scores.scaling) for call in first]
    outputs, totals = zip(*parts, strict=True)
    output, logsumexp = (side[0] if len(side) == 1 else torch.cat(side) for side in (outputs, totals))
    if len(first) == len(calls):
        return output.transpose(0, 1)[None], logsumexp.transpose(0, 1)[None]
    output, logsumexp = output.float(), logsumexp.contiguous()
    for call in calls[len(first) :]:
        part, part_logsumexp = _attended(attention, call, queries, keys, values, scores.scaling)
        before, sofar = output[call.queries], logsumexp[call.queries]
        _merge(before, sofar, part, part_logsumexp)
        if not isinstance(call.queries, slice):  # a slice is a view
            output[call.queries], logsumexp[call.queries] = before, sofar
    return output.transpose(0, 1)[None], logsumexp.transpose(0, 1)[None]


def _attended(
    attention: Callable[..., Parts],
    call: Sequences,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scaling: float | None,
) -> Parts:
    return attention(queries[call.queries], keys[call.keys], values[call.keys], call, scaling)


def _flash_cuda(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Sequences, scaling: float | None
) -> Parts:
    window = {} if call.window is None else {"window_size_left": call.window - 1, "window_size_right": 0}
    ends = call.q_ends, call.k_ends, call.longest_q, call.longest_k
    found = torch.ops.aten._flash_attention_forward(
        query, key, value, *ends, 0.0, call.causal, False, scale=scaling, **window
    )
    return found[0], _by_token(found[1], call, len(query))


def _efficient_cuda(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Sequences, scaling: float | None
) -> Parts:
    shared = query.shape[1] // key.shape[1]
    states = (each[None] for each in (query, _repeated(key, shared), _repeated(value, shared)))
    ends = call.q_ends, call.k_ends, call.longest_q, call.longest_k
    kind = 2 if call.causal else 0  # causal, aligned at the last query and the last key
    found = torch.ops.aten._efficient_attention_forward(
        *states, None, *ends, 0.0, kind, True, scale=scaling, window_size=call.window
    )
    return found[0][0], _by_token(found[1], call, len(query))


def _by_token(scores: torch.Tensor, call: Sequences, tokens: int) -> torch.Tensor:
    """Log-sum-exps as (tokens, heads), from (heads, tokens) or from padded (sequences, heads, queries)."""
    if scores.dim() == 2:
        if scores.shape[1] != tokens:
            raise RuntimeError(f"the kernel returns log-sum-exps of the unknown shape {tuple(scores.shape)}")
        return scores.transpose(0, 1)
    sequence, offset = call.q_offsets
    return scores[sequence, :, offset]
