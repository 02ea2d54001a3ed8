from __future__ import annotations

from typing import Any

import pytest
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from icl_eval.models.tokenization import end_tokens, text_after

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
