"""Similarity of candidates and queries: Okapi BM25, or the cosine of TF-IDF vectors or of vectors from an encoder.

All three are products of the vectors of queries and candidates. They are computed for a block of queries at a time, so
that memory only depends on the number of candidates.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_eval.tasks.example import Example
from icl_eval.tasks.records import ids_of

UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Scripts without spaces between words, such as Thai, Japanese and Chinese: each character counts as a word."""
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
K1, B = 1.5, 0.75  # parameters of BM25: saturation of repeated words, and discount of long texts
BLOCK_SCORES = 2**23  # maximum number of scores of a block of queries: 32 MiB
BLOCK_QUERIES = 64

Encoder = Callable[[Sequence[str]], NDArray[np.float32]]
"""Vectors of texts, (texts, dimensions)."""


@dataclass(frozen=True, slots=True)
class Similarity:
    """The vectors of candidates, and the function that computes those of queries.

    Attributes:
        candidates: (candidates, dimensions), float32, dense or sparse.
        embed: computes the vectors of queries, (queries, dimensions), dense.
    """

    candidates: Any
    embed: Encoder

    def scores(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The similarity of each query and each candidate, (queries, candidates)."""
        return np.ascontiguousarray((self.candidates @ np.ascontiguousarray(self.embed(texts).T)).T)

    def between(self, candidates: NDArray[np.intp]) -> NDArray[np.float32]:
        """The similarity of every two of these candidates, (candidates, candidates)."""
        chosen = self.candidates[candidates]
        found = chosen @ chosen.T
        return found if isinstance(found, np.ndarray) else np.asarray(found.toarray())


def bm25(texts: Sequence[str]) -> Similarity:
    """Okapi BM25 (Robertson et al. 1994) with k1 = 1.5, b = 0.75 and the idf of Lucene, which is never negative.

    The score is the sum of `idf tf (k1 + 1) / (tf + k1 (1 - b + b length / mean length))` over the words of the query,
    including repeated ones, where `idf = ln(1 + (n - df + 1/2) / (df + 1/2))`. tf is the number of occurrences of the
    word in the candidate, and df is the number of the n candidates that contain it (Kamphuis et al. 2020 compare
    variants).
    """
    vocabulary, counts = _vocabulary(texts)
    lengths = np.asarray(counts.sum(axis=1), dtype=np.float64)
    saturation = K1 * (1 - B + B * lengths / max(lengths.mean(), 1))
    occurrences, counted_in = counts.data.astype(np.float64), _documents(counts)
    idf = np.log1p((len(texts) - counted_in + 0.5) / (counted_in + 0.5))
    weights = idf[counts.indices] * occurrences * (K1 + 1)
    weights /= occurrences + np.repeat(saturation, np.diff(counts.indptr))
    counts.data = weights.astype(np.float32)
    return Similarity(counts, lambda queries: np.asarray(_counts(queries, vocabulary).toarray()))


def tfidf(texts: Sequence[str]) -> Similarity:
    """The cosine of TF-IDF vectors, with idf `ln((1 + n) / (1 + df)) + 1` as in scikit-learn."""
    vocabulary, counts = _vocabulary(texts)
    idf = (np.log((1 + len(texts)) / (1 + _documents(counts))) + 1).astype(np.float32)
    counts.data *= idf[counts.indices]
    squares = np.asarray(counts.multiply(counts).sum(axis=1))
    counts.data /= np.repeat(np.sqrt(np.where(squares, squares, 1)), np.diff(counts.indptr)).astype(np.float32)
    return Similarity(counts, lambda queries: _normalized(_counts(queries, vocabulary).toarray() * idf))


def encoded(texts: Sequence[str], encode: Encoder) -> Similarity:
    """The cosine of the vectors of an encoder."""
    return Similarity(_normalized(encode(texts)), lambda queries: _normalized(encode(queries)))


class QueryScores:
    """The similarity of each query and all candidates.

    Args:
        similarity: the similarity of texts and candidates.
        text_of: returns the text of a query.
        queries: the queries that will be looked up, in this order.
    """

    def __init__(self, similarity: Similarity, text_of: Callable[[Example], str], queries: Sequence[Example]) -> None:
        self.similarity, self._text_of, self._queries = similarity, text_of, queries
        self._index_of = {id: index for index, id in enumerate(ids_of(queries))}
        self._size = max(1, min(BLOCK_QUERIES, BLOCK_SCORES // similarity.candidates.shape[0]))
        self._start, self._rows = -1, np.empty((0, 0), np.float32)  # of the block that was computed last

    def of(self, query: Example) -> NDArray[np.float32]:
        """The similarity of a query and each candidate, (candidates,)."""
        index = self._index_of.get(query.id)
        if index is None:
            rows, row = self.similarity.scores([self._text_of(query)]), 0
        else:
            row = index % self._size
            rows = self._block(index - row)
        scores: NDArray[np.float32] = rows[row]
        return scores

    def _block(self, start: int) -> NDArray[np.float32]:
        if self._start != start:
            texts = [self._text_of(each) for each in self._queries[start : start + self._size]]
            self._start, self._rows = start, self.similarity.scores(texts)
        return self._rows


def words(text: str) -> list[str]:
    """The words of a text, regardless of letter case and compatible Unicode forms."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _vocabulary(texts: Sequence[str]) -> tuple[dict[str, int], Any]:
    """The index of each word, in alphabetical order; and the count of each word in each text, (texts, words)."""
    known: defaultdict[str, int] = defaultdict()
    known.default_factory = known.__len__
    counts = _counts(texts, known)
    order = {word: index for index, word in enumerate(sorted(known))}
    renumbered = np.array([order[word] for word in known], dtype=np.int32)
    counts = type(counts)((counts.data, renumbered[counts.indices], counts.indptr), shape=counts.shape)
    counts.sort_indices()  # so that sums do not depend on the order of texts
    return order, counts


def _counts(texts: Sequence[str], known: Mapping[str, int]) -> Any:
    """The count of each known word in each text: a sparse array (texts, words) of float32."""
    from scipy.sparse import csr_array

    columns, ends = array("i"), array("q", [0])
    for text in texts:
        found = words(text)
        if not isinstance(known, defaultdict):
            found = [word for word in found if word in known]
        columns.extend([known[word] for word in found])
        ends.append(len(columns))
    ones = np.ones(len(columns), dtype=np.float32)
    shape = (len(texts), max(len(known), 1))
    counts = csr_array((ones, np.frombuffer(columns, np.int32), np.frombuffer(ends, np.int64)), shape=shape)
    counts.sum_duplicates()
    return counts


def _documents(counts: Any) -> NDArray[np.intp]:
    """The number of texts that contain each word, (words,)."""
    return np.bincount(counts.indices, minlength=counts.shape[1])


def _normalized(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors, scaled to length 1; those of length 0 are unchanged."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths, lengths, 1), dtype=np.float32)
