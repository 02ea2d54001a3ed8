"""Determine which tokens of a text belong to one word, from the vocabulary only."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

BYTES, PIECES, WORDS = "Ġ", "▁", "##"  # of byte-level BPE and SentencePiece: a word begins; of WordPiece: it continues
BLANKS = "ĠĊĉč"  # what byte-level BPE writes for space, line feed, tab and carriage return


class Words:
    """The words of a vocabulary of WordPiece, byte-level BPE or SentencePiece.

    A token continues the word before it if no mark says that a word begins and there are letters or digits on both
    sides of the border. So punctuation is a separate word, even in vocabularies that do not mark it. In vocabularies
    without marks, every token is a word.

    Args:
        tokenizer: all its tokens are classified once.
    """

    def __init__(self, tokenizer: Any) -> None:
        pieces = [piece or "" for piece in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))]
        mark = _mark(pieces)
        special = set(tokenizer.all_special_tokens)
        continues = [mark != "" and piece not in special and _continues(piece, mark) for piece in pieces]
        is_open = [mark != "" and piece not in special and _is_open(piece, mark) for piece in pieces]
        self._continues, self._is_open = np.array(continues, np.bool_), np.array(is_open, np.bool_)

    def ends(self, tokens: Sequence[int]) -> list[int]:
        """For each token the index after the last token of its word."""
        ends = [len(tokens)] * len(tokens)
        for index in range(len(tokens) - 2, -1, -1):
            joined = self._is_open[tokens[index]] and self._continues[tokens[index + 1]]
            ends[index] = ends[index + 1] if joined else index + 1
        return ends


def _mark(pieces: Sequence[str]) -> str:
    """The mark that most tokens have."""
    counts = Counter(mark for piece in pieces for mark in (BYTES, PIECES, WORDS) if _is_marked(piece, mark))
    return counts.most_common(1)[0][0] if counts else ""


def _is_marked(piece: str, mark: str) -> bool:
    return piece.startswith(mark) and len(piece) > len(mark)


def _continues(piece: str, mark: str) -> bool:
    if mark == WORDS:
        return _is_marked(piece, mark)
    return not piece.startswith(mark) and _is_letter(piece[:1], mark)


def _is_open(piece: str, mark: str) -> bool:
    """Whether letters may follow in the same word: after letters, and after a mark that is a token itself."""
    return piece == mark or _is_letter(piece[-1:], mark)


def _is_letter(character: str, mark: str) -> bool:
    """Whether a character belongs to words; of byte-level ones, every byte beyond ASCII does."""
    if mark == BYTES and not character.isascii():
        return character not in BLANKS
    return unicodedata.category(character)[0] in "LMN" if character else False
