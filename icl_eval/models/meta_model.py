"""A causal language model with a configuration and a tokenizer but no weights: it can be planned for, not run.

It is on the meta device, so a model of any size takes no memory. Whether its rows may branch cannot be probed
without weights and is assumed from what the configuration and the classes of its layers say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch

from icl_eval.errors import ModelError
from icl_eval.models.budget import CPU_ROW_BUDGET, bytes_per_token
from icl_eval.models.causal.rows import PendingRows, Row
from icl_eval.models.causal.scheduling import RowModel
from icl_eval.models.checkpoints.special_tokens import bos_tokens, fallback_token, special_tokens, window_of
from icl_eval.models.control_tokens import ControlTokens
from icl_eval.models.decoding import GenerateRequest, TextSink
from icl_eval.models.encoder_decoder_inputs import EncoderDecoderInputs
from icl_eval.models.encoding import line_encoder
from icl_eval.models.flops import CacheSize, cache_size, count_parameters, skip_value_checks
from icl_eval.models.masked import position_count
from icl_eval.models.networks.sharing import configured_sharing, has_causal_masks
from icl_eval.models.protocol import SEQ2SEQ, Budget, LanguageModel
from icl_eval.models.seq2seq import doubles_spaces

BY_POSITION = {"bloom", "mpt"}  # they count distances by position in the row


class MetaModel(RowModel):
    """What the engine needs to know of a model to plan rows for it.

    Args:
        model: a `PreTrainedModel` with a language-model head, on the meta device.
        tokenizer: its tokenizer, or one that stands for it.
        name: its name in tables.
        device: the type of device to plan for, `cpu` or `cuda`.
        bos: whether every text begins with the BOS token; by default if the tokenizer puts it there itself.
        window: context length in tokens; by default that of the configuration.

    Attributes:
        counts: its parameters.

    Raises:
        ModelError: no window is known, or a BOS token is requested and the tokenizer has none.
    """

    def __init__(
        self, model: Any, tokenizer: Any, name: str, *, device: str, bos: bool | None = None, window: int | None = None
    ) -> None:
        self.model, self.tokenizer, self.name, self.device = model.eval(), tokenizer, name, device
        self.precision = str(model.dtype).removeprefix("torch.")
        self.fingerprint = f"{name}|meta"
        self.start = bos_tokens(tokenizer, bos)
        self.window = window_of(model.config, tokenizer, window)
        self.fallback = fallback_token(tokenizer)
        self.controls = ControlTokens(tokenizer)
        self._lines = line_encoder(tokenizer, self.controls)
        config = model.config.get_text_config()
        skip_value_checks(model)
        self._cache_size = cache(partial(cache_size, model))
        one = self._cache_size(1)
        self.counts = count_parameters(model, attention_layers=one.keys if one else int(config.num_hidden_layers))
        self.hidden_size, self.vocabulary = int(config.hidden_size), int(config.vocab_size)
        self.weights = sum(parameter.nbytes for parameter in model.parameters())
        self.token_bytes = bytes_per_token(model)
        self.queue_depth = 1
        self.state_bytes = self.cache_bytes(model.dtype) or 0
        self.budget = Budget(CPU_ROW_BUDGET if device == "cpu" else max(CPU_ROW_BUDGET, self.window))
        by_blocks = bool(getattr(model, "_supports_attention_backend", False))
        found = configured_sharing(config, has_causal_masks(model, self.window), self.window, windows=by_blocks)
        if found.works and (limit := _unshareable(config, one)):
            found = replace(found, works=False, prefix_sharing_limit=limit)
        self.shares_prefixes, self.max_shared_length = found.works, found.max_shared_length
        self.prefix_sharing_limit = found.prefix_sharing_limit
        self.caches_prefixes = found.works
        self.has_tree_attention = found.works and by_blocks

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, without special tokens."""
        return self._lines(texts)

    def decode(self, ids: Sequence[int]) -> list[str]:
        """The text of each token, for people."""
        return [self.tokenizer.decode([token]) for token in ids]

    def enqueue(self, rows: Sequence[Row]) -> PendingRows:
        """Refuse: there are no weights.

        Raises:
            ModelError: always.
        """
        raise ModelError(f"{self.name} has no weights here: {len(rows)} rows can be planned, but not computed")

    def generate(self, requests: Sequence[GenerateRequest], sink: TextSink) -> None:  # noqa: ARG002
        """Refuse: there are no weights.

        Raises:
            ModelError: always.
        """
        raise ModelError(f"{self.name} has no weights here: {len(requests)} texts can be planned, but not generated")

    def cache_bytes(self, dtype: torch.dtype, tokens: int | None = None) -> int | None:
        """Memory of the states of a sequence of `tokens` tokens, or of one more token by default; None if unknown."""
        found = [self._cache_size(size) for size in ((1, 2) if tokens is None else (tokens,))]
        sizes = [each.nbytes(dtype) for each in found if each is not None]
        if len(sizes) < len(found):
            return None
        return sizes[-1] - sizes[0] if tokens is None else sizes[0]


class TextReader(LanguageModel):
    """What texts become for a model that is not causal, and how long they may be; it answers nothing.

    Args:
        model: of `transformers`, on the meta device.
        tokenizer, name, bos, window: as for `MaskedLM` and `Seq2SeqLM`.
        family: `seq2seq` or `masked`.
    """

    def __init__(
        self, model: Any, tokenizer: Any, name: str, family: str, *, bos: bool | None = None, window: int | None = None
    ) -> None:
        self.is_encoder_decoder = family == "seq2seq"
        self.kind = SEQ2SEQ if self.is_encoder_decoder else "pll-l2r"
        self.tokenizer, self.name = tokenizer, name
        self.fingerprint, self.precision = f"{name}|text reader", "none"
        self.start, end = special_tokens(tokenizer, bos)
        self.fallback = fallback_token(tokenizer)
        self.controls = ControlTokens(tokenizer)
        self._lines = line_encoder(tokenizer, self.controls)
        self._doubles_spaces = family == "seq2seq" and doubles_spaces(tokenizer)
        self.window = window_of(model.config, tokenizer, window)
        if family == "seq2seq":
            self.window -= EncoderDecoderInputs(model, tokenizer, self.start, end).reserved
        else:
            self.window = min(self.window, position_count(model)) - len(end) - 1

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, without special tokens."""
        return self._lines([text.removeprefix(" ") for text in texts] if self._doubles_spaces else texts)

    def decode(self, ids: Sequence[int]) -> list[str]:
        """The text of each token, for people."""
        return [self.tokenizer.decode([token]) for token in ids]


def _unshareable(config: Any, one: CacheSize | None) -> str:
    """Why rows of a model may not branch, whatever sizes its configuration states; empty if they may."""
    if config.model_type in BY_POSITION or getattr(config, "alibi", False):
        return "it counts distances by position in the row"
    if one is None:
        return "it cannot be tried without weights"
    return "it has other states than keys and values" if one.others else ""
