"""An index of the n-grams of examples, in which those of a text are looked up many at a time.

An n-gram is hashed as a polynomial of its words' hashes, modulo 2^64. A table of bits says which first words an n-gram
of the index can have, so that hardly any n-gram of a text is looked up. Equal hashes are compared word by word: what is
found is never a collision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from icl_eval.ngrams.words import SEPARATOR, Words

BASE = np.uint64(0xBF58476D1CE4E5B9)
PREFIX = 8  # words by which n-grams are filtered, if they have as many
BITS = range(16, 28)  # of a hash that a filter looks at, by the number of n-grams


@dataclass(frozen=True, slots=True)
class Occurrence:
    """An n-gram of the index that a text has.

    Attributes:
        size: words of the n-gram.
        key: its number among the n-grams of this size.
        start: the number of its first word in the text.
    """

    size: int
    key: int
    start: int


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """The distinct n-grams of one size.

    Attributes:
        hashes: (keys,) uint64, sorted.
        positions: (n-grams,) the first word of every n-gram, those of a key as neighbours.
        first: (keys + 1,) the index of the first position of each key, and the number of all.
        found: (keys,) whether a text had it.
    """

    hashes: NDArray[np.uint64]
    positions: NDArray[np.int64]
    first: NDArray[np.int64]
    found: NDArray[np.bool_]

    @classmethod
    def of(cls, hashes: NDArray[np.uint64], positions: NDArray[np.int64], ignored: NDArray[np.uint64]) -> _Table:
        """The table of n-grams with these hashes, which begin at these words."""
        order = np.argsort(hashes, kind="stable")
        distinct, first = np.unique(hashes[order], return_index=True)
        return cls(distinct, positions[order], np.append(first, len(order)), np.isin(distinct, ignored))

    def new(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The keys of hashes that were not found yet, each once, and where each comes first."""
        keys = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        there = np.flatnonzero((self.hashes[keys] == hashes) & ~self.found[keys])
        distinct, first = np.unique(keys[there], return_index=True)
        return distinct, there[first]


@dataclass(frozen=True, slots=True, eq=False)
class _Filter:
    """Which n-grams have the first words of one of the index.

    Attributes:
        possible: by the first bits of a hash.
        shift: the other bits.
    """

    possible: NDArray[np.bool_]
    shift: np.uint64

    @classmethod
    def of(cls, hashes: NDArray[np.uint64]) -> _Filter:
        bits = min(max(len(hashes).bit_length() + 4, BITS[0]), BITS[-1])
        shift = np.uint64(64 - bits)
        possible = np.zeros(2**bits, dtype=np.bool_)
        possible[hashes >> shift] = True
        return cls(possible, shift)

    def starts(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The n-grams that pass."""
        return np.flatnonzero(self.possible[hashes >> self.shift])


class NgramIndex:
    """The n-grams of examples.

    Args:
        texts: of the examples.
        sizes: words of an n-gram, of each example; one that is shorter is a single n-gram.
        ignored: hashes of n-grams that do not count, by their size.
    """

    def __init__(
        self,
        texts: Sequence[str],
        sizes: Sequence[int],
        ignored: Mapping[int, NDArray[np.uint64]] = MappingProxyType({}),
    ) -> None:
        self._words, self._owners, lengths = _joined(texts)
        wanted = np.minimum(np.array(sizes, dtype=np.int64), lengths)
        ends = np.cumsum(lengths + 1) - 1  # a border follows each
        self._tables: dict[int, _Table] = {}
        prefixes: dict[int, list[NDArray[np.uint64]]] = {}
        hashes = dict(_hashed(self._words.hashes, {min(size, PREFIX) for size in wanted.tolist()}))
        for size in sorted({*wanted.tolist()} - {0}):
            starts = np.flatnonzero(wanted[self._owners] == size)
            starts = starts[starts + size <= ends[self._owners[starts]]]
            prefix = hashes[min(size, PREFIX)][starts]
            prefixes.setdefault(min(size, PREFIX), []).append(prefix)
            whole = _extended(prefix, self._words.hashes, starts, size)
            self._tables[size] = _Table.of(whole, starts, ignored.get(size, np.empty(0, np.uint64)))
        self._filters = {size: _Filter.of(np.concatenate(found)) for size, found in prefixes.items()}

    @property
    def longest(self) -> int:
        """Words of the longest n-grams."""
        return max(self._tables, default=0)

    def occurrences(self, words: Words) -> Iterator[Occurrence]:
        """The n-grams of a text that no text before had, the first of each, in no particular order."""
        for length, hashes in _hashed(words.hashes, self._filters):
            passing = self._filters[length].starts(hashes)
            for size in self._tables if len(passing) else ():
                if min(size, PREFIX) != length:
                    continue
                table = self._tables[size]
                starts = passing[passing + size <= len(words)]
                keys, first = table.new(_extended(hashes[starts], words.hashes, starts, size))
                for key, start in zip(keys.tolist(), starts[first].tolist(), strict=True):
                    found = Occurrence(size, key, start)
                    if words.between(start, size) == self.ngram(found):
                        table.found[key] = True
                        yield found

    def ngram(self, found: Occurrence) -> str:
        """The words of an n-gram."""
        table = self._tables[found.size]
        return self._words.between(int(table.positions[table.first[found.key]]), found.size)

    def owners(self, found: Occurrence) -> list[int]:
        """The examples that have an n-gram, each once."""
        table = self._tables[found.size]
        positions = table.positions[table.first[found.key] : table.first[found.key + 1]]
        return [int(owner) for owner in np.unique(self._owners[positions])]


def shared_ngrams(texts: Sequence[str], size: int) -> NDArray[np.uint64]:
    """The hashes of the n-grams of a size that all texts have, such as the words of their prompt."""
    shared: NDArray[np.uint64] | None = None
    for text in texts:
        found = np.concatenate([each for _, each in _hashed(Words.of(text).hashes, {size})] or [np.empty(0, np.uint64)])
        shared = np.unique(found) if shared is None else np.intersect1d(shared, found)
        if not len(shared):
            break
    return np.empty(0, np.uint64) if shared is None or len(texts) < 2 else shared


def _joined(texts: Sequence[str]) -> tuple[Words, NDArray[np.int64], NDArray[np.int64]]:
    """The words of all texts with a border after each, the text that each word belongs to, and the words of each."""
    words = Words.of("".join(f"{text}{SEPARATOR}" for text in texts))
    borders = np.flatnonzero(words.hashes == Words.of(SEPARATOR).hashes[0])
    lengths = np.diff(borders, prepend=-1) - 1
    return words, np.repeat(np.arange(len(texts)), lengths + 1), lengths


def _hashed(values: NDArray[np.uint64], sizes: Collection[int]) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """The hashes of all n-grams of a text whose words have these hashes, size by size."""
    hashes = values
    for size in range(1, min(max(sizes, default=0), len(values)) + 1):
        if size > 1:
            hashes = hashes[:-1] * BASE + values[size - 1 :]
        if size in sizes:
            yield size, hashes


def _extended(
    prefixes: NDArray[np.uint64], values: NDArray[np.uint64], starts: NDArray[np.int64], size: int
) -> NDArray[np.uint64]:
    """The hashes of whole n-grams that begin at some words, from those of their first words."""
    hashes = prefixes
    for offset in range(PREFIX, size):
        hashes = hashes * BASE + values[starts + offset]
    return hashes
