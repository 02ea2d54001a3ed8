"""Kernels that attend by blocks: flash attention on a CPU, two variable-length kernels on CUDA, and plain operations.

All return the output and the log-sum-exp of its scores. A variable-length kernel takes a row as sequences: every
segment with itself, then level by level every branch with the tokens that it continues. A layer with a window takes
every segment with its ancestors within the window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from icl_eval.models.causal.blocks import Segments, TreePlan
from icl_eval.models.causal.rows import segments

QUERIES = 256  # of the plain operations at once: their scores are in memory
PATHS = 2**16  # tokens of windows that are gathered at once


@dataclass(frozen=True, slots=True)
class Scores:
    """How a layer computes attention scores: scaled, soft-capped by tanh, within a window, with sinks for its heads."""

    scaling: float | None = None
    softcap: float | None = None
    window: int | None = None
    sinks: torch.Tensor | None = None


Parts = tuple[torch.Tensor, torch.Tensor]  # outputs (..., width) and log-sum-exps (...), float32
Kernel = Callable[[TreePlan, Scores, torch.Tensor, torch.Tensor, torch.Tensor], Parts]
"""From queries (1, heads, new, width), keys and values (1, key heads, all, width) to parts (1, heads, new, ...)."""


def flash_blocks(plan: TreePlan, scores: Scores, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Parts:
    """Block by block, with the flash attention of a CPU."""
    if scores.softcap is not None:
        raise ValueError("this kernel does not support soft caps")
    return _by_blocks(attend, plan, scores, query, key, value)


def plain_blocks(plan: TreePlan, scores: Scores, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Parts:
    """Block by block, by matrix products in float32: on any device, with any cap and any width."""

    def attending(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, _: float | None, **which: Any) -> Parts:
        return plain(q, k, v, scores, **which)

    return _by_blocks(attending, plan, scores, query, key, value)


def flash_sequences(
    plan: TreePlan, scores: Scores, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> Parts:
    """As sequences, with the flash attention of CUDA: 16-bit types, widths up to 256."""
    return _by_sequences(_flash, plan, scores, query, key, value)


def efficient_sequences(
    plan: TreePlan, scores: Scores, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> Parts:
    """As sequences, with the memory-efficient attention of CUDA: every type."""
    return _by_sequences(_efficient, plan, scores, query, key, value)


def kernels_of(device: str) -> list[Kernel]:
    """The kernels to try on a type of device, fastest first."""
    fast: dict[str, list[Kernel]] = {"cpu": [flash_blocks], "cuda": [flash_sequences, efficient_sequences]}
    return [*fast.get(device, []), plain_blocks]


def checked(kernel: Kernel) -> Kernel:
    """A kernel that compares its output with masked matrix products in float32.

    Raises:
        RuntimeError: they differ by more than rounding.
    """

    def compared(plan: TreePlan, scores: Scores, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Parts:
        output, weight = kernel(plan, scores, query, key, value)
        mask = torch.zeros(query.shape[2], key.shape[2], device=query.device)
        mask.masked_fill_(~torch.from_numpy(plan.sees(scores.window)).to(query.device), torch.finfo(mask.dtype).min)
        expected, total = plain(query, key, value, scores, mask=mask)
        rounding = 1e-3 if query.dtype in (torch.float32, torch.float64) else 3e-2
        errors = (output - expected).abs().max() / expected.abs().max(), (weight - total).abs().max()
        if not max(map(float, errors)) <= rounding:
            raise RuntimeError("an attention kernel differs from matrix products")
        return output, weight

    return compared


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    *,
    causal: bool = False,
    mask: torch.Tensor | None = None,
) -> Parts:
    """Attention (batch, heads, queries, width) and the log-sum-exp of its scores (batch, heads, queries)."""
    part, score = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, causal, attn_mask=mask, scale=scaling
    )
    return part, score


def attend_to_all(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None) -> Parts:
    """Attention without a mask; heads that share keys are treated as more queries."""
    return _folded(attend, query, key, value, scaling)


def plain(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scores: Scores,
    *,
    causal: bool = False,
    mask: torch.Tensor | None = None,
) -> Parts:
    """The same as `attend`, by matrix products in float32."""
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


def merge(output: torch.Tensor, weight: torch.Tensor, part: torch.Tensor, score: torch.Tensor) -> None:
    """Merge a part of the attention into the output, weighted by their log-sum-exps."""
    share = torch.sigmoid(score - weight)[..., None]
    output.lerp_(part.to(output.dtype), share)
    torch.logaddexp(weight, score, out=weight)


def _by_blocks(
    attending: Callable[..., Parts],
    plan: TreePlan,
    scores: Scores,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
) -> Parts:
    heads, length = query.shape[1], query.shape[2]
    shared = heads // key.shape[1]  # heads that share a key head
    output = query.new_empty(1, heads, length, value.shape[-1], dtype=torch.float32)
    weight = query.new_empty(1, heads, length, dtype=torch.float32)  # log-sum-exp of the scores so far
    for block in plan.blocks(scores.window):
        queries, keys, values = query[:, :, block.queries], key[:, :, block.keys], value[:, :, block.keys]
        if block.causal or block.sees is not None:
            mask = plan.mask(block, query.device, query.dtype)
            keys, values = _repeated(keys, shared), _repeated(values, shared)
            part, score = attending(queries, keys, values, scores.scaling, causal=block.causal, mask=mask)
        else:
            part, score = _folded(attending, queries, keys, values, scores.scaling)
        if block.includes_queries:
            output[:, :, block.queries], weight[:, :, block.queries] = part, score
        else:
            merge(output[:, :, block.queries], weight[:, :, block.queries], part, score)
    return output, weight


def _folded(
    attending: Callable[..., Parts], query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
) -> Parts:
    folded = query.reshape(1, key.shape[1], -1, query.shape[-1])
    part, score = attending(folded, key, value, scaling)
    return part.reshape(*query.shape[:3], -1), score.reshape(query.shape[:3])


def _repeated(states: torch.Tensor, times: int) -> torch.Tensor:
    return states if times == 1 else states.repeat_interleave(times, dim=1)


@dataclass(frozen=True, slots=True)
class Sequences:
    """One call of a variable-length kernel.

    Attributes:
        queries: which new tokens, Tq of them: a slice if they are consecutive, else their indices.
        keys: which of all tokens, Tk of them, in the same way.
        q_ends, k_ends: (sequences + 1,) int32, where sequences begin and end among these.
        longest_q, longest_k: tokens of the longest sequence.
        causal: whether queries see keys up to their own; the last query and the last key are the same token.
        window: how many tokens back a query sees, including itself; None for all.
        includes_queries: whether the keys include the queries; such calls come first and hold all queries in order.
    """

    queries: torch.Tensor | slice
    keys: torch.Tensor | slice
    q_ends: torch.Tensor
    k_ends: torch.Tensor
    longest_q: int
    longest_k: int
    causal: bool
    window: int | None
    includes_queries: bool


def sequences(plan: TreePlan, window: int | None, device: torch.device) -> list[Sequences]:
    """The calls of a row."""
    if window is None or window > int(plan.depths.max(initial=0)):
        return list(_levels(plan, device))
    return list(_paths(plan, window, device))


def _levels(plan: TreePlan, device: torch.device) -> Iterator[Sequences]:
    """Every segment with itself, then branches with what they continue, so that no query appears twice in a call."""
    blocks = list(Segments(plan.parents, plan.prefix_length, 0).blocks())
    own = sorted((block for block in blocks if block.includes_queries), key=lambda block: block.queries.start)
    pairs = [(_range(block.queries), _range(block.keys)) for block in own]
    yield _sequences(pairs, device, causal=True, includes_queries=True)
    levels: list[list[tuple[NDArray[np.int64], NDArray[np.int64]]]] = []
    ends: list[int] = []
    for block in blocks:
        if block.includes_queries:
            continue
        level = next((i for i, end in enumerate(ends) if end <= block.queries.start), len(ends))
        if level == len(ends):
            ends.append(0)
            levels.append([])
        ends[level] = block.queries.stop
        levels[level].append((_range(block.queries), _range(block.keys)))
    for pairs in levels:
        yield _sequences(pairs, device)


def _paths(plan: TreePlan, window: int, device: torch.device) -> Iterator[Sequences]:
    """Every segment with its ancestors within the window."""
    pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    gathered = 0
    whole = segments(plan.parents)
    starts = np.array([start for start, _ in whole])
    for start, stop in segments(plan.parents[plan.prefix_length :] - plan.prefix_length):
        keys = [np.arange(plan.prefix_length + start, plan.prefix_length + stop)]
        last, wanted = int(plan.parents[plan.prefix_length + start]), window - 1
        while last >= 0 and wanted > 0:
            first = max(int(starts[np.searchsorted(starts, last, side="right") - 1]), last - wanted + 1)
            keys.append(np.arange(first, last + 1))
            wanted -= last + 1 - first
            last = int(plan.parents[first])
        pairs.append((np.arange(start, stop), np.concatenate(keys[::-1])))
        gathered += len(pairs[-1][1])
        if gathered > PATHS:
            yield _sequences(pairs, device, causal=True, includes_queries=True, window=window)
            pairs, gathered = [], 0
    if pairs:
        yield _sequences(pairs, device, causal=True, includes_queries=True, window=window)


def _sequences(
    pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
    device: torch.device,
    *,
    causal: bool = False,
    includes_queries: bool = False,
    window: int | None = None,
) -> Sequences:
    sizes = np.array([(len(queries), len(keys)) for queries, keys in pairs])
    ends = np.concatenate([[[0, 0]], sizes.cumsum(axis=0)]).astype(np.int32)
    queries, keys = (_indices(np.concatenate(side), device) for side in zip(*pairs, strict=True))
    q_ends, k_ends = (torch.from_numpy(np.ascontiguousarray(side)).to(device) for side in ends.T)
    longest_q, longest_k = sizes.max(axis=0).tolist()
    return Sequences(queries, keys, q_ends, k_ends, longest_q, longest_k, causal, window, includes_queries)


def _indices(tokens: NDArray[np.int64], device: torch.device) -> torch.Tensor | slice:
    """Tokens to select from states: consecutive ones need no copy."""
    if (np.diff(tokens) == 1).all():
        return slice(int(tokens[0]), int(tokens[-1]) + 1)
    return torch.from_numpy(tokens).to(device)


def _range(tokens: slice) -> NDArray[np.int64]:
    return np.arange(tokens.start, tokens.stop)


def _by_sequences(
    attending: Callable[..., Parts],
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
    parts = [_attended(attending, call, queries, keys, values, scores.scaling) for call in first]
    outputs, totals = zip(*parts, strict=True)
    output, weight = (side[0] if len(side) == 1 else torch.cat(side) for side in (outputs, totals))
    if len(first) == len(calls):
        return output.transpose(0, 1)[None], weight.transpose(0, 1)[None]
    output, weight = output.float(), weight.contiguous()
    for call in calls[len(first) :]:
        part, score = _attended(attending, call, queries, keys, values, scores.scaling)
        before, sofar = output[call.queries], weight[call.queries]
        merge(before, sofar, part, score)
        if not isinstance(call.queries, slice):  # a slice is a view
            output[call.queries], weight[call.queries] = before, sofar
    return output.transpose(0, 1)[None], weight.transpose(0, 1)[None]


def _attended(
    attending: Callable[..., Parts],
    call: Sequences,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scaling: float | None,
) -> Parts:
    return attending(queries[call.queries], keys[call.keys], values[call.keys], call, scaling)


def _flash(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Sequences, scaling: float | None
) -> Parts:
    window = {} if call.window is None else {"window_size_left": call.window - 1, "window_size_right": 0}
    ends = call.q_ends, call.k_ends, call.longest_q, call.longest_k
    found = torch.ops.aten._flash_attention_forward(
        query, key, value, *ends, 0.0, call.causal, False, scale=scaling, **window
    )
    return found[0], _by_token(found[1], call, len(query))


def _efficient(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Sequences, scaling: float | None
) -> Parts:
    shared = query.shape[1] // key.shape[1]
    states = (each[None] for each in (query, _repeated(key, shared), _repeated(value, shared)))
    ends = call.q_ends, call.k_ends, call.longest_q, call.longest_k
    kind = 2 if call.causal else 0  # 2: the last query and the last key are the same token
    found = torch.ops.aten._efficient_attention_forward(
        *states, None, *ends, 0.0, kind, True, scale=scaling, window_size=call.window
    )
    return found[0][0], _by_token(found[1], call, len(query))


def _by_token(scores: torch.Tensor, call: Sequences, tokens: int) -> torch.Tensor:
    """Log-sum-exps (tokens, heads), of (heads, tokens) or of (sequences, heads, at least the longest sequence)."""
    if scores.dim() == 2:
        if scores.shape[1] != tokens:
            raise RuntimeError(f"the kernel gives log-sum-exps of shape {tuple(scores.shape)}")
        return scores.transpose(0, 1)
    sizes = call.q_ends.diff().long()
    which = torch.repeat_interleave(torch.arange(len(sizes), device=scores.device), sizes)
    inside = torch.arange(tokens, device=scores.device) - call.q_ends[:-1].long()[which]
    return scores[which, :, inside]
