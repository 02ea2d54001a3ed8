from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import pytest
import transformers as hf
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from icl_eval.models.tokenization import BROKEN, StopTokens, end_tokens, text_after
from icl_eval.tiny import MODEL

from .architectures import build
from .checkpoints import byte_tokenizer


def words_tokenizer() -> Any:
    """Tokens that begin with the space before them, and bytes for what is no token, as Llama's tokenizer has them."""
    names = ["<s>", "</s>", "<unk>", "▁blue", "▁sky", ".", "is", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[], byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    kind: Any = hf.PreTrainedTokenizerFast
    return kind(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def bytes_of(text: str) -> list[int]:
    """Fallback tokens of `words_tokenizer`."""
    return [7 + byte for byte in text.encode()]


@pytest.mark.parametrize("prompt", ["a", "Q: è", "😀", "a" * 50, "😀" * 9])
@pytest.mark.parametrize("text", ["", " x", "é", "\n", "😀😀\n"])
def test_text_after_a_prompt_is_what_was_generated(prompt: str, text: str) -> None:
    tokenizer = byte_tokenizer()
    ids = [tokenizer(each)["input_ids"] for each in (prompt, text)]

    assert text_after(tokenizer, ids[0])(ids[1]) == text


@pytest.mark.parametrize("prompt", [[0], [4], [0, 4, 5], [3, *bytes_of("é")], bytes_of("中" * 9), [0, *bytes_of("\n")]])
def test_the_space_before_the_first_word_is_kept(prompt: list[int]) -> None:
    tokenizer = words_tokenizer()

    assert tokenizer.decode([3]) == "blue"
    assert text_after(tokenizer, [5, *prompt])([3, 4, 5]) == " blue sky."
    assert text_after(tokenizer, [5, *prompt])([6, *bytes_of("é中"), 3]) == "isé中 blue"


PIECES: list[str] = [
    *("<s>", "</s>", "<unk>", "▁blue", "▁", "▁.", "##s", "s##", ".\n", "a", "\n\n", ":", "é", "..", "Q", "'", "##'"),
    *(f"<0x{byte:02X}>" for byte in range(256)),
]
TOKENIZERS: dict[str, Callable[[], Any]] = {
    "byte-level BPE": partial(hf.AutoTokenizer.from_pretrained, MODEL),
    "bytes": byte_tokenizer,
    "BPE with byte fallback": words_tokenizer,
    "unigram with byte fallback": lambda: pieces_tokenizer(
        models.Unigram([(name, -1.0) for name in PIECES], 2, True),
        decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]),
    ),
    "unigram": lambda: pieces_tokenizer(models.Unigram([(name, -1.0) for name in PIECES], 2), decoders.Metaspace()),
    "WordPiece": lambda: pieces_tokenizer(
        models.WordPiece({name: index for index, name in enumerate(PIECES)}, unk_token="<unk>"), decoders.WordPiece()
    ),
    "words with suffixes": lambda: pieces_tokenizer(
        models.BPE({name: index for index, name in enumerate(PIECES)}, []), decoders.BPEDecoder(suffix="##")
    ),
    "words": lambda: pieces_tokenizer(
        models.WordLevel({name: index for index, name in enumerate(PIECES)}, unk_token="<unk>"), None
    ),
}
STOPS = ["\n", "\n\n", "Q:", ".", "é", "s", " ", "a ", "\ufffd", "中", "s a", ". a", "\né", "A", "</s>", "'s"]


def pieces_tokenizer(model: Any, decoder: Any) -> Any:
    tokenizer = Tokenizer(model)
    if decoder is not None:
        tokenizer.decoder = decoder
    kind: Any = hf.PreTrainedTokenizerFast
    return kind(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@cache
def tokenizer_and_common(name: str) -> tuple[Any, list[int]]:
    """A tokenizer, and tokens that often complete a stop string or a character."""
    tokenizer = TOKENIZERS[name]()
    texts = ["".join(STOPS), *STOPS, "a blue sky.", "中é\n"]
    return tokenizer, sorted({token for text in texts for token in tokenizer(text)["input_ids"]} | {3, 4, 6, 8, 9})


@pytest.mark.parametrize("name", TOKENIZERS)
@given(data=st.data(), stops=st.lists(st.sampled_from(STOPS), min_size=1, max_size=2, unique=True))
def test_no_token_completes_a_stop_string_unless_it_may(name: str, stops: list[str], data: st.DataObject) -> None:
    """Whole texts are decoded after each token, up to the first one with a stop string."""
    tokenizer, common = tokenizer_and_common(name)
    tokens = data.draw(st.lists(st.sampled_from(common) | st.integers(0, len(tokenizer) - 1), min_size=1, max_size=9))
    may_stop, text_of = StopTokens(tokenizer).of(stops), text_after(tokenizer, common[:3])

    texts = (text_of(tokens[: count + 1]) for count in range(len(tokens)))
    first = next((count for count, text in enumerate(texts) if any(stop in text for stop in stops)), None)

    assert first is None or may_stop(tokens[first])


@pytest.mark.parametrize(
    ("name", "tokens", "stop"),
    [
        ("words with suffixes", ["s##", "a"], " "),
        ("BPE with byte fallback", ["<0xC3>", "<0xA9>"], "é"),
        ("unigram with byte fallback", ["<0xC3>", "<0xA9>"], "é"),
        ("unigram with byte fallback", ["<0xA9>"], BROKEN),
    ],
)
def test_a_token_may_complete_what_it_does_not_contain(name: str, tokens: list[str], stop: str) -> None:
    tokenizer, _ = tokenizer_and_common(name)
    ids = tokenizer.convert_tokens_to_ids(tokens)

    assert stop in tokenizer.decode(ids)
    assert stop not in tokenizer.decode(ids[:-1])
    assert StopTokens(tokenizer).of([stop])(ids[-1])


def test_few_tokens_may_complete_a_line_break() -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(MODEL)
    may_stop = StopTokens(tokenizer).of(["\n", "\n\n"])

    assert {token for token in range(len(tokenizer)) if may_stop(token)} == {
        token for token in range(len(tokenizer)) if "\n" in tokenizer.decode([token])
    }


def test_any_token_of_a_tokenizer_in_python_may_complete_a_stop_string() -> None:
    """It may strip the end of a text, which another token then shows."""
    assert all(map(StopTokens(SimpleNamespace(is_fast=False)).of(["\n"]), range(20)))


def test_spaces_before_punctuation_are_not_cleaned_up() -> None:
    tokenizer = byte_tokenizer(clean_up_tokenization_spaces=True)

    assert text_after(tokenizer, tokenizer("a")["input_ids"])(tokenizer(" b .")["input_ids"]) == " b ."


def test_the_tokens_that_end_a_text_are_the_models_and_the_tokenizers() -> None:
    model = build("llama")

    assert end_tokens(model, byte_tokenizer()) == {1, 2}
    model.generation_config.eos_token_id = [2, 9]
    assert end_tokens(model, byte_tokenizer()) == {1, 2, 9}
    model.generation_config.eos_token_id = None
    assert end_tokens(model, byte_tokenizer(eos_token=None)) == frozenset()
