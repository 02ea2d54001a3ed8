"""The untrained GPT-2: random weights, but for sinusoids as positions and five heads with a direction to start in.

Two heads of the first layer look one and two tokens back, and one head of the second compares what they saw: the
search for an earlier occurrence of a symbol. A third head of the first layer looks at the latest invented word, and a
second one of the second compares these, too: the search for an earlier answer about the same word. Both
copy what they find. How much of it to believe, and everything else, is learned; all weights are trained, these too.
From random heads the same searches take many times the training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tools.tiny.world import WORDS

WINDOW = 1024
FREQUENCIES = 2.5 * torch.exp(-math.log(300.0) * torch.arange(16) / 16)
"""Radians per token: the first tells neighbours apart, the last is one turn in five hundred tokens."""
SLOW = 6
"""How many of the last frequencies tell near from far."""


@dataclass(frozen=True)
class Shape:
    """Sizes of the network and scales of its first weights."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    inner: int = 384
    spread: float = 0.05
    position_scale: float = 0.2
    gaze: float = 1.05
    """Size of the query and key weights of the heads that look back: enough to pick one token out of the window."""
    near: float = 2.8
    """The same for the head that prefers near tokens."""
    trace: float = 0.3
    """Size of what the first two heads write."""
    word_trace: float = 0.6
    """Size of what the third head writes."""
    likeness: float = 1.3
    """Size of the query and key weights of the heads that compare."""
    context: float = 2.0
    """How much more weight the token before has than the latest invented word."""
    copied: float = 2.0
    """Size of what the heads that compare write: the token found."""
    mark: float = 0.5
    """Size of what all invented words have in common."""
    pull: float = 8.0
    """Size of the query and key weights that seek invented words."""


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
        compare(model, shape, token_ids(tokenizer, WORDS))
    return model


def token_ids(tokenizer: PreTrainedTokenizerFast, words: Iterable[str]) -> list[int]:
    """Ids of the words that are one token, with and without a space before them."""
    found = [tokenizer(text)["input_ids"] for word in words for text in (word, f" {word}")]
    return [ids[0] for ids in found if len(ids) == 1]


def sinusoids(width: int) -> torch.Tensor:
    """Position embeddings `(window, width)`: sines, then cosines of each frequency; other columns are zero."""
    angles = torch.arange(WINDOW)[:, None] * FREQUENCIES
    return torch.cat([angles.sin(), angles.cos(), torch.zeros(WINDOW, width - 2 * len(FREQUENCIES))], dim=1)


def look_back(weight: torch.Tensor, shape: Shape, head: int, distance: int) -> None:
    """Set the query and key columns of `head` in `weight` `(width, 3 * width)` to attend `distance` tokens back.

    A key is the position's sines and cosines; a query is the same, turned back by `distance`. Their product is a sum of
    cosines, largest where the positions differ by exactly `distance`.
    """
    width, size = shape.width, shape.width // shape.heads
    query, key = head * size, width + head * size
    weight[:, query : query + size] = 0.0
    weight[:, key : key + size] = 0.0
    for column, frequency in enumerate(FREQUENCIES.tolist()):
        sine, cosine = column, len(FREQUENCIES) + column
        near, turned = shape.gaze * math.cos(distance * frequency), shape.gaze * math.sin(distance * frequency)
        weight[sine, key + 2 * column] = shape.gaze
        weight[cosine, key + 2 * column + 1] = shape.gaze
        weight[sine, query + 2 * column] = near
        weight[cosine, query + 2 * column] = -turned
        weight[cosine, query + 2 * column + 1] = near
        weight[sine, query + 2 * column + 1] = turned


def compare(model: GPT2LMHeadModel, shape: Shape, words: list[int]) -> None:
    """Let heads of the first layer write views of tokens into subspaces, which heads of the next layer compare.

    One query is the token before, its key the token two before: at `a ->` it finds what followed an earlier `a ->`. The
    other one is the same for the latest invented word only: at `answer:` it finds the answer about the same word. The
    subspaces leave the positions aside.
    """
    width, size = shape.width, shape.width // shape.heads
    room, seen, half = width - 2 * len(FREQUENCIES), size - 8, size // 2
    basis = torch.zeros(3 * seen + half + 1, width)
    basis[:, -room:] = torch.linalg.qr(torch.randn(room, len(basis))).Q.T  # orthonormal rows
    view, before, twice_before, latest, mark = torch.split(basis, [seen, seen, seen, half, 1])
    first, written = (model.get_parameter(f"transformer.h.0.attn.{name}.weight") for name in ("c_attn", "c_proj"))
    for head, subspace, trace in (
        (0, before, shape.trace),
        (1, twice_before, shape.trace),
        (2, latest, shape.word_trace),
    ):
        first[:, 2 * width + head * size : 2 * width + head * size + seen] = view.T
        written[head * size : (head + 1) * size] = 0.0
        written[head * size : head * size + len(subspace)] = trace * subspace
    model.transformer.wte.weight[words] += shape.mark * mark
    look_for(model, shape, 2, mark)

    second, written = (model.get_parameter(f"transformer.h.1.attn.{name}.weight") for name in ("c_attn", "c_proj"))
    for head in (0, 1):  # what is found is copied
        second[:, 2 * width + head * size : 2 * width + head * size + seen] = view.T
        written[head * size : head * size + seen] = shape.copied * view
    for start, token in ((0, before), (width, twice_before)):
        second[:, start : start + seen] = shape.likeness * token.T
        second[:, start + size : start + size + half] = shape.likeness * latest.T
        second[:, start + size + half : start + 2 * size] = shape.likeness * shape.context * token[:half].T


def look_for(model: GPT2LMHeadModel, shape: Shape, head: int, mark: torch.Tensor) -> None:
    """Set the queries and keys of a head of the first layer to attend to the nearest token that has the mark.

    The first column tells the mark, the others near from far: waves that fall together for some fifty tokens.
    """
    width, size = shape.width, shape.width // shape.heads
    query, key = head * size, width + head * size
    weight = model.get_parameter("transformer.h.0.attn.c_attn.weight")
    for start in (query, key):
        weight[:, start : start + size] = 0.0
        for column in range(SLOW):
            cosine = 2 * len(FREQUENCIES) - SLOW + column
            weight[cosine - len(FREQUENCIES), start + 2 * column + 1] = shape.near
            weight[cosine, start + 2 * column + 2] = shape.near
    weight[:, key] = shape.pull * mark[0]
    model.get_parameter("transformer.h.0.attn.c_attn.bias")[query] = shape.pull
