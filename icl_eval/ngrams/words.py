"""The words of a text with their hashes, which are computed all at once.

The hash of a word is a polynomial of random numbers, one for each character, modulo 2^64. It is computed from the
cumulative sums of terms over the text: the difference of two sums, divided by the power at which the word starts.
"""

from __future__ import annotations

import sys
import unicodedata
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse
DROPPED = "PSC"  # first letters of the removed Unicode categories: punctuation, symbols, control characters
LETTERS = 0x33480  # all letters and digits have smaller codes
BORDER = "\0"  # a word that no text contains
SEPARATOR = f" {BORDER} "


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """The words of a text: split at white space, in lower case, without punctuation (Brown et al. 2020, appendix C).

    Attributes:
        text: the text in Unicode normal form C.
        hashes: (words,) uint64.
        starts, ends: (words,) positions of the first character of each word, and after its last character.
    """

    text: str
    hashes: NDArray[np.uint64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, text: str) -> Words:
        """Split a text into words."""
        text = unicodedata.normalize("NFC", text)
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        table = _characters()
        kept = np.flatnonzero(table.kept[codes])
        codes = codes[kept]
        edges = np.flatnonzero(np.diff(table.space[codes], prepend=True, append=True))
        starts, ends = edges[::2], edges[1::2]
        powers, inverses = _powers(1 << len(codes).bit_length())
        sums = np.zeros(len(codes) + 1, dtype=np.uint64)
        np.cumsum(table.values[codes] * powers[: len(codes)], out=sums[1:])
        return cls(text, (sums[ends] - sums[starts]) * inverses[starts], kept[starts], kept[ends - 1] + 1)

    def __len__(self) -> int:
        return len(self.hashes)

    def between(self, start: int, size: int) -> str:
        """`size` words from index `start` on, separated by single spaces."""
        part = self.text[self.starts[start] : self.ends[start + size - 1]]
        return " ".join(word for each in part.split() if (word := "".join(map(_plain, each))))


@dataclass(frozen=True, slots=True, eq=False)
class _Characters:
    """Properties of all characters, by code."""

    values: NDArray[np.uint64]  # random numbers, equal for upper and lower case
    space: NDArray[np.bool_]
    kept: NDArray[np.bool_]  # whether the character is not removed; spaces are kept, too


@cache
def _characters() -> _Characters:
    values = np.random.Generator(np.random.PCG64(0)).integers(2**64, size=LETTERS, dtype=np.uint64)
    plain = [_plain(chr(code)) for code in range(LETTERS)]
    lower = [ord(each) if each else code for code, each in enumerate(plain)]
    space, kept = np.zeros((2, sys.maxunicode + 1), dtype=np.bool_)
    space[:LETTERS] = [chr(code).isspace() for code in range(LETTERS)]
    kept[:LETTERS] = [bool(each) for each in plain]
    return _Characters(values[lower], space, kept | space)


def _plain(character: str) -> str:
    """A character in lower case; an empty string for punctuation and symbols."""
    if character == BORDER:
        return character
    dropped = ord(character) >= LETTERS or unicodedata.category(character)[0] in DROPPED
    return "" if dropped else character.lower()[0]


@cache
def _powers(count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The first powers of the base and their inverses, modulo 2^64."""
    found = []
    for base in (BASE, pow(BASE, -1, 2**64)):
        powers = np.full(count, base, dtype=np.uint64)
        powers[0] = 1
        found.append(np.multiply.accumulate(powers))
    return found[0], found[1]
