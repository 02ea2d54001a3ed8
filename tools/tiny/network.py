"""The untrained GPT-2: random weights, but for sinusoids as positions and five heads with a direction to start in.

Two heads of the first layer look one and two tokens back, and one head of the second compares what they saw: the
search for an earlier occurrence of a symbol. A third head of the first layer looks at the latest invented word, and a
second one of the second compares these at the answers: the search for an earlier answer about the same word. Both
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
ANSWERS = ("True", "False", "true", "false", "neither", "yes", "no")
"""The words that answers are made of, those of `symbols` apart."""


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
    likeness: float = 1.2
    """Size of the query and key weights of the heads that compare."""
    context: float = 7.0
    """How much more weight the token itself has than what the heads wrote."""
    copied: float = 2.0
    """Size of what the heads that compare write: the token found."""
    mark: float = 0.5
    """Size of what all invented words, and all answers, have in common."""
    pull: float = 8.0
    """Size of the query and key weights that seek invented words."""
    answer_pull: float = 4.0
    """Size of the query and key weights that seek answers."""


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
        compare(model, shape, token_ids(tokenizer, WORDS), token_ids(tokenizer, ANSWERS))
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


def compare(model: GPT2LMHeadModel, shape: Shape, words: list[int], answers: list[int]) -> None:
    """Let heads of the first layer write views of tokens into subspaces, which heads of the next layer compare.

    One query is the token before, its key the token two before: at `a ->` it finds what followed an earlier `a ->`. The
    other query is the latest invented word and the token itself; its key is the latest invented word and the token
    before, of an answer. The subspaces leave the positions aside.
    """
    width, size = shape.width, shape.width // shape.heads
    room, seen, half = width - 2 * len(FREQUENCIES), size - 8, (size - 1) // 2
    basis = torch.zeros(3 * seen + half + 2, width)
    basis[:, -room:] = torch.linalg.qr(torch.randn(room, len(basis))).Q.T  # orthonormal rows
    view, before, twice_before, latest, marks = torch.split(basis, [seen, seen, seen, half, 2])
    first = model.get_parameter("transformer.h.0.attn.c_attn.weight")
    written = model.get_parameter("transformer.h.0.attn.c_proj.weight")
    second = model.get_parameter("transformer.h.1.attn.c_attn.weight")
    for head, subspace, trace in (
        (0, before, shape.trace),
        (1, twice_before, shape.trace),
        (2, latest, shape.word_trace),
    ):
        first[:, 2 * width + head * size : 2 * width + head * size + seen] = view.T
        written[head * size : (head + 1) * size] = 0.0
        written[head * size : head * size + len(subspace)] = trace * subspace
    for head in (0, 1):  # what is found is copied
        second[:, 2 * width + head * size : 2 * width + head * size + seen] = view.T
        model.get_parameter("transformer.h.1.attn.c_proj.weight")[head * size : head * size + seen] = (
            shape.copied * view
        )
    second[:, :seen] = shape.likeness * before.T
    second[:, width : width + seen] = shape.likeness * twice_before.T

    for token_class, mark in ((words, marks[0]), (answers, marks[1])):
        model.transformer.wte.weight[token_class] += shape.mark * mark
    look_for(model, shape, 0, 2, marks[0], shape.pull)
    nearest(first, shape, 2)
    look_for(model, shape, 1, 1, marks[1], shape.answer_pull)
    for start, token in ((size, shape.context * view), (width + size, before)):
        second[:, start + 1 : start + 1 + half] = shape.likeness * latest.T
        second[:, start + 1 + half : start + 1 + 2 * half] = shape.likeness * token[:half].T


def nearest(weight: torch.Tensor, shape: Shape, head: int) -> None:
    """Let a head prefer near tokens, from its second column on: waves that fall together for some fifty tokens."""
    width, size = shape.width, shape.width // shape.heads
    for column in range(SLOW):
        cosine = 2 * len(FREQUENCIES) - SLOW + column
        for start in (head * size, width + head * size):
            weight[cosine - len(FREQUENCIES), start + 2 * column + 1] = shape.near
            weight[cosine, start + 2 * column + 2] = shape.near


def look_for(model: GPT2LMHeadModel, shape: Shape, layer: int, head: int, mark: torch.Tensor, pull: float) -> None:
    """Clear the queries and keys of a head, and let it attend to tokens that have the mark, by its first column."""
    width, size = shape.width, shape.width // shape.heads
    weight = model.get_parameter(f"transformer.h.{layer}.attn.c_attn.weight")
    for start in (head * size, width + head * size):
        weight[:, start : start + size] = 0.0
    weight[:, width + head * size] = pull * mark
    model.get_parameter(f"transformer.h.{layer}.attn.c_attn.bias")[head * size] = pull
