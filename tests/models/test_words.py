from __future__ import annotations

from typing import Any

import pytest

from icl_eval.models.masked import Words

from .checkpoints import letter_tokenizer
from .kinds import byte_level, sentencepiece, unigram, wordpiece


def words_of(tokenizer: Any, text: str) -> list[list[str]]:
    """The pieces of a text's words."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces, words, begin = tokenizer.convert_ids_to_tokens(ids), [], 0
    ends = Words(tokenizer).ends(ids)
    while begin < len(ids):
        assert set(ends[begin : ends[begin]]) == {ends[begin]}
        words.append(pieces[begin : ends[begin]])
        begin = ends[begin]
    return words


@pytest.mark.parametrize(
    ("tokenizer", "text", "words"),
    [
        (wordpiece(), "unlikely, no", [["un", "##like", "##ly"], [","], ["no"]]),
        (wordpiece(), "(so)", [["("], ["s", "##o"], [")"]]),
        (byte_level(), " sky no", [["Ġ", "sk", "y"], ["Ġno"]]),
        (byte_level(), " yesing. no", [["Ġyes", "ing"], ["."], ["Ġno"]]),
        (byte_level(), "a\nb", [["a"], ["Ċ"], ["b"]]),
        (byte_level(), "né", [["n", "Ã", "©"]]),
        (byte_level(), "(no)", [["("], ["n", "o"], [")"]]),
        (sentencepiece(), "blueness yes", [["▁blue", "ness"], ["▁yes"]]),
        (sentencepiece(), "blue–ab.", [["▁blue"], ["–"], ["a", "b"], ["."]]),
        (sentencepiece(), "ané", [["▁", "a", "n", "é"]]),
        (unigram(), "skyness is", [["▁sky", "ness"], ["▁is"]]),
    ],
)
def test_words_are_found_from_their_pieces(tokenizer: Any, text: str, words: list[list[str]]) -> None:
    assert words_of(tokenizer, text) == words


def test_where_nothing_marks_words_every_token_is_one() -> None:
    assert Words(letter_tokenizer()).ends([5, 6, 7]) == [1, 2, 3]


def test_special_tokens_are_words() -> None:
    tokenizer = wordpiece()
    ids = tokenizer.convert_tokens_to_ids(["un", "[MASK]", "##ly"])

    assert Words(tokenizer).ends(ids) == [1, 2, 3]
