"""Train the tiny GPT-2 from scratch: `python -m tools.tiny.train OUT`.

The same versions on the same kind of CPU give the same weights: every draw comes from a seed and the number of
threads is fixed. The curriculum goes from short rows to the whole window, because the circuit that looks a symbol up
among the demonstrations forms much sooner on short ones.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from tools.tiny.documents import Document, Episodes, symbol_episodes
from tools.tiny.formats import Turn
from tools.tiny.network import DEFAULT_SHAPE, WINDOW, Shape, initial_model
from tools.tiny.tokenizer import train_tokenizer


@dataclass(frozen=True)
class Stage:
    """Some optimiser steps on rows of one length; `symbols` is the share of rows that are symbol episodes."""

    steps: int
    length: int
    rows: int
    symbols: float
    plain_labels: float
    """Share of symbol episodes with the four label words; the rest use other symbols as labels, a stronger signal."""
    most_words: int = 6
    """How many invented words have a meaning in the largest world or mapping."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights."""

    seed: int = 1
    threads: int = 1
    shape: Shape = DEFAULT_SHAPE
    peak_rate: float = 1e-3
    warmup: int = 100
    texts: int = 4000
    """Documents the tokenizer is trained on."""
    pool: int = 8
    """Records of each word, with each of its meanings, that the documents of a task are put together from."""
    text_weight: float = 0.02
    """Loss weight of a token outside the answers, relative to 1 for a token of an answer."""
    stages: tuple[Stage, ...] = (
        Stage(300, 192, 12, symbols=0.3, plain_labels=0.5, most_words=4),
        Stage(250, 512, 5, symbols=0.25, plain_labels=0.8),
        Stage(400, 1024, 3, symbols=0.2, plain_labels=1.0),
    )


@dataclass(frozen=True)
class Batch:
    """Token ids `(rows, length + 1)`, their loss weights of the same shape, and position ids `(rows, length)`."""

    ids: torch.Tensor
    weights: torch.Tensor
    positions: torch.Tensor


@dataclass(frozen=True)
class Encoded:
    """Token ids and the loss weight of each."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]


Report = Callable[[int, float, GPT2LMHeadModel], None]
"""Told after each step: its number, the loss in nats, the model."""


def train(recipe: Recipe, report: Report | None = None) -> tuple[GPT2LMHeadModel, PreTrainedTokenizerFast]:
    """The trained model, in float32 with weights rounded to float16, and its tokenizer."""
    torch.set_num_threads(recipe.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(recipe.seed)
    episodes = Episodes(recipe.seed, recipe.pool)
    tokenizer = train_tokenizer(episodes.texts(Random(f"{recipe.seed}/tokenizer"), recipe.texts), WINDOW)
    model = initial_model(recipe.shape, tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.peak_rate, betas=(0.9, 0.98), weight_decay=0.01)
    model.train()
    total = sum(stage.steps for stage in recipe.stages)
    for step, batch in enumerate(batches(recipe, episodes, tokenizer)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, total)
        loss = weighted_loss(model, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if report:
            report(step, loss.item(), model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    model.eval()  # type: ignore[no-untyped-call]
    return model, tokenizer


def learning_rate(recipe: Recipe, step: int, total: int) -> float:
    """Linear warm-up, then constant, then linear decay to a twentieth over the last third."""
    decay = max(0.05, min(1.0, 3 * (total - step) / total))
    return recipe.peak_rate * min(1.0, (step + 1) / recipe.warmup) * decay


def weighted_loss(model: GPT2LMHeadModel, batch: Batch) -> torch.Tensor:
    """Mean negative log-likelihood of the next token in nats, weighted per token."""
    logits = model(input_ids=batch.ids[:, :-1], position_ids=batch.positions).logits  # (rows, length, vocabulary)
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch.ids[:, 1:], reduction="none")
    weights = batch.weights[:, 1:]
    return (losses * weights).sum() / weights.sum()


def batches(recipe: Recipe, episodes: Episodes, tokenizer: PreTrainedTokenizerFast) -> Iterator[Batch]:
    """The batches of all stages in order."""
    encoder = Encoder(tokenizer, recipe.text_weight)
    for number, stage in enumerate(recipe.stages):
        rng = Random(f"{recipe.seed}/stage/{number}")
        symbols = encoder.rows(
            symbol_episodes(rng, stage.length // 4, stage.plain_labels, stage.most_words), stage.length
        )
        prompts = encoder.rows(episodes.prompts(rng, stage.length, stage.most_words), stage.length)
        for _ in range(stage.steps):
            rows = [next(symbols if rng.random() < stage.symbols else prompts) for _ in range(stage.rows)]
            # Rows shorter than the window start anywhere in it, so that every position is trained.
            starts = torch.tensor([[rng.randint(0, WINDOW - stage.length)] for _ in rows])
            ids, weights = torch.tensor([row.ids for row in rows]), torch.tensor([row.weights for row in rows])
            yield Batch(ids, weights, starts + torch.arange(stage.length))


class Encoder:
    """Turns documents into token ids and loss weights, each different turn only once.

    No turn begins or ends inside a word or a run of spaces, so the ids of a document are those of its turns in a row.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, text_weight: float) -> None:
        self._tokenizer, self._text_weight = tokenizer, text_weight
        self._known: dict[Turn, Encoded] = {}
        self._end = Encoded((tokenizer.eos_token_id,), (text_weight,))

    def document(self, document: Document) -> list[Encoded]:
        """The encoded turns and the end-of-text token."""
        return [*map(self.turn, document), self._end]

    def turn(self, turn: Turn) -> Encoded:
        """Weight 1 for each token of the answer, less for the text before it."""
        if turn not in self._known:
            encoded = self._tokenizer(turn.given + turn.answer, return_offsets_mapping=True)
            answered = [end > len(turn.given) for _, end in encoded["offset_mapping"]]
            weights = tuple(1.0 if answer else self._text_weight for answer in answered)
            self._known[turn] = Encoded(tuple(encoded["input_ids"]), weights)
        return self._known[turn]

    def rows(self, documents: Iterator[Document], length: int) -> Iterator[Encoded]:
        """Rows of `length + 1` tokens, each consisting of whole documents except the last one."""
        while True:
            ids: list[int] = []
            weights: list[float] = []
            while len(ids) <= length:
                for turn in self.document(next(documents)):
                    ids += turn.ids
                    weights += turn.weights
            yield Encoded(tuple(ids[: length + 1]), tuple(weights[: length + 1]))


def save(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, out: Path) -> None:
    """Write the model in float16, its tokenizer and the recipe under `out`."""
    model.half().save_pretrained(out)  # type: ignore[no-untyped-call]
    model.float()  # type: ignore[no-untyped-call]
    tokenizer.save_pretrained(out)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1) + "\n")


def main(arguments: list[str]) -> int:
    """Train by the default recipe and save under the folder named by the only argument."""
    if len(arguments) != 1:
        print("usage: python -m tools.tiny.train OUT", file=sys.stderr)
        return 2
    recipe = Recipe()
    began = time.monotonic()

    def report(step: int, loss: float, _: GPT2LMHeadModel) -> None:
        if step % 50 == 0:
            print(f"step {step} loss {loss:.3f} {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

    model, tokenizer = train(recipe, report)
    save(model, tokenizer, recipe, Path(arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
