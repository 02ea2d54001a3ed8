"""Encode contexts once, and decode rows that attend to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from icl_eval.models.generation.decoder import Entry, Tokens
from icl_eval.models.generation.search import Extension
from icl_eval.models.loading.devices import to_device
from icl_eval.models.network import Network

InputsOf = Callable[[Tokens], tuple[Tokens, Tokens]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Encoded contexts: states (contexts, positions, width), and a mask of the positions that are not padding."""

    states: torch.Tensor
    mask: torch.Tensor

    def of(self, rows: torch.Tensor) -> Encoded:
        """The contexts that rows (N,) of a decoder attend to."""
        return Encoded(self.states.index_select(0, rows), self.mask.index_select(0, rows))


class EncoderDecoder:
    """A network of `transformers` whose encoder and decoder run separately.

    Args:
        network: both encoder_decoder and the head.
        padding: the token that pads shorter rows.
    """

    def __init__(self, network: Network, padding: int) -> None:
        self.network, self._padding = network, padding
        self._encoder = network.model.get_encoder()

    @property
    def device(self) -> torch.device:
        """The device of input tokens."""
        return self.network.device

    def encode(self, contexts: Sequence[Tokens]) -> Encoded:
        """Encode contexts, including special tokens, as one batch."""
        tokens = self.padded(contexts)
        lengths = to_device(torch.tensor([len(context) for context in contexts]), self.device)
        mask = (torch.arange(tokens.shape[1], device=self.device) < lengths[:, None]).long()
        output = self._encoder(input_ids=tokens, attention_mask=mask)
        return Encoded(output.last_hidden_state, mask)

    def decode(
        self, encoded: Encoded, tokens: torch.Tensor, indices: torch.Tensor, **settings: Any
    ) -> tuple[torch.Tensor, Any]:
        """The next-token logits (indices, V) in float32 at indices of flattened decoder rows (N, T); and the output.

        Args:
            encoded: a context for each row.
            tokens: the rows, padded on the right.
            indices: the positions to score.
            settings: further arguments of the network, such as a cache.
        """
        from transformers.modeling_outputs import BaseModelOutput

        states: Any = encoded.states
        inputs = {
            "encoder_outputs": BaseModelOutput(last_hidden_state=states),
            "attention_mask": encoded.mask,
            "decoder_input_ids": tokens,
            **settings,
        }
        return self.network.forward(inputs, indices)

    def padded(self, rows: Sequence[Tokens]) -> torch.Tensor:
        """Rows (N, longest) on the device, padded on the right."""
        tokens = torch.full((len(rows), max(map(len, rows))), self._padding, dtype=torch.long)
        for index, row in enumerate(rows):
            tokens[index, : len(row)] = torch.from_numpy(row.astype(np.int64))
        return to_device(tokens, self.device)


class EncodedDecoder:
    """Next-token logits of hypotheses after encoded prompts: prompts are encoded once, hypotheses are a batch.

    Args:
        encoder_decoder: the network.
        inputs_of: the input tokens of the encoder for a prompt, and the first ones of the decoder.
    """

    joins = False  # decoders of this kind count positions from the longest hypothesis

    def __init__(self, encoder_decoder: EncoderDecoder, inputs_of: InputsOf) -> None:
        self._encoder_decoder, self._inputs_of = encoder_decoder, inputs_of

    def enter(self, entries: Sequence[Entry]) -> torch.Tensor:
        """Next-token logits (entries, V) after hypotheses of the same length."""
        self._encoded, tokens = _inputs(self._encoder_decoder, self._inputs_of, entries)
        self._cache: Any = None
        return self._read(tokens)

    def step(self, extensions: Sequence[Extension]) -> torch.Tensor:
        """Next-token logits (extensions, V) after extended hypotheses."""
        device, rows = self._encoder_decoder.device, [each.row for each in extensions]
        if rows != list(range(len(self._encoded.states))):
            kept = to_device(torch.tensor(rows), device)
            self._encoded = self._encoded.of(kept)
            self._cache.reorder_cache(kept)
        return self._read(to_device(torch.tensor([[each.token] for each in extensions]), device))

    def _read(self, tokens: torch.Tensor) -> torch.Tensor:
        count, new = tokens.shape
        last = torch.arange(1, count + 1) * new - 1
        settings = {"use_cache": True, **({} if self._cache is None else {"past_key_values": self._cache})}
        logits, output = self._encoder_decoder.decode(self._encoded, tokens, last, **settings)
        self._cache = output.past_key_values
        return logits


def forward_uncached(encoder_decoder: EncoderDecoder, inputs_of: InputsOf, entries: Sequence[Entry]) -> torch.Tensor:
    """Next-token logits (entries, V) after hypotheses of the same length, recomputed from the first token."""
    encoded, tokens = _inputs(encoder_decoder, inputs_of, entries)
    count, length = tokens.shape
    return encoder_decoder.decode(encoded, tokens, torch.arange(1, count + 1) * length - 1, use_cache=False)[0]


def _inputs(
    encoder_decoder: EncoderDecoder, inputs_of: InputsOf, entries: Sequence[Entry]
) -> tuple[Encoded, torch.Tensor]:
    """The encoded prompts, each distinct one encoded once, and the decoder inputs, (entries, T)."""
    prompts = {entry.prompt.tobytes(): entry.prompt for entry in entries}
    index = {key: number for number, key in enumerate(prompts)}
    contexts, beginnings = zip(*map(inputs_of, prompts.values()), strict=True)
    owners = [index[entry.prompt.tobytes()] for entry in entries]
    rows = [np.concatenate([beginnings[owner], entry.generated]) for owner, entry in zip(owners, entries, strict=True)]
    return encoder_decoder.encode(contexts).of(
        to_device(torch.tensor(owners), encoder_decoder.device)
    ), encoder_decoder.padded(rows)
