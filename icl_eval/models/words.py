"""Which tokens of a text belong to one word, told from the vocabulary alone."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

BYTES, PIECES, WORDS = "Ġ", "▁", "##"  # of byte-level BPE and SentencePiece: a word begins; of WordPiece: it goes on
BLANKS = "ĠĊĉč"  # what byte-level BPE writes for space, line feed, tab and carriage return


class Words:
    """The words of a vocabulary of WordPiece, byte-level BPE or SentencePiece.

    A token goes on with the word before if nothing marks it as a word's beginning and letters or digits stand on both
    sides of the border. So punctuation is a word of its own, also where a vocabulary does not part it by a mark. In
    vocabularies that mark nothing every token is a word.

    Args:
        tokenizer: decided once, for all its tokens.
    """

    def __init__(self, tokenizer: Any) -> None:
        pieces = [piece or "" for piece in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))]
        mark = _mark(pieces)
        special = set(tokenizer.all_special_tokens)
        goes_on = [mark != "" and piece not in special and _goes_on(piece, mark) for piece in pieces]
        is_open = [mark != "" and piece not in special and _is_open(piece, mark) for piece in pieces]
        self._goes_on, self._is_open = np.array(goes_on, np.bool_), np.array(is_open, np.bool_)

    def ends(self, tokens: Sequence[int]) -> list[int]:
        """For each token the place after the last one of its word."""
        ends = [len(tokens)] * len(tokens)
        for place in range(len(tokens) - 2, -1, -1):
            joined = self._is_open[tokens[place]] and self._goes_on[tokens[place + 1]]
            ends[place] = ends[place + 1] if joined else place + 1
        return ends


def _mark(pieces: Sequence[str]) -> str:
    """The mark that most tokens have."""
    counts = Counter(mark for piece in pieces for mark in (BYTES, PIECES, WORDS) if _is_marked(piece, mark))
    return counts.most_common(1)[0][0] if counts else ""


def _is_marked(piece: str, mark: str) -> bool:
    return piece.startswith(mark) and len(piece) > len(mark)


def _goes_on(piece: str, mark: str) -> bool:
    if mark == WORDS:
        return _is_marked(piece, mark)
    return not piece.startswith(mark) and _is_letter(piece[:1], mark)


def _is_open(piece: str, mark: str) -> bool:
    """Whether letters may follow in the same word: after letters, and after a mark that is a token of its own."""
    return piece == mark or _is_letter(piece[-1:], mark)


def _is_letter(character: str, mark: str) -> bool:
    """Whether a character is one of words; of byte-level ones every byte beyond ASCII counts as such."""
    if mark == BYTES and not character.isascii():
        return character not in BLANKS
    return unicodedata.category(character)[0] in "LMN" if character else False
