"""Selections of several demonstrations: near and diverse ones for a query, or representative ones for all queries.

Each function orders all candidates so that the first k of them are the selection of k. Of equally good candidates, the
one with the lowest index comes first.
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
SCALE = 0.1  # scale of relevance in the kernel; the smaller it is, the less diversity counts
LEAST_GAIN = 1e-9  # with a smaller gain, a candidate is a repetition of selected ones up to rounding
VOTERS, LEAST_VOTES = 20, 3  # each candidate votes for a twentieth of all (as in the paper), and for at least 3
DISCOUNT = 10.0  # divides the weight of a candidate's votes for each selected candidate that it voted for


def dpp(relevance: Floats, similarity: Floats) -> Iterator[int]:
    """Near and diverse candidates: greedy MAP inference for a determinantal point process.

    The kernel is that of CEIL (Ye et al. 2023, arXiv 2302.05698): `r_i s_ij r_j`, where `s = (cos + 1) / 2` is the
    similarity of two candidates and `r = exp(((cos + 1) / 2 - max) / (2 scale))` the relevance of one to the query.
    Inference is algorithm 1 of Chen et al. 2018 (arXiv 1709.05135). Candidates that only repeat selected ones come
    last, the most relevant first.

    Args:
        relevance: cosine similarity of each candidate and the query, (candidates,).
        similarity: cosine similarity of every two candidates, (candidates, candidates).
    """
    closeness = (np.asarray(relevance, np.float64) + 1) / 2
    weights = np.exp((closeness - closeness.max(initial=0)) / (2 * SCALE))
    kernel = weights * ((np.asarray(similarity, np.float64) + 1) / 2) * weights[:, None]
    gains = np.diag(kernel).copy()  # squared distance of each candidate from the span of the selected ones
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
    """Votes of candidates for their nearest neighbours, by which vote-k selects (Su et al. 2022).

    The next candidate to select is the one with the largest sum of votes from candidates that are not selected. The
    weight of a vote is `10 ** -s`, where s is the number of the voter's neighbours that are selected.

    Args:
        similarity: similarity of every two candidates, (candidates, candidates).
        votes: number of neighbours that each candidate votes for; by default a twentieth of the candidates, at least 3.
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
        """The index of the next candidate, selected among all that are not yet selected, or among some of them."""
        eligible = self._left if among is None else np.isin(np.arange(len(self._left)), among)
        scores = ((self._weights * self._left) @ self._voted).round(9)  # equal up to the order of addition
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
    """How many of `count` selected candidates vote-k selects by votes alone: a tenth."""
    return -(-count // 10)


def vote_k(similarity: Floats, confidence: Mapping[int, float], count: int, votes: int | None = None) -> list[int]:
    """Candidates that are near to many others and differ in the model's confidence: vote-k (Su et al. 2022).

    A tenth is selected as by `fast_vote_k`. The other candidates are sorted by the confidence of a model that has this
    tenth as demonstrations. Those with the lowest confidence, nine tenths of all candidates, are divided into buckets
    of equal size, one for each candidate that is still to select. From each bucket, beginning with the lowest
    confidence, the candidate with the most votes is selected. The sizes are those of the authors' `two_steps.py`. A
    candidate selected from a bucket discounts the votes of its neighbours, as in the paper; in the authors' code it
    does not, because integers are looked up among string keys.

    Args:
        similarity, votes: as for `Votes`.
        confidence: the confidence of the model by candidate, without the first tenth.
        count: the number of candidates to select, at most all.

    Returns:
        The indices of the selected candidates, in order of selection.
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
    """The candidates among which vote-k selects those to annotate, without using their labels.

    Attributes:
        indices: their indices in the pool, (candidates,).
        examples: an example of each candidate, which may be a group of examples.
        similarity: cosine similarity of every two candidates, (candidates, candidates).
        count: the number of candidates to annotate.
    """

    indices: NDArray[np.intp]
    examples: Sequence[Example]
    similarity: Floats
    count: int

    @property
    def first(self) -> int:
        """The number of candidates to annotate that are selected by votes alone."""
        return first_of_vote_k(self.count)

    @cached_property
    def by_votes(self) -> NDArray[np.intp]:
        """Indices in the pool of the candidates to annotate if all are selected by votes, in order, (count,)."""
        return self.indices[[*islice(fast_vote_k(self.similarity), self.count)]]

    @property
    def others(self) -> list[Example]:
        """The candidates whose confidence is needed: all but the first selected ones; none if votes select all."""
        if self.first == self.count:
            return []
        first = {*self.by_votes[: self.first].tolist()}
        return [each for index, each in zip(self.indices.tolist(), self.examples, strict=True) if index not in first]

    def by_confidence(self, confidence: Mapping[str, float]) -> NDArray[np.intp]:
        """Indices in the pool of the candidates to annotate, in order of selection, (count,).

        Args:
            confidence: for the id of each of `others`, the mean log-probability of a token of the model's answer, in
                nats.
        """
        known = {index: confidence[each.id] for index, each in enumerate(self.examples) if each.id in confidence}
        return self.indices[vote_k(self.similarity, known, self.count)]


def representatives(similarity: Floats) -> Iterator[int]:
    """Candidates to which all others are near: greedy facility location (Lin and Bilmes 2009).

    Each selected candidate adds the most to the sum, over all candidates, of the similarity to the nearest selected one
    (a baseline of Su et al. 2022). Like the medoids of clusters in Auto-CoT (Zhang et al. 2022), these represent all
    candidates, but the first k of them do not depend on how many follow.

    Args:
        similarity: similarity of every two candidates, (candidates, candidates).
    """
    count = len(similarity)
    left, nearest = np.ones(count, bool), np.zeros(count, similarity.dtype)
    for _ in range(count):
        gains = np.maximum(similarity - nearest, 0).sum(axis=1)
        best = int(np.argmax(np.where(left, gains, -1)))
        left[best] = False
        yield best
        nearest = np.maximum(nearest, similarity[best])
