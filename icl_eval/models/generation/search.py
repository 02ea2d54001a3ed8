"""Greedy search, sampling and beam search over log-probabilities of next tokens, without a model.

A search starts with one row of candidates, those after the prompt. From its rows it chooses extensions: the hypothesis
of a row and its next token. The next rows are those of the extensions, in their order. When there are no
extensions, the search is over. So a search is independent of how the rows are computed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from icl_eval.models.decoding import Decoding, GenerateAnswer, GenerateRequest
from icl_eval.models.tokenization import TextOf

DIGITS = 7  # decimals of a score: below float32's own precision


class Extension(NamedTuple):
    """A row's hypothesis continues with a token."""

    row: int
    token: int


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The next tokens that each hypothesis of a search may take.

    Attributes:
        tokens: (hypotheses, candidates); of equally likely ones, the lowest first.
        logprobs: their log-probabilities in nats, (hypotheses, candidates).
    """

    tokens: NDArray[np.int64]
    logprobs: NDArray[np.float32]

    @classmethod
    def all_of(cls, rows: NDArray[np.float32]) -> Candidates:
        """All tokens in the order of their ids, from log-probabilities (hypotheses, vocabulary)."""
        return cls(np.broadcast_to(np.arange(rows.shape[1]), rows.shape), rows)

    def sorted(self) -> Candidates:
        """The most likely ones first."""
        order = np.lexsort((self.tokens, -self.logprobs))
        return Candidates(
            np.take_along_axis(self.tokens, order, axis=1), np.take_along_axis(self.logprobs, order, axis=1)
        )

    def of(self, start: int, stop: int) -> Candidates:
        """Those of some hypotheses."""
        return Candidates(self.tokens[start:stop], self.logprobs[start:stop])


class Search(Protocol):
    """Generates what follows one prompt.

    Attributes:
        candidates: how many of the most likely next tokens each hypothesis needs; None for all, in the order of ids.
    """

    candidates: int | None

    def advance(self, rows: Candidates) -> list[Extension]:
        """The extensions to compute next; empty if the search is over.

        Raises:
            FloatingPointError: a row has no largest log-probability.
        """
        ...

    def answer(self) -> GenerateAnswer:
        """The result, once the search is over."""
        ...


def search_for(request: GenerateRequest, ends: Collection[int], text_of: TextOf) -> Search:
    """The search for a request.

    Args:
        request: the prompt and the decoding.
        ends: tokens that end a text and are not part of it.
        text_of: decodes generated tokens.
    """
    endings = _Endings(request.decoding, frozenset(ends), text_of)
    return BeamSearch(endings) if request.decoding.beams > 1 else GreedyOrSampling(endings, request.tokens.tobytes())


class GreedyOrSampling:
    """Hypotheses that each take one token at a time, the most likely or a drawn one; over when the last has ended.

    Sample i draws token t with its own number u: the first 52 bits of a hash of seed, prompt, i and t, divided by 2^52.
    It takes the first token, in the order of ids, at which the cumulative probability exceeds u. So a sample depends
    neither on the other requests nor on the number of samples.
    """

    def __init__(self, endings: _Endings, prompt: bytes) -> None:
        decoding = endings.decoding
        self.candidates: int | None = None if decoding.temperature else 1
        self._endings, self._decoding = endings, decoding
        self._prompt = hashlib.blake2b(f"{decoding.seed}:".encode() + prompt).digest()
        self._live = {sample: _Hypothesis() for sample in range(decoding.samples)}
        self._ended: dict[int, _Ended] = {}

    def advance(self, rows: Candidates) -> list[Extension]:
        """Every hypothesis takes a token."""
        _check(rows)
        extensions = []
        for index, (sample, hypothesis) in enumerate(list(self._live.items())):
            row = index if hypothesis.tokens else 0
            chosen = self._choose(rows.logprobs[row], sample, len(hypothesis.tokens))
            token = int(rows.tokens[row, chosen])
            hypothesis = hypothesis.extended(token, rows.logprobs[row, chosen])
            if ending := self._endings.of(hypothesis.tokens):
                self._ended[sample] = _Ended(ending, len(hypothesis.tokens), hypothesis.logprob)
                del self._live[sample]
            else:
                self._live[sample] = hypothesis
                extensions.append(Extension(row, token))
        return extensions

    def answer(self) -> GenerateAnswer:
        """All samples in their order."""
        return _answer([self._ended[sample] for sample in range(self._decoding.samples)])

    def _choose(self, row: NDArray[np.float32], sample: int, position: int) -> int:
        if not self._decoding.temperature:
            return int(row.argmax())
        weights = np.exp((row.astype(np.float64) - float(row.max())) / self._decoding.temperature)
        total = np.cumsum(np.where(_nucleus(weights, self._decoding.top_p), weights, 0.0))
        return int(np.searchsorted(total, self._number(sample, position) * total[-1], side="right"))

    def _number(self, sample: int, position: int) -> float:
        """The number of this draw of this sample, from 0 to below 1."""
        digest = hashlib.blake2b(self._prompt + f":{sample}:{position}".encode(), digest_size=8).digest()
        return (int.from_bytes(digest, "big") >> 12) / 2**52


class BeamSearch:
    """Beam search as Sutskever et al. (2014) and Wu et al. (2016) describe it, and `transformers` with `never` early.

    Each step goes through the continuations of all hypotheses, best first, until `beams` of them continue, but looks at
    no more than max(2, 1 + end tokens) x beams. Continuations that end are finished. The search is over when all
    hypotheses have ended, or when none could still beat the best finished one: log-probabilities can only fall, and the
    penalty is mildest at the greatest length. Worse finished hypotheses need not be kept, since only the best one is
    returned. A hypothesis that ends at the greatest length counts like any other.
    """

    def __init__(self, endings: _Endings) -> None:
        self._endings, self._decoding = endings, endings.decoding
        self.candidates: int | None = self._decoding.beams * max(2, 1 + len(endings.ends))
        self._live = [_Hypothesis()]
        self._best: _Ended | None = None

    def advance(self, rows: Candidates) -> list[Extension]:
        """The hypotheses that continue."""
        _check(rows)
        extensions: list[Extension] = []
        going: list[_Hypothesis] = []
        for row, token, logprob in self._best_of(rows):
            if len(going) == self._decoding.beams:
                break
            hypothesis = self._live[row].extended(token, logprob)
            if ending := self._endings.of(hypothesis.tokens):
                self._finish(hypothesis, ending)
            else:
                extensions.append(Extension(row, token))
                going.append(hypothesis)
        self._live = going
        return extensions if self._may_improve() else []

    def answer(self) -> GenerateAnswer:
        """The best hypothesis."""
        return _answer([self._best] if self._best else [])

    def _best_of(self, rows: Candidates) -> list[tuple[int, int, float]]:
        """Row, token and log-probability of the best continuations: of equal ones the first row's, then the lowest."""
        found = [
            (-hypothesis.logprob - logprob, row, token, logprob)
            for row, hypothesis in enumerate(self._live)
            for token, logprob in zip(rows.tokens[row].tolist(), rows.logprobs[row].tolist(), strict=True)
        ]
        best = sorted(found)[: self.candidates]
        return [(row, token, logprob) for cost, row, token, logprob in best if cost < math.inf]

    def _finish(self, hypothesis: _Hypothesis, ending: _Ending) -> None:
        length = len(hypothesis.tokens)
        score = self._decoding.penalized(hypothesis.logprob, length)
        if self._best is None or score > self._best.score:
            self._best = _Ended(ending, length, score)

    def _may_improve(self) -> bool:
        if self._best is None or not self._live:
            return bool(self._live)
        return self._decoding.penalized(self._live[0].logprob, self._decoding.max_tokens) > self._best.score


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    tokens: tuple[int, ...] = ()
    logprob: float = 0.0

    def extended(self, token: int, logprob: float) -> _Hypothesis:
        return _Hypothesis((*self.tokens, token), self.logprob + float(logprob))


class _Ending(NamedTuple):
    text: str
    finished: str


class _Ended(NamedTuple):
    ending: _Ending
    tokens: int
    score: float


@dataclass(frozen=True, slots=True)
class _Endings:
    """Decides whether a text has ended, and how."""

    decoding: Decoding
    ends: frozenset[int]
    text_of: TextOf

    def of(self, tokens: Sequence[int]) -> _Ending | None:
        """None if the text continues. The whole text is searched, since a stop string may span tokens."""
        if tokens[-1] in self.ends:
            return _Ending(self.text_of(tokens[:-1]), "end")
        if len(tokens) < self.decoding.max_tokens and not (self.decoding.stop or self.decoding.reply_end):
            return None
        text = self.text_of(tokens)
        if (end := self.decoding.end_of(text)) is not None:
            return _Ending(text[:end], "stop")
        return _Ending(text, "length") if len(tokens) >= self.decoding.max_tokens else None


def _answer(ended: Sequence[_Ended]) -> GenerateAnswer:
    return GenerateAnswer(
        tuple(each.ending.text for each in ended),
        tuple(each.tokens for each in ended),
        tuple(each.ending.finished for each in ended),
        tuple(round(min(each.score, 0.0), DIGITS) for each in ended),
    )


def _check(rows: Candidates) -> None:
    if not np.isfinite(rows.logprobs.max(axis=1)).all():
        raise FloatingPointError("log-probabilities are not numbers")


def _nucleus(weights: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """The fewest greatest weights that make up at least this share of all; of equal ones the first."""
    if share >= 1:
        return np.ones(len(weights), np.bool_)
    order = np.argsort(-weights, kind="stable")
    reached = np.cumsum(weights[order])
    nucleus = np.zeros(len(weights), np.bool_)
    nucleus[order[: int(np.searchsorted(reached, share * reached[-1])) + 1]] = True
    return nucleus
