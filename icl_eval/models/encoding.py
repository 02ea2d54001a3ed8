"""Encode texts to token ids line by line, so that lines of many prompts are encoded once.

A tokenizer that first splits a text into words encodes a line independently of the text before it, unless it joins the
line break to the word before. The two words on either side of the break show whether it does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from typing import Any

from icl_eval.models.control_tokens import PLAIN, ControlTokens

FIRST = re.compile(r"\s*\S*")
SPLITTING = {"BPE", "WordPiece", "WordLevel"}  # models that never look beyond a word
REMEMBERED = 2**24  # characters of lines and pairs of lines; then the cache is cleared

Encode = Callable[[list[str]], list[list[int]]]


class LineEncoder:
    """Encodes texts exactly as the tokenizer encodes whole texts.

    Args:
        encode: the tokenizer, without special tokens.
        splits: whether it first splits texts into words; otherwise it gets whole texts.
    """

    def __init__(self, encode: Encode, *, splits: bool) -> None:
        self._encode, self._splits = encode, splits
        self._clear()

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of every text."""
        if not texts or not self._splits:
            return self._encode(list(texts)) if texts else []
        if self._size > REMEMBERED:
            self._clear()
        cuts = [_last_line(text) for text in texts]
        lines = {front: _lines(front) for front in {front for front, _ in cuts}}
        ends = {(lines[front][-1], last) for front, last in cuts}
        pairs = ends.union(*map(pairwise, lines.values()))
        self._compare({pair for pair in pairs if pair not in self._parts})
        joined = {front: self._joined(each) for front, each in lines.items()}
        wholes = [self._continued(joined[front], lines[front][-1], last) for front, last in cuts]
        self._encode_new(dict.fromkeys(chain.from_iterable(wholes)))
        return [list(chain.from_iterable(map(self._ids.__getitem__, whole))) for whole in wholes]

    def _clear(self) -> None:
        self._ids: dict[str, list[int]] = {}
        self._parts: dict[tuple[str, str], bool] = {}  # whether two lines are encoded like each by itself
        self._parts_words: dict[tuple[str, str], bool] = {}  # the same for the words at their ends
        self._size = 0

    def _compare(self, pairs: set[tuple[str, str]]) -> None:
        words = {pair: (_last_word(pair[0]), _first_word(pair[1])) for pair in pairs}
        new = [each for each in dict.fromkeys(words.values()) if each not in self._parts_words]
        if new:
            ids = iter(self._encode([text for left, right in new for text in (left, right, left + right)]))
            self._parts_words.update((each, next(ids) + next(ids) == next(ids)) for each in new)
        self._parts.update((pair, self._parts_words[each]) for pair, each in words.items())
        self._size += sum(len(left) + len(right) for left, right in pairs)

    def _joined(self, lines: list[str]) -> list[str]:
        """The lines, joined where they cannot be encoded separately."""
        joined = lines[:1]
        for pair in pairwise(lines):
            if self._parts[pair]:
                joined.append(pair[1])
            else:
                joined[-1] += pair[1]
        return joined

    def _continued(self, joined: list[str], before: str, last: str) -> list[str]:
        """The lines with one more, which follows the line `before`."""
        return [*joined, last] if self._parts[before, last] else [*joined[:-1], joined[-1] + last]

    def _encode_new(self, lines: dict[str, None]) -> None:
        new = [line for line in lines if line not in self._ids]
        if new:
            self._ids.update(zip(new, self._encode(new), strict=True))
            self._size += sum(map(len, new))


def _last_line(text: str) -> tuple[str, str]:
    """A text as all but its last line, and that with the line breaks before it."""
    end = len(text[: text.rfind("\n") + 1].rstrip())
    return text[:end], text[end:]


def _lines(text: str) -> list[str]:
    """Lines with the line breaks before them; blank ones, and ones behind a space, belong to the line before."""
    lines = []
    line, *others = text.split("\n")
    for other in others:
        if line and not line[-1].isspace():
            lines.append(line)
            line = f"\n{other}"
        else:
            line = f"{line}\n{other}"
    return [*lines, line]


def _last_word(line: str) -> str:
    """With the space before it, which may belong to it."""
    (word,) = line.split()[-1:] or [""]
    return line[max(len(line) - len(word) - 1, 0) :]


def _first_word(line: str) -> str:
    """With the line breaks before it."""
    found = FIRST.match(line)
    return found[0] if found else line


def splits_into_words(tokenizer: Any) -> bool:
    """Whether a tokenizer of `transformers` is of a kind that looks at one word at a time."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend is not None and backend.pre_tokenizer is not None and type(backend.model).__name__ in SPLITTING


def line_encoder(tokenizer: Any, controls: ControlTokens) -> LineEncoder:
    """The encoder of a tokenizer of `transformers`, without special tokens; names that `controls` marked stay text."""

    def encode(texts: list[str]) -> list[list[int]]:
        encoded: list[list[int]] = tokenizer(texts, **PLAIN)["input_ids"]
        marked = [index for index, text in enumerate(texts) if controls.has_marks(text)]
        if marked:
            for index, ids in zip(marked, controls.encode([texts[index] for index in marked]), strict=True):
                encoded[index] = ids
        return encoded

    return LineEncoder(encode, splits=splits_into_words(tokenizer))


def tokenizer_digest(tokenizer: Any) -> str:
    """Hash of a tokenizer of `transformers`, with its BOS and EOS tokens."""
    described = (
        tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else str(sorted(tokenizer.get_vocab().items()))
    )
    words = f"{described}:{tokenizer.bos_token_id}:{tokenizer.eos_token_id}"
    return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()
