"""The candidates that `vote-k` annotates: some by votes alone, the others also by the confidence of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from icl_eval.demos.selection import Floats, fast_vote_k, first_of_vote_k, vote_k
from icl_eval.tasks.example import Example


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
