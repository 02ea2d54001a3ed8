"""Which candidates to select together: near and diverse ones for a query, or representative ones for all queries.

Each function gives all candidates in an order of which the first k are the selection of k. Of equally good candidates,
the one with the lowest index comes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from icl_eval.tasks.example import Example

Floats = NDArray[np.floating]
SCALE = 0.1  # of relevance in the kernel: the smaller, the less diversity counts
LEAST_GAIN = 1e-9  # below this, a candidate repeats the selected ones but for rounding
VOTERS, LEAST_VOTES = 20, 3  # per vote: each candidate votes for a twentieth of all, in the paper 150 of 3,000
DISCOUNT = 10.0  # by which every selected candidate that it voted for divides the weight of its vote


def dpp(relevance: Floats, similarity: Floats) -> Iterator[int]:
    """Near and diverse candidates: greedy MAP inference of a determinantal point process.

    The kernel is that of CEIL (Ye et al. 2023, arXiv 2302.05698): `r_i s_ij r_j`, where `s = (cos + 1) / 2` is the
    similarity of two candidates and `r = exp(((cos + 1) / 2 - max) / (2 scale))` the relevance of one to the query.
    Inference is algorithm 1 of Chen et al. 2018 (arXiv 1709.05135). Candidates that only repeat selected ones follow
    at the end, the most relevant first.

    Args:
        relevance: cosines of the candidates with the query, (candidates,).
        similarity: their cosines with each other, (candidates, candidates).
    """
    closeness = (np.asarray(relevance, np.float64) + 1) / 2
    weights = np.exp((closeness - closeness.max(initial=0)) / (2 * SCALE))
    kernel = weights * ((np.asarray(similarity, np.float64) + 1) / 2) * weights[:, None]
    gains = np.diag(kernel).copy()  # squared distance of each candidate from what the selected ones span
    factor = np.empty((0, len(gains)))  # rows of the Cholesky factor
    left = np.ones(len(gains), bool)
    while left.any() and gains[best := int(np.argmax(np.where(left, gains, -np.inf)))] > LEAST_GAIN:
        left[best] = False
        yield best
        row = (kernel[best] - factor[:, best] @ factor) / np.sqrt(gains[best])
        factor = np.vstack([factor, row])
        gains -= row**2
    yield from sorted(np.flatnonzero(left).tolist(), key=lambda index: -closeness[index])


class Votes:
    """The votes of candidates for their neighbours, which favour those that are near to many others (Su et al. 2022).

    Every candidate votes for its nearest neighbours. The next one selected is that with the greatest sum of votes by
    candidates that are not selected; a vote weighs `10 ** -s`, where s of the voter's neighbours are selected.

    Args:
        similarity: of every two candidates, (candidates, candidates).
        votes: neighbours that each votes for; by default a twentieth of the candidates, and at least 3.
    """

    def __init__(self, similarity: Floats, votes: int | None = None) -> None:
        count = len(similarity)
        apart = np.where(np.eye(count, dtype=bool), -np.inf, similarity)
        votes = min(votes or max(count // VOTERS, LEAST_VOTES), count - 1)
        nearest = np.argsort(-apart, axis=1, kind="stable")[:, :votes]
        self._voted = np.zeros((count, count))  # (voters, neighbours)
        np.put_along_axis(self._voted, nearest, 1, axis=1)
        self._left, self._weights = np.ones(count, bool), np.ones(count)

    def select(self, among: Sequence[int] | NDArray[np.intp] | None = None) -> int:
        """The next one, of all that are not selected or of some of these."""
        eligible = self._left if among is None else np.isin(np.arange(len(self._left)), among)
        scores = ((self._weights * self._left) @ self._voted).round(9)  # equal sums stay equal, in whatever order added
        best = int(np.argmax(np.where(eligible, scores, -1)))
        self._left[best] = False
        self._weights[self._voted[:, best] > 0] /= DISCOUNT
        return best


def fast_vote_k(similarity: Floats, votes: int | None = None) -> Iterator[int]:
    """Candidates that are near to many others: fast vote-k (Su et al. 2022, arXiv 2209.01975).

    Args:
        similarity, votes: as for `Votes`.
    """
    graph = Votes(similarity, votes)
    return (graph.select() for _ in range(len(similarity)))


def first_of_vote_k(count: int) -> int:
    """How many of the candidates that vote-k selects are selected by votes alone: a tenth."""
    return -(-count // 10)


def vote_k(similarity: Floats, confidence: Mapping[int, float], count: int, votes: int | None = None) -> list[int]:
    """Candidates that are near to many others, from the least to the most certain ones: vote-k (Su et al. 2022).

    A tenth is selected as by `fast_vote_k`. The others are sorted by the confidence of a model that has seen these, and
    those of the lowest nine tenths of all divided into as many buckets of equal size as there are still to select. Of
    each bucket, beginning with the least certain one, the candidate with the most votes is selected. Sizes are those of
    the authors' `two_steps.py`. Candidates selected from a bucket discount the votes of their
    neighbours, as in the paper; in the authors' code they do not, because it looks up integers among string keys.

    Args:
        similarity, votes: as for `Votes`.
        confidence: of the model, by candidate, of all that are not among the first tenth.
        count: how many to select, at most all.
    """
    graph, first = Votes(similarity, votes), first_of_vote_k(count)
    selected = [graph.select() for _ in range(first)]
    if first == count:
        return selected
    size = 9 * len(similarity) // (10 * (count - first))
    others = sorted({*range(len(similarity))} - {*selected}, key=lambda index: (confidence[index], index))
    return selected + [graph.select(others[start : start + size]) for start in range(0, size * (count - first), size)]


@dataclass(frozen=True)
class Annotation:
    """The candidates of a pool from which vote-k selects those to annotate, without using their labels.

    Attributes:
        indices: of the candidates in the pool, (candidates,).
        examples: one example of each candidate, which may be a group of examples.
        similarity: cosine similarity of every two candidates, (candidates, candidates).
        count: the number of candidates to annotate.
    """

    indices: NDArray[np.intp]
    examples: Sequence[Example]
    similarity: Floats
    count: int

    @property
    def first(self) -> int:
        """The number of candidates that are selected by votes alone."""
        return first_of_vote_k(self.count)

    @cached_property
    def by_votes(self) -> NDArray[np.intp]:
        """Pool indices of the candidates that votes alone select, in order of selection, (count,)."""
        return self.indices[[*islice(fast_vote_k(self.similarity), self.count)]]

    @property
    def others(self) -> list[Example]:
        """The candidates whose selection depends on the confidence of the model; none if votes select all."""
        if self.first == self.count:
            return []
        first = {*self.by_votes[: self.first].tolist()}
        return [each for index, each in zip(self.indices.tolist(), self.examples, strict=True) if index not in first]

    def by_confidence(self, confidence: Mapping[str, float]) -> NDArray[np.intp]:
        """Pool indices of the candidates to annotate, in order of selection, (count,).

        Args:
            confidence: mean log-probability of the tokens of the model's answer in nats, by the id of each of `others`.
        """
        known = {index: confidence[each.id] for index, each in enumerate(self.examples) if each.id in confidence}
        return self.indices[vote_k(self.similarity, known, self.count)]


def representatives(similarity: Floats) -> Iterator[int]:
    """Candidates such that every other one is near to one of them: greedy facility location.

    The next one selected adds most to the sum over all candidates of the similarity to the nearest selected one (Lin
    and Bilmes 2009; a baseline of Su et al. 2022). These are the medoids of clusters, as in Auto-CoT (Zhang et al.
    2022), but the first k of them do not depend on how many follow.

    Args:
        similarity: of every two candidates, (candidates, candidates).
    """
    count = len(similarity)
    left, nearest = np.ones(count, bool), np.zeros(count, similarity.dtype)
    for _ in range(count):
        gains = np.maximum(similarity - nearest, 0).sum(axis=1)
        best = int(np.argmax(np.where(left, gains, -1)))
        left[best] = False
        yield best
        nearest = np.maximum(nearest, similarity[best])
