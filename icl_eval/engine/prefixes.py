"""What sorted sequences share with the one before, and what is left to compute."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from icl_eval.models import common_prefix


def trie_parts(sequences: Sequence[array[int]]) -> list[tuple[int, int]]:
    """For each sequence in sorted order, the positions it does not share with the one before: first, and last + 1."""
    ordered = sorted(sequences)
    return [(len(tokens) - new, len(tokens)) for tokens, new in zip(ordered, new_tokens(ordered), strict=True)]


def attended_pairs(first: int, last: int) -> int:
    """Pairs of a token and one it attends to, itself included, of the tokens `first:last` of a sequence."""
    return (last * (last + 1) - first * (first + 1)) // 2


def new_tokens(sequences: Sequence[array[int]]) -> list[int]:
    """Tokens of each of sorted sequences that it does not share with the one before."""
    new, last = [], np.empty(0, np.int32)
    for tokens in sequences:
        current = np.frombuffer(tokens, dtype=np.int32)
        new.append(len(current) - common_prefix(last, current))
        last = current
    return new
