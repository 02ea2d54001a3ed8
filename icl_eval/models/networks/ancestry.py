"""Visibility in a packed row: every token sees its ancestors and itself."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


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
