"""Encoder and decoder of a network, run separately: contexts are encoded once for all decoder rows that use them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from icl_eval.models.generation.decoder import Entry, Tokens
from icl_eval.models.generation.search import Extension
from icl_eval.models.loading.devices import to_device
from icl_eval.models.network import Network, not_padding, padded

InputsOf = Callable[[Tokens], tuple[Tokens, Tokens]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Encoded contexts.

    Attributes:
        states: last hidden states of the encoder, (contexts, positions, hidden size).
        mask: 1 where a position is not padding, (contexts, positions).
    """

    states: torch.Tensor
    mask: torch.Tensor

    def of(self, rows: torch.Tensor) -> Encoded:
        """The context of each decoder row; `rows` has the index of its context, (N,)."""
        return Encoded(self.states.index_select(0, rows), self.mask.index_select(0, rows))


class EncoderDecoder:
    """A network of `transformers` whose encoder and decoder run separately.

    Args:
        network: the whole network.
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
        mask = to_device(not_padding(contexts), self.device)
        output = self._encoder(input_ids=self.padded(contexts), attention_mask=mask)
        return Encoded(output.last_hidden_state, mask)

    def decode(
        self, encoded: Encoded, tokens: torch.Tensor, indices: torch.Tensor, **settings: Any
    ) -> tuple[torch.Tensor, Any]:
        """Next-token logits (indices, V) in float32, and the output of the network.

        Args:
            encoded: the context of each row.
            tokens: decoder rows (N, T), padded on the right.
            indices: the indices, in the flattened rows, of the positions to score.
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
        return to_device(padded(rows, self._padding), self.device)


class EncodedDecoder:
    """Decodes hypotheses as a batch after their encoded prompts; each prompt is encoded once.

    Args:
        encoder_decoder: the network.
        inputs_of: gives the tokens of the encoder for a prompt, and the first tokens of the decoder.
    """

    joins = False  # the networks count positions from the longest hypothesis

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
    """Next-token logits (entries, V) after hypotheses of the same length, computed without a cache."""
    encoded, tokens = _inputs(encoder_decoder, inputs_of, entries)
    count, length = tokens.shape
    return encoder_decoder.decode(encoded, tokens, torch.arange(1, count + 1) * length - 1, use_cache=False)[0]


def _inputs(
    encoder_decoder: EncoderDecoder, inputs_of: InputsOf, entries: Sequence[Entry]
) -> tuple[Encoded, torch.Tensor]:
    """The encoded prompts, of which equal ones are encoded once, and the decoder inputs (entries, T)."""
    prompts = {entry.prompt.tobytes(): entry.prompt for entry in entries}
    index = {key: number for number, key in enumerate(prompts)}
    contexts, beginnings = zip(*map(inputs_of, prompts.values()), strict=True)
    owners = [index[entry.prompt.tobytes()] for entry in entries]
    rows = [np.concatenate([beginnings[owner], entry.generated]) for owner, entry in zip(owners, entries, strict=True)]
    return encoder_decoder.encode(contexts).of(
        to_device(torch.tensor(owners), encoder_decoder.device)
    ), encoder_decoder.padded(rows)
