"""Pseudo-random ranks of names, computed from hashes, and the order by ranks or by scores.

A rank only depends on the name and the salt, not on the platform, the versions of libraries or the other names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK = 2**14  # number of ranks computed at a time, so that they stay in the CPU's cache
FEW = 16  # number of candidates that are sorted first, besides twice the requested number
UNMOVED_BELOW = 2**33 - 1  # the lower bits of a rank, which are the only ones that the last step of mixing changes


def by_rank(folded: NDArray[np.uint64], salt: np.uint64, wanted: int) -> Iterator[np.intp]:
    """Positions in the order of ranks, lowest first; all are sorted only if many more than `wanted` are read."""
    few = 2 * wanted + FEW  # ranks are uniform: about this number is below the bound, and rarely fewer than `wanted`
    bound = min(2**64 // max(len(folded), 1) * few, 2**64 - 1) | UNMOVED_BELOW
    low = [
        np.flatnonzero(unfinished(folded[start : start + BLOCK], salt) <= np.uint64(bound)) + start
        for start in range(0, len(folded), BLOCK)
    ]
    lowest = np.concatenate([*low, np.empty(0, dtype=np.intp)])
    yield from lowest[np.argsort(finished(unfinished(folded[lowest], salt)), kind="stable")]
    yield from np.argsort(finished(unfinished(folded, salt)), kind="stable")[len(lowest) :]


def by_score(
    scores: NDArray[np.float32], folded: NDArray[np.uint64], salt: np.uint64, wanted: int
) -> Iterator[np.intp]:
    """Positions in the order of scores, highest first, equal ones by rank.

    All are sorted only if many more than `wanted` are read.
    """
    few = min(2 * wanted + FEW, len(scores))
    bound = np.partition(scores, -few)[-few] if few else 0
    for is_low in (False, True):
        some = np.flatnonzero((scores < bound) == is_low)
        ranks = finished(unfinished(folded[some], salt))
        yield from some[np.lexsort((ranks, -scores[some]))]


def hash_of(text: str) -> np.uint64:
    """The 64-bit hash of a text."""
    return np.uint64(hashes([text])[0])


def hashes(texts: Iterable[str]) -> NDArray[np.uint64]:
    """The 64-bit hash of each text, (texts,)."""
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64, copy=False)


def ranks(keys: NDArray[np.uint64], salt: np.uint64) -> NDArray[np.uint64]:
    """Ranks of keys: the finaliser of SplitMix64 (Steele et al. 2014), applied to `keys ^ salt`.

    It is a bijection in which every output bit depends on every input bit. Its first step, `folded`, is linear, so it
    is applied to keys and salt separately. Its last step, `finished`, does not change the upper bits, so that the
    lowest ranks can be found before it.
    """
    return finished(unfinished(folded(keys), salt))


def folded(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The first step of `ranks`."""
    return keys ^ (keys >> np.uint64(30))


def unfinished(folded: NDArray[np.uint64], salt: np.uint64) -> NDArray[np.uint64]:
    """Ranks before the last step of `ranks`; their upper bits are final."""
    mixed = folded ^ (salt ^ (salt >> np.uint64(30)))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    return mixed


def finished(unfinished: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The last step of `ranks`."""
    return unfinished ^ (unfinished >> np.uint64(31))
