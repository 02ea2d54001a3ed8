"""Decode generated tokens to text; the tokens that end a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from icl_eval.models.generation.search import TextOf

BEFORE = 4  # tokens of the prompt that are decoded with the generated ones; more if these split a character
BROKEN = "\ufffd"  # what tokenizers decode a part of a character to


def text_after(tokenizer: Any, prompt: Sequence[int]) -> TextOf:
    """A function that decodes generated tokens to the text that they add to a prompt.

    Tokenizers may decode the first token of a text differently, and a character may span several tokens, so generated
    tokens are decoded together with the last tokens of the prompt.
    """
    size = BEFORE
    while BROKEN in (before := _decoded(tokenizer, prompt[-size:])) and size < len(prompt):
        size *= 2
    context = list(prompt[-size:])

    def text_of(tokens: Sequence[int]) -> str:
        return _decoded(tokenizer, [*context, *tokens])[len(before) :]

    return text_of


def text_alone(tokenizer: Any) -> TextOf:
    """A function that decodes generated tokens by themselves, for encoder-decoders."""

    def text_of(tokens: Sequence[int]) -> str:
        return _decoded(tokenizer, tokens)

    return text_of


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a text: those of the generation config, and the EOS token of the tokenizer."""
    eos = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends = eos if isinstance(eos, list | tuple) else [eos]
    return frozenset(int(token) for token in (*ends, tokenizer.eos_token_id) if token is not None)


def _decoded(tokenizer: Any, tokens: Sequence[int]) -> str:
    text: str = tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False)
    return text
