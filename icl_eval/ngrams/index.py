"""An index of the n-grams of examples, in which many n-grams of a text are looked up at once.

The hash of an n-gram is a polynomial of the hashes of its words, modulo 2^64. A bit table of the first words of the
indexed n-grams filters out almost all n-grams of a text. If hashes are equal, the words are compared, so results are
never collisions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from icl_eval.ngrams.words import SEPARATOR, Words

BASE = np.uint64(0xBF58476D1CE4E5B9)
PREFIX = 8  # number of first words by which n-grams are filtered, if they have as many
BITS = range(16, 28)  # number of bits of a hash that a filter uses, depending on the number of n-grams


@dataclass(frozen=True, slots=True)
class Occurrence:
    """An occurrence of an indexed n-gram in a text.

    Attributes:
        size: number of words of the n-gram.
        key: index of the n-gram among those of this size.
        start: index of its first word in the text.
    """

    size: int
    key: int
    start: int


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """The distinct n-grams of one size.

    Attributes:
        hashes: (keys,) uint64, sorted.
        positions: (n-grams,) first word of every n-gram, grouped by key.
        first: (keys + 1,) index of the first position of each key, and the number of positions.
        found: (keys,) whether the n-gram has already been found.
    """

    hashes: NDArray[np.uint64]
    positions: NDArray[np.int64]
    first: NDArray[np.int64]
    found: NDArray[np.bool_]

    @classmethod
    def of(cls, hashes: NDArray[np.uint64], positions: NDArray[np.int64]) -> _Table:
        """Make a table of n-grams from their hashes and first words."""
        order = np.argsort(hashes, kind="stable")
        distinct, first = np.unique(hashes[order], return_index=True)
        return cls(distinct, positions[order], np.append(first, len(order)), np.zeros(len(distinct), np.bool_))

    def new(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The distinct keys of hashes that have not been found yet, and the first position of each."""
        keys = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        there = np.flatnonzero((self.hashes[keys] == hashes) & ~self.found[keys])
        distinct, first = np.unique(keys[there], return_index=True)
        return distinct, there[first]


@dataclass(frozen=True, slots=True, eq=False)
class _Filter:
    """A filter for n-grams with the same first words as an indexed n-gram.

    Attributes:
        possible: (2^bits,) whether an indexed n-gram has these first bits of the hash.
        shift: number of the other bits.
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
        """The indices of n-grams that pass the filter."""
        return np.flatnonzero(self.possible[hashes >> self.shift])


class NgramIndex:
    """The n-grams of examples.

    Args:
        texts: texts of the examples.
        sizes: number of words of an n-gram for each example; a shorter example is a single n-gram.
        ignored: hashes of n-grams that are ignored, and the range of texts in which they are.
    """

    def __init__(
        self,
        texts: Sequence[str],
        sizes: Sequence[int],
        ignored: Sequence[tuple[range, NDArray[np.uint64]]] = (),
    ) -> None:
        self._words, self._owners, lengths = _joined(texts)
        wanted = np.minimum(np.array(sizes, dtype=np.int64), lengths)
        ends = np.cumsum(lengths + 1) - 1  # each text is followed by a border
        self._tables: dict[int, _Table] = {}
        prefixes: dict[int, list[NDArray[np.uint64]]] = {}
        hashes = dict(_hashed(self._words.hashes, {min(size, PREFIX) for size in wanted.tolist()}))
        for size in sorted({*wanted.tolist()} - {0}):
            starts = np.flatnonzero(wanted[self._owners] == size)
            starts = starts[starts + size <= ends[self._owners[starts]]]
            whole = _extended(hashes[min(size, PREFIX)][starts], self._words.hashes, starts, size)
            owners, kept = self._owners[starts], np.ones(len(starts), np.bool_)
            for part, shared in ignored:
                first, stop = np.searchsorted(owners, [part.start, part.stop])
                kept[first:stop] = ~np.isin(whole[first:stop], shared)
            if not kept.any():
                continue
            starts, whole = starts[kept], whole[kept]
            prefixes.setdefault(min(size, PREFIX), []).append(hashes[min(size, PREFIX)][starts])
            self._tables[size] = _Table.of(whole, starts)
        self._filters = {size: _Filter.of(np.concatenate(found)) for size, found in prefixes.items()}

    @property
    def longest(self) -> int:
        """The number of words of the longest n-grams."""
        return max(self._tables, default=1)

    def occurrences(self, words: Words) -> Iterator[Occurrence]:
        """The first occurrences of n-grams that no earlier text had, in no particular order."""
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
        """The words of the n-gram of an occurrence."""
        table = self._tables[found.size]
        return self._words.between(int(table.positions[table.first[found.key]]), found.size)

    def owners(self, found: Occurrence) -> list[int]:
        """The indices of the examples that have the n-gram of an occurrence."""
        table = self._tables[found.size]
        positions = table.positions[table.first[found.key] : table.first[found.key + 1]]
        return [int(owner) for owner in np.unique(self._owners[positions])]


def shared_ngrams(texts: Sequence[str], size: int) -> NDArray[np.uint64]:
    """The hashes of the n-grams of a size that all texts have, such as words of their prompt."""
    shared: NDArray[np.uint64] | None = None
    for text in texts:
        found = np.concatenate([each for _, each in _hashed(Words.of(text).hashes, {size})] or [np.empty(0, np.uint64)])
        shared = np.unique(found) if shared is None else np.intersect1d(shared, found)
        if not len(shared):
            break
    return np.empty(0, np.uint64) if shared is None or len(texts) < 2 else shared


def _joined(texts: Sequence[str]) -> tuple[Words, NDArray[np.int64], NDArray[np.int64]]:
    """The words of all texts with a border after each, the text of each word, and the number of words of each text."""
    words = Words.of("".join(f"{text}{SEPARATOR}" for text in texts))
    borders = np.flatnonzero(words.hashes == Words.of(SEPARATOR).hashes[0])
    lengths = np.diff(borders, prepend=-1) - 1
    return words, np.repeat(np.arange(len(texts)), lengths + 1), lengths


def _hashed(values: NDArray[np.uint64], sizes: Collection[int]) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """For each size, the hashes of all n-grams of a text, given the hashes of its words."""
    hashes = values
    for size in range(1, min(max(sizes, default=0), len(values)) + 1):
        if size > 1:
            hashes = hashes[:-1] * BASE + values[size - 1 :]
        if size in sizes:
            yield size, hashes


def _extended(
    prefixes: NDArray[np.uint64], values: NDArray[np.uint64], starts: NDArray[np.int64], size: int
) -> NDArray[np.uint64]:
    """The hashes of n-grams that start at some words, given the hashes of their first words."""
    hashes = prefixes
    for offset in range(PREFIX, size):
        hashes = hashes * BASE + values[starts + offset]
    return hashes
