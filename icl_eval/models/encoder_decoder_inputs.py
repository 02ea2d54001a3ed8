"""The inputs of both halves of an encoder-decoder: special tokens, forced tokens, and T5's sentinels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from icl_eval.errors import ModelError
from icl_eval.models.generation.text import end_tokens
from icl_eval.models.generation.trie import Tokens

BLANK, NEXT_BLANK = (
    "<extra_id_0>",
    "<extra_id_1>",
)  # T5's sentinels: the text of a blank follows its sentinel, up to the next one


class EncoderDecoderInputs:
    """The input tokens of encoder and decoder for a context, and the tokens that end a text after it.

    Args:
        model, tokenizer: of `transformers`.
        start, end: the special tokens that the tokenizer adds around a text.

    Attributes:
        decoder_start: the tokens that the decoder begins with, except after a context with a blank.

    Raises:
        ModelError: the start token of the decoder is unknown.
    """

    def __init__(self, model: Any, tokenizer: Any, start: tuple[int, ...], end: tuple[int, ...]) -> None:
        self._model, self._tokenizer, self._end = model, tokenizer, end
        self.decoder_start = _beginning(model, start)
        self._blank, self._next_blank = _sentinel(tokenizer, BLANK), _sentinel(tokenizer, NEXT_BLANK)

    def __str__(self) -> str:
        """Part of fingerprints."""
        return f"begin{'.'.join(map(str, self.decoder_start))}|end{'.'.join(map(str, self._end))}"

    @property
    def reserved(self) -> int:
        """Tokens that a window needs in addition to those of a context or a continuation."""
        return max(len(self._end), len(self.decoder_start) - 1, 1 if self._blank is not None else 0)

    def inputs_of(self, context: Tokens) -> tuple[Tokens, Tokens]:
        """The encoder input for a context, and the first tokens of the decoder."""
        has_ended = tuple(context[len(context) - len(self._end) :]) == self._end  # as the fallback token may have
        read = context if has_ended else np.concatenate([context, np.array(self._end, np.int32)])
        decoder_start = (self.decoder_start[0], self._blank) if self._has_blank(context) else self.decoder_start
        return read, np.array(decoder_start, np.int32)

    def ends_after(self, prompt: Tokens) -> frozenset[int]:
        """The tokens that end a generated text; after a prompt with a blank, also the next sentinel."""
        usual = end_tokens(self._model, self._tokenizer)
        return usual | {self._next_blank} if self._next_blank is not None and self._has_blank(prompt) else usual

    def _has_blank(self, context: Tokens) -> bool:
        return self._blank is not None and bool((context == self._blank).any())


def _beginning(model: Any, start: tuple[int, ...]) -> tuple[int, ...]:
    """The tokens that a decoder begins with."""
    settings = (model.generation_config, model.config)
    first = _setting("decoder_start_token_id", settings)
    if first is None:
        first = _setting("bos_token_id", settings)
    if first is None:
        raise ModelError("the model's configuration does not say which token its decoder begins with")
    forced = _setting("forced_bos_token_id", settings)
    return (first, *start) if forced is None else (first, forced)


def _setting(name: str, settings: Sequence[Any]) -> int | None:
    found = (getattr(each, name, None) for each in settings)
    return next((int(token) for token in found if isinstance(token, int)), None)


def _sentinel(tokenizer: Any, word: str) -> int | None:
    token = tokenizer.get_vocab().get(word)
    return None if token is None else int(token)
