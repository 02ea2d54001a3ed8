"""A language model without weights, whose log-probabilities are given by a formula and can be checked by hand."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from icl_eval.models import GenerateRequest, LanguageModel, ScoreAnswer, ScoreRequest, Sink, TextSink
from icl_eval.models.generation.search import Candidates, search_for

BYTES = 256
BOS = 256  # the only token that is not a byte
FAVOUR = 0.99  # weight of the next byte of a preferred continuation


class FakeLM(LanguageModel):
    """A model of UTF-8 bytes: byte b follows token a with probability p = 2 (1 + (b - a) mod 256) / (256 * 257).

    Args:
        answers: preferred continuations, by the end of the context; of several keys with which a context ends, the
            longest counts. The next byte of the continuation has probability 0.99 + 0.01 p, and every other byte has
            0.01 p, as long as all bytes before it were those of the continuation.
        window: context length in tokens.
        bias: by continuation, a number of nats, at most 0, that is added to its log-probability after any context. It
            does not change generated texts.
        bos: whether every text begins with the BOS token.
        name: the name in tables.

    Attributes:
        answered: the number of requests that have been answered.
    """

    precision = "exact"
    gives_moments = True
    noise: float | None = 0.0
    fallback = BOS

    def __init__(
        self,
        answers: Mapping[str, str] | None = None,
        window: int = 2**20,
        bos: bool = False,
        name: str = "fake",
        *,
        bias: Mapping[str, float] | None = None,
    ) -> None:
        self.answers = {key.encode(): continuation.encode() for key, continuation in (answers or {}).items()}
        self.bias = {continuation.encode(): nats for continuation, nats in (bias or {}).items()}
        if any(nats > 0 for nats in self.bias.values()):
            raise ValueError("a bias must be at most 0, because log-probabilities are not positive")
        self.window, self.name = window, name
        self.start = (BOS,) if bos else ()
        identity = json.dumps(sorted((answers or {}).items())) + (json.dumps(sorted(bias.items())) if bias else "")
        self.fingerprint = f"fake-{hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()}|bos{len(self.start)}"
        self.answered = 0

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The bytes of texts."""
        return [list(text.encode()) for text in texts]

    def decode(self, ids: Sequence[int]) -> list[str]:
        """Each byte as text; a byte that is part of a longer character is shown as U+FFFD."""
        return ["<bos>" if token == BOS else bytes([token]).decode(errors="replace") for token in ids]

    def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
        """Score continuations, in the order of the requests."""
        for index, request in enumerate(requests):
            self.answered += 1
            sink(index, self._answer(request))

    def generate(self, requests: Sequence[GenerateRequest], sink: TextSink) -> None:
        """Generate a text after each prompt; there is no end token."""
        for index, request in enumerate(requests):
            self.answered += 1
            search = search_for(request, ends=(), text_of=lambda ids: bytes(ids).decode(errors="replace"))
            generated: list[list[int]] = [[]]
            wanted = self._wanted(request.tokens)
            while extensions := search.advance(_candidates(request.tokens[-1], wanted, generated, search.candidates)):
                generated = [[*generated[extension.row], extension.token] for extension in extensions]
            sink(index, search.answer())

    def _answer(self, request: ScoreRequest) -> ScoreAnswer:
        wanted = self._wanted(request.tokens[: request.boundary])
        continuation = list(request.tokens[request.boundary :])
        before = request.tokens[request.boundary - 1 : -1]
        logprobs, moments, greedy = [], [], True
        for index, (previous, token) in enumerate(zip(before, continuation, strict=True)):
            favourite = wanted[index] if index < len(wanted) and continuation[:index] == wanted[:index] else None
            logprobs.append(math.log(_probability(previous, token, favourite)))
            moments += [_moments(previous, favourite)] if request.moments else []
            greedy = greedy and token == ((previous - 1) % BYTES if favourite is None else favourite)
        logprobs[0] += self.bias.get(bytes(token for token in continuation if token != BOS), 0.0)
        return ScoreAnswer(tuple(logprobs), greedy, *zip(*moments, strict=True))

    def _wanted(self, context: Sequence[int]) -> list[int]:
        """The tokens of the preferred continuation after the end of a context."""
        text = bytes(token for token in context if token != BOS)
        key = max((key for key in self.answers if text.endswith(key)), key=len, default=None)
        return [] if key is None else list(self.answers[key])


def _candidates(before: int, wanted: list[int], generated: Sequence[list[int]], count: int | None) -> Candidates:
    """Log-probabilities of the next byte after each text generated so far; `before` is the last token of the prompt."""
    rows = []
    for text in generated:
        favourite = wanted[len(text)] if text == wanted[: len(text)] and len(text) < len(wanted) else None
        previous = text[-1] if text else before
        row = np.roll(_logprobs(favoured=favourite is not None), previous)
        if favourite is not None:
            row[favourite] = math.log(_probability(previous, favourite, favourite))
        rows.append(row)
    return Candidates.best_of(np.array(rows, np.float32), count)


@cache
def _logprobs(*, favoured: bool) -> NDArray[np.float64]:
    """Log-probabilities of all bytes after byte 0, (BYTES,), in nats; `favoured` if another byte is preferred."""
    factor = 1 - FAVOUR if favoured else 1
    return np.array([math.log(factor * _probability(0, byte, None)) for byte in range(BYTES)])


def _probability(previous: int, token: int, favourite: int | None) -> float:
    plain = 2 * (1 + (token - previous) % BYTES) / (BYTES * (BYTES + 1)) if token < BYTES else 0.0
    if favourite is None:
        return plain
    return FAVOUR * (token == favourite) + (1 - FAVOUR) * plain


def _moments(previous: int, favourite: int | None) -> tuple[float, float]:
    """Mean and standard deviation of the log-probability of the next byte, in nats."""
    probabilities = np.array([_probability(previous, token, favourite) for token in range(BYTES)])
    mean = float(probabilities @ np.log(probabilities))
    return mean, math.sqrt(probabilities @ (np.log(probabilities) - mean) ** 2)
