"""Search for indexed n-grams in passages, about a million characters at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate

from icl_eval.ngrams.corpus import Passage
from icl_eval.ngrams.index import NgramIndex, Occurrence
from icl_eval.ngrams.words import SEPARATOR, Words

BATCH = 2**20  # characters


def search(
    index: NgramIndex, passages: Iterable[Passage], *, batch_size: int = BATCH
) -> Iterator[tuple[Occurrence, Passage]]:
    """The first occurrences of indexed n-grams in passages.

    Args:
        index: the n-grams.
        passages: the texts.
        batch_size: number of characters that are searched together.

    Yields:
        The occurrence, and the passage from its first word on; a record is yielded as a whole.
    """
    batch: list[Passage] = []
    length = 0
    for passage in passages:
        batch.append(passage)
        length += len(passage.text)
        if length >= batch_size:
            yield from _found(index, batch)
            batch, length = [], 0
    yield from _found(index, batch)


def _found(index: NgramIndex, batch: list[Passage]) -> Iterator[tuple[Occurrence, Passage]]:
    words = Words.of(SEPARATOR.join(each.text for each in batch))
    begins = [0, *accumulate(len(each.text) + len(SEPARATOR) for each in batch)]
    for each in sorted(index.occurrences(words), key=lambda found: found.start):
        character = int(words.starts[each.start])
        number = bisect_right(begins, character) - 1
        passage = batch[min(number, len(batch) - 1)]
        yield each, passage if passage.is_record else passage.after(passage.text[: character - begins[number]])
