"""Greedy search, sampling and beam search over log-probabilities of next tokens, without a model.

A search starts with one row of candidates: the possible tokens after the prompt. In each step, it chooses extensions
from its rows: a hypothesis and its next token. The next rows are the candidates after these extensions, in the same
order. The search is over when it chooses no extensions. So a search does not depend on how rows are computed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heapreplace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from icl_eval.models.decoding import Decoding, GenerateAnswer, GenerateRequest
from icl_eval.models.protocol import DIGITS
from icl_eval.models.tokenization import TextOf


class Extension(NamedTuple):
    """The hypothesis of this row is extended by this token."""

    row: int
    token: int


class Hypothesis(NamedTuple):
    """Generated tokens, and the sum of their log-probabilities in nats."""

    tokens: tuple[int, ...] = ()
    logprob: float = 0.0


@dataclass(frozen=True, eq=False)
class Candidates:
    """Candidates for the next token of each hypothesis, most likely first or in the order of ids.

    Attributes:
        tokens: their ids, (hypotheses, candidates); of equally likely ones, the lowest first.
        logprobs: their log-probabilities in nats, (hypotheses, candidates).

    Raises:
        FloatingPointError: the largest log-probability of a hypothesis is not finite.
    """

    tokens: NDArray[np.int64]
    logprobs: NDArray[np.float32]

    def __post_init__(self) -> None:
        if not np.isfinite(self.logprobs.max(axis=1)).all():
            raise FloatingPointError("log-probabilities are not numbers")

    @cached_property
    def lists(self) -> tuple[list[list[int]], list[list[float]]]:
        """Tokens and log-probabilities as lists, whose elements are read faster."""
        return self.tokens.tolist(), self.logprobs.tolist()

    @classmethod
    def all_of(cls, rows: NDArray[np.float32]) -> Candidates:
        """All tokens in the order of their ids, from log-probabilities (hypotheses, vocabulary)."""
        return cls(np.broadcast_to(np.arange(rows.shape[1]), rows.shape), rows)

    @classmethod
    def best_of(cls, rows: NDArray[np.float32], count: int | None) -> Candidates:
        """The `count` most likely tokens, most likely first; all tokens in the order of ids if `count` is None."""
        every = cls.all_of(rows)
        if count is None:
            return every
        best = every.sorted()
        return cls(best.tokens[:, :count], best.logprobs[:, :count])

    def sorted(self) -> Candidates:
        """The same candidates, most likely first."""
        order = np.lexsort((self.tokens, -self.logprobs))
        return Candidates(
            np.take_along_axis(self.tokens, order, axis=1), np.take_along_axis(self.logprobs, order, axis=1)
        )


class Search(Protocol):
    """The search for the text after one prompt.

    Attributes:
        candidates: the number of most likely next tokens that it needs for each hypothesis, most likely first; None
            for all tokens, in the order of ids.
        hypotheses: the hypotheses whose candidates it needs next, all of the same length; at first the empty one.
    """

    candidates: int | None
    hypotheses: Sequence[Hypothesis]

    def advance(self, rows: Candidates, first: int = 0) -> list[Extension]:
        """Choose the extensions to compute next; none if the search is over.

        Args:
            rows: the candidates of the hypotheses of several searches; those of this search are consecutive.
            first: the row of its first hypothesis.
        """
        ...

    def answer(self) -> GenerateAnswer:
        """The result, when the search is over."""
        ...


def _every(_: int) -> bool:
    return True


def search_for(
    request: GenerateRequest, ends: Collection[int], text_of: TextOf, may_stop: Callable[[int], bool] = _every
) -> Search:
    """The search for a request.

    Args:
        request: the prompt and the decoding.
        ends: tokens that end a text and are not part of it.
        text_of: decodes generated tokens.
        may_stop: whether a token may complete a stop string; texts are only decoded after these tokens.
    """
    endings = _Endings(request.decoding, frozenset(ends), text_of, may_stop if request.decoding.stops else None)
    return BeamSearch(endings) if request.decoding.beams > 1 else GreedyOrSampling(endings, request.tokens.tobytes())


class GreedyOrSampling:
    """Greedy search and sampling: each hypothesis is extended by its most likely token, or by a drawn one.

    Token t of sample i is drawn by a number u: the first 52 bits of a hash of seed, prompt, i and t, divided by 2^52.
    It is the first token, in the order of ids, at which the cumulative probability exceeds u. So a sample depends
    neither on other requests nor on the number of samples.
    """

    def __init__(self, endings: _Endings, prompt: bytes) -> None:
        decoding = endings.decoding
        self.candidates: int | None = None if decoding.temperature else 1
        self.hypotheses: Sequence[Hypothesis] = [Hypothesis()]
        self._endings, self._decoding = endings, decoding
        self._prompt = hashlib.blake2b(f"{decoding.seed}:".encode() + prompt).digest()
        self._samples = list(range(decoding.samples))  # those that have not ended
        self._ended: dict[int, Hypothesis] = {}

    def advance(self, rows: Candidates, first: int = 0) -> list[Extension]:
        """Extend every hypothesis by a token; return the extensions of those that have not ended."""
        extensions: list[Extension] = []
        samples: list[int] = []
        going: list[Hypothesis] = []
        is_start = not self.hypotheses[0].tokens
        for index, sample in enumerate(self._samples):
            own = 0 if is_start else index
            before, row = self.hypotheses[own], first + own
            token, logprob = self._choose(rows, row, sample, len(before.tokens))
            hypothesis = Hypothesis((*before.tokens, token), before.logprob + logprob)
            if self._endings.reached(hypothesis):
                self._ended[sample] = hypothesis
            else:
                samples.append(sample)
                going.append(hypothesis)
                extensions.append(Extension(row, token))
        self._samples, self.hypotheses = samples, going
        return extensions

    def answer(self) -> GenerateAnswer:
        """All samples, in order."""
        ended = [self._ended[sample] for sample in range(self._decoding.samples)]
        return self._endings.answer([(each, each.logprob) for each in ended])

    def _choose(self, rows: Candidates, row: int, sample: int, position: int) -> tuple[int, float]:
        """The next token of a sample, and its log-probability."""
        if not self._decoding.temperature:
            tokens, logprobs = rows.lists
            return tokens[row][0], logprobs[row][0]
        values = rows.logprobs[row]
        weights = np.exp((values.astype(np.float64) - float(values.max())) / self._decoding.temperature)
        total = np.cumsum(np.where(_nucleus(weights, self._decoding.top_p), weights, 0.0))
        chosen = int(np.searchsorted(total, self._number(sample, position) * total[-1], side="right"))
        return int(rows.tokens[row, chosen]), float(values[chosen])

    def _number(self, sample: int, position: int) -> float:
        """The pseudo-random number of a draw, at least 0 and below 1."""
        digest = hashlib.blake2b(self._prompt + f":{sample}:{position}".encode(), digest_size=8).digest()
        return (int.from_bytes(digest, "big") >> 12) / 2**52


class BeamSearch:
    """Beam search as Sutskever et al. (2014) and Wu et al. (2016) describe it, and `transformers` with `never` early.

    Each step goes through the continuations of all hypotheses, best first, until `beams` of them continue, but looks at
    no more than max(2, 1 + end tokens) x beams. Continuations that end are finished. A hypothesis that can no longer
    beat the best finished one is dropped, since only the best one is returned: log-probabilities can only fall, and the
    penalty is mildest at the greatest length. What would take its place is less likely, so it could not win either. The
    search is over when no hypothesis is left. One that ends at the greatest length counts like any other.
    """

    def __init__(self, endings: _Endings) -> None:
        self._endings, self._decoding = endings, endings.decoding
        self.candidates: int | None = self._decoding.beams * max(2, 1 + len(endings.ends))
        self.hypotheses: Sequence[Hypothesis] = [Hypothesis()]
        self._best: tuple[Hypothesis, float] | None = None  # of those that have ended, and its score

    def advance(self, rows: Candidates, first: int = 0) -> list[Extension]:
        """Choose the best extensions that do not end; keep the best hypothesis that does."""
        extensions: list[Extension] = []
        going: list[Hypothesis] = []
        for row, token, logprob in self._best_of(rows, first):
            hypothesis = Hypothesis((*self.hypotheses[row].tokens, token), logprob)
            if self._endings.reached(hypothesis):
                self._finish(hypothesis)
                continue
            extensions.append(Extension(first + row, token))
            going.append(hypothesis)
            if len(going) == self._decoding.beams:
                break
        self.hypotheses = [each for each in going if self._may_improve(each)]
        return extensions[: len(self.hypotheses)]

    def answer(self) -> GenerateAnswer:
        """The best hypothesis."""
        return self._endings.answer([self._best] if self._best else [])

    def _best_of(self, rows: Candidates, first: int) -> Iterator[tuple[int, int, float]]:
        """Hypothesis, token and total log-probability of the best continuations; of equal ones, the first in `rows`."""
        tokens, logprobs = rows.lists
        totals = [before.logprob + row[0] for before, row in zip(self.hypotheses, logprobs[first:], strict=False)]
        heads = [(-total, row, 0) for row, total in enumerate(totals)]  # the best remaining continuation of each row
        heapify(heads)
        for _ in range(self.candidates or 0):
            if not heads or heads[0][0] == math.inf:
                return
            cost, row, column = heads[0]
            yield row, tokens[first + row][column], -cost
            if column + 1 < len(logprobs[first + row]):
                total = self.hypotheses[row].logprob + logprobs[first + row][column + 1]
                heapreplace(heads, (-total, row, column + 1))
            else:
                heappop(heads)

    def _finish(self, hypothesis: Hypothesis) -> None:
        score = self._decoding.penalized(hypothesis.logprob, len(hypothesis.tokens))
        if self._best is None or score > self._best[1]:
            self._best = hypothesis, score

    def _may_improve(self, hypothesis: Hypothesis) -> bool:
        """Whether a continuation of the hypothesis may score better than the best finished one."""
        most = self._decoding.penalized(hypothesis.logprob, self._decoding.max_tokens)
        return self._best is None or most > self._best[1]


@dataclass(frozen=True, slots=True)
class _Endings:
    """Decides whether a text has ended, and why."""

    decoding: Decoding
    ends: frozenset[int]
    text_of: TextOf
    may_stop: Callable[[int], bool] | None  # None if nothing stops a text

    def reached(self, hypothesis: Hypothesis) -> bool:
        """Whether a text ends at its last token, given that it did not end before.

        The whole text is searched, because a stop string may consist of several tokens.
        """
        tokens = hypothesis.tokens
        if tokens[-1] in self.ends or len(tokens) >= self.decoding.max_tokens:
            return True
        if self.may_stop is None or not self.may_stop(tokens[-1]):
            return False
        return self.decoding.end_of(self.text_of(tokens)) is not None

    def answer(self, ended: Sequence[tuple[Hypothesis, float]]) -> GenerateAnswer:
        """The answer with the texts of hypotheses that have ended, and their scores."""
        endings = [self._ending(hypothesis) for hypothesis, _ in ended]
        return GenerateAnswer(
            tuple(text for text, _ in endings),
            tuple(len(hypothesis.tokens) for hypothesis, _ in ended),
            tuple(finished for _, finished in endings),
            tuple(round(min(score, 0.0), DIGITS) for _, score in ended),
        )

    def _ending(self, hypothesis: Hypothesis) -> tuple[str, str]:
        """The text, and why it ended."""
        tokens = hypothesis.tokens
        if tokens[-1] in self.ends:
            return self.text_of(tokens[:-1]), "end"
        text = self.text_of(tokens)
        end = self.decoding.end_of(text)
        return (text, "length") if end is None else (text[:end], "stop")


def _nucleus(weights: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """The smallest set of largest weights that has at least this share of their sum; of equal weights, the first.

    Returns:
        Whether each weight is in the set, (weights,).
    """
    if share >= 1:
        return np.ones(len(weights), np.bool_)
    order = np.argsort(-weights, kind="stable")
    reached = np.cumsum(weights[order])
    nucleus = np.zeros(len(weights), np.bool_)
    nucleus[order[: int(np.searchsorted(reached, share * reached[-1])) + 1]] = True
    return nucleus
