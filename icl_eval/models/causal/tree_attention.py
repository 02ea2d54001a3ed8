"""Attention over a packed row as an implementation of attention in the registry of `transformers`.

A layer passes the scale, soft cap and window of its scores. A kernel attends by the blocks of the row and merges them
by their log-sum-exps, which is exact; a sink takes its share of the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

import torch

from icl_eval.models.causal.blocks import TreePlan
from icl_eval.models.causal.kernels import Kernel, Scores, attend, attend_to_all, flash_blocks, merge
from icl_eval.models.network import lacks_memory

__all__ = ["Attention", "KernelError", "attend", "attend_to_all", "attending", "attending_as", "merge"]

NAME = "icl_eval_tree"  # in the registry of `transformers`, while a row runs


class KernelError(RuntimeError):
    """A kernel does not support the attention of a layer."""


class Attention(Protocol):
    """The attention of a layer: from queries, keys and values to the output (1, heads, new, width) in float32."""

    def __call__(
        self, layer: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scores: Scores
    ) -> torch.Tensor:
        """Queries are (1, heads, new, width); keys and values (1, key heads, cached + new, width)."""
        ...


def attending(config: Any, plan: TreePlan, kernel: Kernel = flash_blocks) -> AbstractContextManager[None]:
    """Let the layers of a model attend by `plan` instead of the implementation that its configuration names."""
    return attending_as(config, partial(_by_plan, plan, kernel))


@contextmanager
def attending_as(config: Any, attention: Attention) -> Iterator[None]:
    """Replace the attention of the layers of a model."""
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
        raise ValueError("this attention takes neither masks nor biases")
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
        output, weight = kernel(plan, scores, query, key, value)
    except (RuntimeError, NotImplementedError, TypeError, AttributeError) as error:
        if isinstance(error, RuntimeError) and lacks_memory(error):
            raise
        raise KernelError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    if scores.sinks is None:
        return output
    return output * torch.sigmoid(weight - scores.sinks.float().reshape(1, -1, 1))[..., None]
