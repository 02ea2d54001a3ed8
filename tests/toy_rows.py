"""Models in closed form: one that takes rows, and one whose answers depend on their batch; and requests."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from icl_eval.models import (
    Budget,
    GenerateAnswer,
    GenerateRequest,
    OutOfMemory,
    Request,
    ScoreAnswer,
    ScoreRequest,
    Sink,
    TextSink,
)
from icl_eval.models.causal.rows import PendingRows, Row, RowAnswer, RowSizes
from icl_eval.models.causal.scheduling import RowModel
from icl_eval.testing import FakeLM

VOCABULARY = 6


class ToyRows(RowModel):
    """The next token's logits are sines of a number made of the tokens before it and their order.

    Args:
        capacity: tokens of a batch, padding included, beyond which its device is full.
    """

    name, precision, fingerprint = "toy", "float64", "toy"
    window, hidden_size, vocabulary = 64, 2, VOCABULARY
    fallback = 0
    caches_prefixes = True
    queue_depth = 1
    token_bytes, state_bytes, weights = 100, 10, 1000

    def __init__(
        self,
        *,
        shares: bool = True,
        tree_attention: bool = False,
        max_shared_length: int = 64,
        row_budget: int = 256,
        capacity: int | None = None,
        row_sizes: RowSizes | None = None,
    ) -> None:
        self.row_sizes = row_sizes or RowSizes()
        self.has_tree_attention = tree_attention
        self.shares_prefixes, self.max_shared_length, self.budget = shares, max_shared_length, Budget(row_budget)
        self.capacity = capacity
        self.batches: list[list[Row]] = []
        self.failures = 0

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(map(int, text)) for text in texts]

    def decode(self, ids: Sequence[int]) -> list[str]:
        return list(map(str, ids))

    def enqueue(self, rows: Sequence[Row]) -> PendingRows:
        answers = self.forward(rows)
        return lambda: answers

    def forward(self, rows: Sequence[Row]) -> list[RowAnswer]:
        if self.capacity is not None and len(rows) * max(len(row.tokens) for row in rows) > self.capacity:
            self.failures += 1
            raise OutOfMemory("the toy is full")
        self.batches.append(list(rows))
        return [_answer(row) for row in rows]


class Crowd(FakeLM):
    """A model whose answers depend on the requests that it is given together."""

    measures_noise, noise = True, None

    def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
        noise = _noise(requests)
        for index, request in enumerate(requests):
            nats = self._answer(request).logprobs
            sink(index, ScoreAnswer(tuple(each - noise for each in nats), False))

    def generate(self, requests: Sequence[GenerateRequest], sink: TextSink) -> None:
        for index in reversed(range(len(requests))):
            sink(index, GenerateAnswer((f"{_noise(requests)}",), (1,), ("end",), (-1.0,)))


def _noise(requests: Sequence[Request]) -> float:
    digest = blake2b(b"|".join(each.tokens.tobytes() for each in requests), digest_size=2).digest()
    return int.from_bytes(digest) / 2**36


def sequence_of(row: Row, index: int) -> list[int]:
    """The tokens from a sequence's beginning to an index of the row."""
    tokens: list[int] = []
    while index >= 0:
        tokens.append(int(row.tokens[index]))
        index = int(row.parents[index])
    return tokens[::-1]


def closed_form(tokens: Sequence[int]) -> NDArray[np.float64]:
    """Log-probabilities of all next tokens, (VOCABULARY,) in nats."""
    state = sum((token + 1) * 1.7**-index for index, token in enumerate(reversed(tokens)))
    logits = 3 * np.sin(state * np.arange(1, VOCABULARY + 1))
    return np.asarray(logits - np.log(np.exp(logits).sum()))


def expected(request: ScoreRequest) -> list[float]:
    tokens = list(request.tokens)
    return [float(closed_form(tokens[:index])[tokens[index]]) for index in range(request.boundary, len(tokens))]


def _answer(row: Row) -> RowAnswer:
    following = [closed_form(sequence_of(row, int(index))) for index in row.scored]
    logprobs = [values[target] for values, target in zip(following, row.targets, strict=True)]
    greedy = [values.argmax() == target for values, target in zip(following, row.targets, strict=True)]
    return RowAnswer(np.array(logprobs, np.float32), np.array(greedy, np.bool_))


@st.composite
def _request(draw: st.DrawFn) -> ScoreRequest:
    tokens = draw(st.lists(st.integers(0, VOCABULARY - 1), min_size=2, max_size=14))
    boundary = draw(st.integers(1, len(tokens) - 1))
    return ScoreRequest.of(tokens[:boundary], tokens[boundary:])


REQUESTS = st.lists(_request(), max_size=24)
"""Few distinct tokens, so that prefixes, repetitions and extensions are common."""
