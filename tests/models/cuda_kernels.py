"""What the variable-length kernels of CUDA are documented to compute, sequence by sequence, on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch


@contextmanager
def emulated() -> Iterator[None]:
    """Let the CPU stand for the flash and the memory-efficient kernels of CUDA."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.ops.aten, "_flash_attention_forward", flash)
        patch.setattr(torch.ops.aten, "_efficient_attention_forward", efficient)
        yield


def flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cum_seq_q: torch.Tensor,
    cum_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    dropout_p: float,
    is_causal: bool,
    return_debug_mask: bool,
    *,
    scale: float | None = None,
    window_size_left: int | None = None,
    window_size_right: int | None = None,
) -> tuple[Any, ...]:
    """Tokens x heads x width; heads share keys; log-sum-exps are (heads, tokens); windows count the tokens before."""
    assert (dropout_p, return_debug_mask) == (0.0, False)
    assert window_size_right in (None, 0)
    assert cum_seq_q.dtype == cum_seq_k.dtype == torch.int32
    assert query.shape[1] % key.shape[1] == 0
    left = None if window_size_left is None else window_size_left + 1
    outputs, totals = _each(query, key, value, cum_seq_q, cum_seq_k, (max_q, max_k), scale, is_causal, left)
    return torch.cat(outputs), torch.cat(totals, dim=1), None, None, None


def efficient(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: None,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float,
    custom_mask_type: int,
    compute_log_sumexp: bool = False,
    *,
    scale: float | None = None,
    window_size: int | None = None,
) -> tuple[Any, ...]:
    """1 x tokens x heads x width; as many key heads; log-sum-exps (sequences, heads, length rounded up to 32)."""
    assert (bias, dropout_p, compute_log_sumexp) == (None, 0.0, True)
    assert query.shape[2] == key.shape[2]
    assert custom_mask_type in (0, 2)
    longest = max_seqlen_q, max_seqlen_k
    ends = cu_seqlens_q, cu_seqlens_k
    outputs, totals = _each(query[0], key[0], value[0], *ends, longest, scale, custom_mask_type == 2, window_size)
    padded = torch.full((len(totals), query.shape[2], -(-max_seqlen_q // 32) * 32), torch.inf)
    for row, total in zip(padded, totals, strict=True):
        row[:, : total.shape[1]] = total
    return torch.cat(outputs)[None], padded, None, None, None, None


def _each(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    q_ends: torch.Tensor,
    k_ends: torch.Tensor,
    longest: tuple[int, int],
    scale: float | None,
    causal: bool,
    window: int | None,
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    outputs, totals = [], []
    assert (int(q_ends.diff().max()), int(k_ends.diff().max())) == longest
    assert (int(q_ends[-1]), int(k_ends[-1])) == (len(query), len(key)) == (len(query), len(value))
    for q_span, k_span in zip(q_ends.unfold(0, 2, 1).tolist(), k_ends.unfold(0, 2, 1).tolist(), strict=True):
        shared = query.shape[1] // key.shape[1]
        q = query[slice(*q_span)].transpose(0, 1).float()
        k, v = (each[slice(*k_span)].transpose(0, 1).float().repeat_interleave(shared, 0) for each in (key, value))
        scores = q @ k.transpose(1, 2) * (q.shape[-1] ** -0.5 if scale is None else scale)
        behind = torch.arange(q.shape[1])[:, None] + k.shape[1] - q.shape[1] - torch.arange(k.shape[1])
        hidden = (behind < 0) & causal
        if window is not None:
            hidden |= behind >= window
        scores = scores.masked_fill(hidden, -torch.inf)
        outputs.append((scores.softmax(dim=-1) @ v).transpose(0, 1).to(query.dtype))
        totals.append(scores.logsumexp(dim=-1))
    return outputs, totals
