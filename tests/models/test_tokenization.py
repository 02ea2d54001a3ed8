from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from icl_eval.models.tokenization import LineEncoder, splits_into_words

CORPUS = [
    "The cat sat.\n\nQ: Is it true? True or False?\nA: True\n\nQ: no?!\n\nA: 12\n=====\nPassage: a-b  c\n",
    "x = y;\n\n\n    if a:\n        b()\n\ttab\r\nwindows\r\n\r\nend. \n 'quoted'\n\n(1)\n\n- one\n- two\n",
] * 4
GPT2 = None  # the byte-level splitter's own pattern
LLAMA3 = (  # newlines stay with the punctuation before them
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level(pattern: str | None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    bytes_alone = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    first = [] if pattern is None else [pre_tokenizers.Split(Regex(pattern), "isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*first, bytes_alone])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return trained(tokenizer, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False))


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return trained(tokenizer, trainers.WordPieceTrainer(special_tokens=["[UNK]"], vocab_size=200, show_progress=False))


def prefixed() -> Tokenizer:
    """As SentencePiece does it: every text begins with a space, and words are not split before merging."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=False, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return trained(tokenizer, trainers.BpeTrainer(special_tokens=["<unk>"], vocab_size=300, show_progress=False))


def metaspace() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    return trained(tokenizer, trainers.BpeTrainer(special_tokens=["<unk>"], vocab_size=300, show_progress=False))


def trained(tokenizer: Tokenizer, trainer: Any) -> Tokenizer:
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "gpt2": lambda: byte_level(GPT2),
    "llama3": lambda: byte_level(LLAMA3),
    "word_piece": word_piece,
    "prefixed": prefixed,
    "metaspace": metaspace,
}
FAST: Any = PreTrainedTokenizerFast
TOKENIZERS = {name: FAST(tokenizer_object=kind()) for name, kind in KINDS.items()}
PIECES = (
    "True",
    "Q:",
    " ",
    "\n",
    "\n\n",
    "?",
    ".",
    "!\n",
    "\r\n",
    "\t",
    "12",
    "'",
    "=====",
    "cat",
    "(",
    "é",
    "日本",
    "\u0301",
)
TEXTS = st.lists(st.lists(st.sampled_from(PIECES), max_size=30).map("".join), max_size=6)


def whole(tokenizer: Any) -> Callable[[list[str]], list[list[int]]]:
    return lambda texts: [list(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


@pytest.mark.parametrize("name", KINDS)
@given(texts=TEXTS)
@example(texts=["True?\n\nQ:", "True\n\nQ:", "a. \n\n\nb", "\n", "", "=====\n\nTrue"])
def test_line_by_line_is_as_whole(name: str, texts: list[str]) -> None:
    encode = whole(TOKENIZERS[name])
    encoder = LineEncoder(encode, splits=splits_into_words(TOKENIZERS[name]))

    for _ in range(2):
        assert encoder(texts) == (encode(texts) if texts else [])


def test_a_token_may_hold_a_space_a_word_and_the_line_break_after_it() -> None:
    def encode(texts: list[str]) -> list[list[int]]:
        return [[int.from_bytes(part.encode()) for part in re.findall(r" !\n|.", text, re.DOTALL)] for text in texts]

    texts = ["a !\nb", "a!\nb", "a ?\nb"]
    assert LineEncoder(encode, splits=True)(texts) == encode(texts)


def test_what_prompts_share_is_encoded_once() -> None:
    encoded: list[str] = []

    def encode(texts: list[str]) -> list[list[int]]:
        encoded.extend(texts)
        return whole(TOKENIZERS["gpt2"])(texts)

    demonstrations = "".join(f"Q: is {number} even?\nA: True\n\n" for number in range(50))
    encoder = LineEncoder(encode, splits=True)
    encoder([f"{demonstrations}Q: is it {number}?\nA:" for number in range(50)])
    before = sum(map(len, encoded))
    encoder([f"{demonstrations}Q: is it {number}?\nA: True" for number in range(50)])

    assert before < 8000
    assert sum(map(len, encoded)) - before < 50


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gpt2", True), ("llama3", True), ("word_piece", True), ("prefixed", False), ("metaspace", True)],
)
def test_only_tokenizers_that_split_first_go_line_by_line(name: str, expected: bool) -> None:
    assert splits_into_words(TOKENIZERS[name]) == expected


def test_what_is_remembered_is_bounded() -> None:
    encoder = LineEncoder(whole(TOKENIZERS["gpt2"]), splits=True, cache_size=100)

    for number in range(200):
        encoder([f"Q: {number}?\nA: {number}"])

    assert len(encoder._ids) < 40


@cache
def real_tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(os.environ["ICL_EVAL_MODEL"])


@pytest.mark.skipif("ICL_EVAL_MODEL" not in os.environ, reason="ICL_EVAL_MODEL names no checkpoint")
@given(texts=TEXTS)
def test_a_real_tokenizer_line_by_line_is_as_whole(texts: list[str]) -> None:
    tokenizer = real_tokenizer()

    assert LineEncoder(whole(tokenizer), splits=splits_into_words(tokenizer))(texts) == (
        whole(tokenizer)(texts) if texts else []
    )
