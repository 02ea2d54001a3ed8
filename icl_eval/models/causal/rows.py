"""Rows: token sequences packed with shared prefixes once, and what each token of a row sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """Token sequences packed into one row of a batch, shared prefixes once.

    Attributes:
        tokens: (length,) int32.
        parents: (length,) int32, the index in the row of the token before; -1 where a sequence begins.
        scored: (targets,) int32, the indices of the tokens after which a target is scored.
        targets: (targets,) int32, the next tokens to score.
        prefix_length: how many of the first tokens form a plain sequence that other rows begin with too, and in which
            nothing is scored: a model may cache their states from one row to the next.
    """

    tokens: NDArray[np.int32]
    parents: NDArray[np.int32]
    scored: NDArray[np.int32]
    targets: NDArray[np.int32]
    prefix_length: int = 0

    @property
    def is_linear(self) -> bool:
        """Whether the row is one plain sequence."""
        return bool((self.parents == np.arange(-1, len(self.tokens) - 1)).all())


@dataclass(frozen=True, slots=True, eq=False)
class RowAnswer:
    """Log-probabilities (targets,) in nats, float32, and whether each target was the most likely token."""

    logprobs: NDArray[np.float32]
    greedy: NDArray[np.bool_]


PendingRows = Callable[[], list[RowAnswer]]  # waits for the answers to the rows of a batch


def depths(parents: NDArray[np.int32]) -> NDArray[np.int64]:
    """Each token's position in its own sequence, (length,)."""
    depth = np.zeros(len(parents), dtype=np.int64)
    for start, stop in segments(parents):
        first = 0 if parents[start] < 0 else depth[parents[start]] + 1
        depth[start:stop] = np.arange(first, first + stop - start)
    return depth


def visibility(parents: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether token i (rows) sees token j (columns), (length, length)."""
    length = len(parents)
    sees = np.zeros((length, length), dtype=np.bool_)
    for start, stop in segments(parents):
        if parents[start] >= 0:
            sees[start:stop, :start] = sees[parents[start], :start]
        sees[start:stop, start:stop] = np.tri(stop - start, dtype=np.bool_)
    return sees


def segments(parents: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Maximal segments in which every token follows the one before it."""
    breaks = np.flatnonzero(parents[1:] != np.arange(len(parents) - 1)) + 1
    starts = [0, *breaks.tolist()] if len(parents) else []
    return list(pairwise([*starts, len(parents)]))
