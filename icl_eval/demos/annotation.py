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
    """Candidates of which vote-k annotates some; their labels are not used.

    Attributes:
        indices: of the candidates in their pool, (candidates,).
        examples: what stands for each candidate, where it may be a group of examples.
        similarity: of every two candidates, (candidates, candidates).
        count: how many are annotated.

    """

    indices: NDArray[np.intp]
    examples: Sequence[Example]
    similarity: Floats
    count: int

    @property
    def first(self) -> int:
        """How many are annotated by votes alone."""
        return first_of_vote_k(self.count)

    @cached_property
    def by_votes(self) -> NDArray[np.intp]:
        """Indices of the candidates that are annotated if votes alone decide, in their order."""
        return self.indices[[*islice(fast_vote_k(self.similarity), self.count)]]

    @property
    def others(self) -> list[Example]:
        """The candidates after the first annotated ones, for which the model's confidence is needed, if it is."""
        if self.first == self.count:
            return []
        first = {*self.by_votes[: self.first].tolist()}
        return [each for index, each in zip(self.indices.tolist(), self.examples, strict=True) if index not in first]

    def by_confidence(self, confidence: Mapping[str, float]) -> NDArray[np.intp]:
        """Indices of the candidates that are annotated, in their order.

        Args:
            confidence: of the model, by the id of each of the others.
        """
        known = {index: confidence[each.id] for index, each in enumerate(self.examples) if each.id in confidence}
        return self.indices[vote_k(self.similarity, known, self.count)]
