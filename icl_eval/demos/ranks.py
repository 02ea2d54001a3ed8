"""Pseudo-random ranks of names, made of hashes, and orders by them.

A rank depends on the name and the salt alone, not on the platform, the version of a library or the other names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK = 2**14  # ranks that are computed at once, so that they stay in the CPU's cache
FEW = 16  # candidates examined beyond twice the number requested
UNMOVED_BELOW = 2**33 - 1  # lower bits of a rank: only these change in the last step of mixing


def by_rank(folded: NDArray[np.uint64], salt: np.uint64, wanted: int) -> Iterator[np.intp]:
    """Positions from the lowest rank to the highest; all are sorted only if more than the first few are used."""
    few = 2 * wanted + FEW  # ranks are uniform: about so many are below the bound, and seldom fewer than are wanted
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
    """Positions from the highest score to the lowest, equal ones by rank; all are sorted only if more are used."""
    few = min(2 * wanted + FEW, len(scores))
    bound = np.partition(scores, -few)[-few] if few else 0
    for is_low in (False, True):
        some = np.flatnonzero((scores < bound) == is_low)
        ranks = finished(unfinished(folded[some], salt))
        yield from some[np.lexsort((ranks, -scores[some]))]


def hash_of(text: str) -> np.uint64:
    """The hash of one text."""
    return np.uint64(hashes([text])[0])


def hashes(texts: Iterable[str]) -> NDArray[np.uint64]:
    """A hash of each text."""
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64, copy=False)


def ranks(keys: NDArray[np.uint64], salt: np.uint64) -> NDArray[np.uint64]:
    """Ranks of keys: SplitMix64's finaliser (Steele et al. 2014) of `keys ^ salt`.

    It is a bijection whose every output bit depends on every input bit. Its first step, `folded`, is the same for keys
    and salt apart and together. Its last, `finished`, leaves the upper bits as they are, so the lowest ranks are found
    before it.
    """
    return finished(unfinished(folded(keys), salt))


def folded(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The first step of `ranks`."""
    return keys ^ (keys >> np.uint64(30))


def unfinished(folded: NDArray[np.uint64], salt: np.uint64) -> NDArray[np.uint64]:
    """Ranks before the last step, whose upper bits are final."""
    mixed = folded ^ (salt ^ (salt >> np.uint64(30)))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    return mixed


def finished(unfinished: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The last step of `ranks`."""
    return unfinished ^ (unfinished >> np.uint64(31))
