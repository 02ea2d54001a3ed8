"""The untrained GPT-2: random weights, but for sinusoids as positions and three heads with a direction to start in.

Two heads of the first layer look one and two tokens back, and one head of the second compares what they saw. That is
the search for an earlier occurrence of a symbol. What to do with the token found there, and everything else, is
learned; all weights are trained, these too. From random heads the same search takes several times the training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

WINDOW = 1024


@dataclass(frozen=True)
class Shape:
    """Sizes of the network and scales of its first weights."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    inner: int = 384
    spread: float = 0.05
    position_scale: float = 0.1
    gaze: float = 2.1
    """Size of the query and key weights of the heads that look back: enough to pick one token out of the window."""
    trace: float = 0.3
    """Size of what these two heads write."""
    likeness: float = 1.2
    """Size of the query and key weights of the head that compares."""


DEFAULT_SHAPE = Shape()


def initial_model(shape: Shape, tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """A GPT-2 to train, drawn from torch's current random state."""
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=WINDOW,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_inner=shape.inner,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        initializer_range=shape.spread,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model: GPT2LMHeadModel = GPT2LMHeadModel(config)
    with torch.no_grad():
        model.transformer.wpe.weight.copy_(shape.position_scale * sinusoids(shape.width))
        for head, distance in enumerate((1, 2)):
            look_back(model.get_parameter("transformer.h.0.attn.c_attn.weight"), shape, head, distance)
        compare(model, shape)
    return model


def frequencies(width: int) -> torch.Tensor:
    """Radians per token, `(width // 2,)`, falling from one that tells neighbours apart to one that spans the window."""
    return 2.5 * torch.exp(-math.log(2000.0) * torch.arange(width // 2) / (width // 2))


def sinusoids(width: int) -> torch.Tensor:
    """Position embeddings `(window, width)`: all sines, then all cosines, one column per frequency."""
    angles = torch.arange(WINDOW)[:, None] * frequencies(width)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def look_back(weight: torch.Tensor, shape: Shape, head: int, distance: int) -> None:
    """Set the query and key columns of `head` in `weight` `(width, 3 * width)` to attend `distance` tokens back.

    A key is the position's sines and cosines at the head's frequencies; a query is the same, turned back by `distance`.
    Their product is a sum of cosines, largest where the positions differ by exactly `distance`.
    """
    width, size = shape.width, shape.width // shape.heads
    query, key = head * size, width + head * size
    weight[:, query : query + size] = 0.0
    weight[:, key : key + size] = 0.0
    for column in range(size // 2):
        sine, cosine = column, width // 2 + column
        angle = distance * float(frequencies(width)[column])
        near, turned = shape.gaze * math.cos(angle), shape.gaze * math.sin(angle)
        weight[sine, key + 2 * column] = shape.gaze
        weight[cosine, key + 2 * column + 1] = shape.gaze
        weight[sine, query + 2 * column] = near
        weight[cosine, query + 2 * column] = -turned
        weight[cosine, query + 2 * column + 1] = near
        weight[sine, query + 2 * column + 1] = turned


def compare(model: GPT2LMHeadModel, shape: Shape) -> None:
    """Let the first two heads write one view of a token into two subspaces, which a head of the next layer compares.

    Its query is the token before, its key the token two before: at `a ->` it finds what followed an earlier `a ->`.
    """
    width, size = shape.width, shape.width // shape.heads
    views = torch.linalg.qr(torch.randn(width, 3 * size)).Q.T  # (3 * size, width), orthonormal rows
    view, before, twice_before = views.split(size)
    first = model.get_parameter("transformer.h.0.attn.c_attn.weight")
    first[:, 2 * width : 2 * width + size] = view.T
    first[:, 2 * width + size : 2 * width + 2 * size] = view.T
    written = model.get_parameter("transformer.h.0.attn.c_proj.weight")
    written[:size] = shape.trace * before
    written[size : 2 * size] = shape.trace * twice_before
    second = model.get_parameter("transformer.h.1.attn.c_attn.weight")
    second[:, :size] = shape.likeness * before.T
    second[:, width : width + size] = shape.likeness * twice_before.T
