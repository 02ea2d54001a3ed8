"""The bundled tokenizer: lossless on any text, silent about special tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from icl_eval.tiny import MODEL
from tools.tiny.symbols import LABELS
from tools.tiny.world import WORDS

TOKENIZER = AutoTokenizer.from_pretrained(MODEL)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_decoding_gives_back_any_text(text: str) -> None:
    ids = TOKENIZER(text)["input_ids"]

    assert text == TOKENIZER.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def test_every_byte_has_a_token() -> None:
    assert len([token for token in TOKENIZER.get_vocab() if len(token) == 1]) == 256


def test_no_special_token_is_added() -> None:
    assert TOKENIZER("a b")["input_ids"] == TOKENIZER("a b", add_special_tokens=False)["input_ids"]
    assert TOKENIZER.bos_token == TOKENIZER.eos_token == "<|endoftext|>"


def test_symbols_and_labels_are_single_tokens() -> None:
    words = [*WORDS, *(f" {label}" for label in LABELS), " ->"]

    assert dict.fromkeys(words, 1) == {word: len(TOKENIZER.tokenize(word)) for word in words}
