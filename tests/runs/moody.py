"""A model that is as certain of an answer as the bytes of the prompt say."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from icl_eval.models import GenerateAnswer, GenerateRequest, ScoreAnswer, ScoreRequest, Sink, TextSink
from icl_eval.testing import FakeLM


class Moody(FakeLM):
    """A model whose log-probability of an answer depends on every byte of the prompt, in no simple way."""

    def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
        for index, request in enumerate(requests):
            self.answered += 1
            text = bytes(list(request.tokens)).decode()
            sink(index, ScoreAnswer((self.logprob(text), *(0.0 for _ in request.tokens[request.boundary + 1 :])), True))

    def generate(self, requests: Sequence[GenerateRequest], sink: TextSink) -> None:
        for index, request in enumerate(requests):
            self.answered += 1
            text = bytes(list(request.tokens)).decode()
            count = request.decoding.samples
            tokens, scores = [self.length(text)] * count, [self.logprob(text)] * count
            sink(index, GenerateAnswer(("odd",) * count, tuple(tokens), ("end",) * count, tuple(scores)))

    @staticmethod
    def length(text: str) -> int:
        """Tokens of what is generated after a text."""
        return sum(text.encode()) % 7 + 1

    def logprob(self, text: str) -> float:
        """Of an answer that a text ends with."""
        return -int.from_bytes(hashlib.blake2b((self.name + text).encode(), digest_size=2).digest()) / 10_000
