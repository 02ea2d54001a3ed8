"""From generated tokens to text, and the tokens that end one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from icl_eval.models.generation.search import TextOf

BEFORE = 4  # tokens of the prompt that generated ones are decoded with, unless they split a character
BROKEN = "\ufffd"  # what decoders write for a part of a character


def text_after(tokenizer: Any, prompt: Sequence[int]) -> TextOf:
    """What generated tokens add to a prompt's text.

    Decoders treat the first token of a text in their own way, and a character may be spread over several, so tokens are
    decoded together with the last ones of the prompt.
    """
    size = BEFORE
    while BROKEN in (before := _decoded(tokenizer, prompt[-size:])) and size < len(prompt):
        size *= 2
    context = list(prompt[-size:])

    def text_of(tokens: Sequence[int]) -> str:
        return _decoded(tokenizer, [*context, *tokens])[len(before) :]

    return text_of


def text_alone(tokenizer: Any) -> TextOf:
    """What generated tokens are as a text of their own, as those of a decoder are that reads its prompt elsewhere."""

    def text_of(tokens: Sequence[int]) -> str:
        return _decoded(tokenizer, tokens)

    return text_of


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a text: what the model's generation settings say, and the tokenizer's."""
    said = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends = said if isinstance(said, list | tuple) else [said]
    return frozenset(int(token) for token in (*ends, tokenizer.eos_token_id) if token is not None)


def _decoded(tokenizer: Any, tokens: Sequence[int]) -> str:
    text: str = tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False)
    return text
