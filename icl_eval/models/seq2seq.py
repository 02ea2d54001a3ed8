"""Encoder-decoder language models of `transformers`: the encoder reads a context, the decoder scores continuations.

A context is encoded once for all its continuations. Log-softmax is computed in float32, whatever the type of the
weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from icl_eval.errors import ModelError
from icl_eval.models.decoding import GenerateRequest, TextSink
from icl_eval.models.generation.decoder import Tokens
from icl_eval.models.generation.encoder_decoder import Encoded, EncoderDecoder
from icl_eval.models.generation.generation import Generation, Limits
from icl_eval.models.generation.probing import seq2seq_generation
from icl_eval.models.loading.devices import to_device
from icl_eval.models.network import LocalModel, full_device, ordinary_tokens, token_logprobs
from icl_eval.models.protocol import LOGITS, SEQ2SEQ, ScoreAnswer, ScoreRequest, Sink
from icl_eval.models.tokenization import end_tokens, special_tokens, window_of

ARITHMETIC = 2  # increased with every change after which the same tokens may get another answer
RULES = rf"seq2seq\|bos\d+\|begin[\d.]+\|end[\d.]*\|arithmetic{ARITHMETIC}"  # the last part of a fingerprint

Waiting = dict[bytes, list[int]]  # contexts, and the indices of their requests
SENTINEL, NEXT_SENTINEL = "<extra_id_0>", "<extra_id_1>"
"""Sentinel tokens of T5: one stands for a gap in the input; in the output, the text of the gap is between the two."""


class Seq2SeqLM(LocalModel):
    """An encoder-decoder language model.

    The encoder reads the context with the special tokens that the tokenizer adds before and after a text. The decoder
    begins with its start token. The next token is the one that the checkpoint forces, if it does, or else the special
    tokens that the tokenizer adds before a text; if the context contains T5's `<extra_id_0>`, it is this token. The end
    of the text is not scored.

    Args:
        model: a `PreTrainedModel` with an encoder, a decoder and a language-model head.
        tokenizer: its tokenizer.
        name: the name in tables.
        fingerprint: identifies weights, precision and tokenizer.
        bos: False leaves out the special tokens that the tokenizer adds before a text.
        window: context length of encoder and decoder, each, in tokens; by default that of the configuration.

    Attributes:
        budget: maximum number of tokens of a batch, including padding.

    Raises:
        ModelError: the context length or the start token of the decoder is unknown, or `bos` is True but the tokenizer
            adds no token before a text.
    """

    kind = SEQ2SEQ
    is_encoder_decoder = True

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        fingerprint: str,
        bos: bool | None = None,
        window: int | None = None,
    ) -> None:
        start, end = special_tokens(tokenizer, bos)
        self._doubles_spaces = doubles_spaces(tokenizer)
        self._inputs = EncoderDecoderInputs(model, tokenizer, start, end)
        super().__init__(
            model, tokenizer, name, start, window_of(model.config, tokenizer, window) - self._inputs.reserved
        )
        self.fingerprint = (
            f"{fingerprint}|{self.precision}|seq2seq|bos{len(self.start)}|{self._inputs}|arithmetic{ARITHMETIC}"
        )
        self._encoder_decoder = EncoderDecoder(self._network, tokenizer.pad_token_id or 0)
        self._restrict_head()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, without special tokens."""
        return super().encode([text.removeprefix(" ") for text in texts] if self._doubles_spaces else texts)

    def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
        """Score continuations, grouped by context; call `sink` with each answer as soon as it is known.

        Raises:
            OutOfMemory: a single request does not fit the device.
        """
        waiting = self._by_context(requests)
        for batch in self._batches(waiting, requests):
            with self.budget.halved_if_exceeded(batch), full_device(), torch.inference_mode():
                encoded = self._encoder_decoder.encode([_tokens(context) for context in batch.contexts])
                for part in batch.parts:
                    for index, answer in self._answers(encoded, part, requests):
                        sink(index, answer)
                        waiting[batch.contexts[part[index]]].remove(index)

    def computed_tokens(self, requests: Sequence[ScoreRequest]) -> int:
        """Number of tokens, including padding, that encoder and decoder compute to score all of these requests."""
        waiting, total = self._by_context(requests), 0
        for batch in self._batches(waiting, requests):
            total += len(batch.contexts) * batch.longest
            for part in batch.parts:
                total += len(part) * max(self._decoder_length(requests[index]) for index in part)
            waiting.update((context, []) for context in batch.contexts)
        return total

    def generate(self, requests: Sequence[GenerateRequest], sink: TextSink) -> None:
        """Generate texts after prompts; call `sink` with each answer as soon as it is known.

        Raises:
            OutOfMemory: a single prompt does not fit the device.
            FloatingPointError: the model returns something that is not a log-probability.
        """
        if requests:
            self.generation.generate(requests, sink)

    @cached_property
    def generation(self) -> Generation:
        """Generation with the fastest decoder that works for this model, which is determined at first use."""
        return seq2seq_generation(
            self._encoder_decoder,
            self.tokenizer,
            self._inputs.inputs_of,
            self._inputs.ends_after,
            precision=self.precision,
            vocabulary=self.vocabulary,
            limits=Limits(max(LOGITS // self.vocabulary, 1), self.budget.size, self.budget.size),
        )

    def _by_context(self, requests: Sequence[ScoreRequest]) -> Waiting:
        """The encoder inputs of requests, longest first."""
        found: Waiting = {}
        for index, request in enumerate(requests):
            read, _ = self._inputs.inputs_of(np.frombuffer(request.tokens, np.int32)[: request.boundary])
            found.setdefault(read.tobytes(), []).append(index)
        return dict(sorted(found.items(), key=lambda item: (-len(item[0]), item[0])))

    def _batches(self, waiting: Waiting, requests: Sequence[ScoreRequest]) -> Iterator[_Batch]:
        """Batches of what is waiting, until nothing is."""
        while waiting:
            contexts = self._next_contexts(waiting)
            yield _Batch(contexts, list(self._parts(contexts, waiting, requests)), requests)
            for context in contexts:
                if not waiting[context]:
                    del waiting[context]

    def _next_contexts(self, waiting: Mapping[bytes, Sequence[int]]) -> list[bytes]:
        """As many contexts as fit a batch."""
        longest = len(_tokens(next(iter(waiting))))
        return [context for context, _ in zip(waiting, range(max(self.budget.size // longest, 1)), strict=False)]

    def _parts(
        self, batch: Sequence[bytes], waiting: Waiting, requests: Sequence[ScoreRequest]
    ) -> Iterator[dict[int, int]]:
        """Decoder batches: the indices of requests, as many as fit, each with the index of its context in the batch."""
        owner = {index: row for row, context in enumerate(batch) for index in waiting[context]}
        longest_first = sorted(owner, key=lambda index: -self._decoder_length(requests[index]))
        encoded = len(_tokens(batch[0]))
        while longest_first:
            longest = self._decoder_length(requests[longest_first[0]])
            count = max(min(self.budget.size // (encoded + longest), LOGITS // self.vocabulary // longest), 1)
            yield {index: owner[index] for index in longest_first[:count]}
            longest_first = longest_first[count:]

    def _decoder_length(self, request: ScoreRequest) -> int:
        """Number of decoder input tokens of a request: start tokens, and all of the continuation but the last token."""
        _, decoder_start = self._inputs.inputs_of(np.frombuffer(request.tokens, np.int32)[: request.boundary])
        return len(decoder_start) + len(request.tokens) - request.boundary - 1

    def _answers(
        self, encoded: Encoded, part: Mapping[int, int], requests: Sequence[ScoreRequest]
    ) -> Iterator[tuple[int, ScoreAnswer]]:
        rows, targets, firsts = [], [], []
        for index in part:
            tokens, boundary = np.frombuffer(requests[index].tokens, np.int32), requests[index].boundary
            _, decoder_start = self._inputs.inputs_of(tokens[:boundary])
            rows.append(np.concatenate([decoder_start, tokens[boundary:-1]]))
            targets.append(tokens[boundary:])
            firsts.append(len(decoder_start) - 1)
        width = max(map(len, rows))
        indices = [row * width + np.arange(len(each)) + firsts[row] for row, each in enumerate(targets)]
        owners = to_device(torch.tensor(list(part.values())), self.device)
        logits, _ = self._encoder_decoder.decode(
            encoded.of(owners),
            self._encoder_decoder.padded(rows),
            torch.from_numpy(np.concatenate(indices)),
            use_cache=False,
        )
        scores = token_logprobs(logits, np.concatenate(targets), any(requests[index].moments for index in part))
        cuts = np.cumsum([len(each) for each in targets])[:-1]
        parts = (np.split(each, cuts, axis=-1) for each in scores)
        for index, logprobs, greedy, moments in zip(part, *parts, strict=True):
            yield index, ScoreAnswer.of(logprobs, greedy, moments if requests[index].moments else None)

    def _restrict_head(self) -> None:
        tokens = ordinary_tokens(4, self.vocabulary).astype(np.int32)
        with torch.inference_mode():
            encoded = self._encoder_decoder.encode([tokens])
        row = self._encoder_decoder.padded([np.array([*self._inputs.decoder_start, *tokens[:3]], np.int32)])
        indices = torch.arange(row.shape[1])[-3:]
        self._network.restrict_head(
            lambda: self._encoder_decoder.decode(encoded, row, indices, use_cache=False)[0], self.precision
        )


def _tokens(context: bytes) -> Tokens:
    return np.frombuffer(context, np.int32)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Contexts that are encoded together, and the decoder batches of their requests.

    Attributes:
        contexts: the tokens of the contexts, longest first.
        parts: the decoder batches: the indices of requests, and of their contexts.
        requests: all requests.
    """

    contexts: Sequence[bytes]
    parts: Sequence[Mapping[int, int]]
    requests: Sequence[ScoreRequest]

    @property
    def longest(self) -> int:
        """Number of tokens of the longest context."""
        return len(_tokens(self.contexts[0]))

    @property
    def size(self) -> int:
        """Number of tokens of the largest batch of encoder or decoder."""
        continuations = [
            len(part) * (self.longest + max(len(self.requests[i].tokens) - self.requests[i].boundary for i in part))
            for part in self.parts
        ]
        return max(len(self.contexts) * self.longest, *continuations)

    @property
    def divisible(self) -> bool:
        """Whether the encoder or the decoder has more than one row."""
        return len(self.contexts) > 1 or max(map(len, self.parts)) > 1


def doubles_spaces(tokenizer: Any) -> bool:
    """Whether a tokenizer adds a space before every text, even before one that begins with a space."""
    bare, spaced = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a", " a"))
    begins = str(*tokenizer.convert_ids_to_tokens(bare[:1])).startswith("▁")
    return begins and bool(bare != spaced)


class EncoderDecoderInputs:
    """The input tokens of encoder and decoder for a context, and the tokens that end a generated text.

    Args:
        model, tokenizer: objects of `transformers`.
        start, end: the special tokens that the tokenizer adds before and after a text.

    Attributes:
        decoder_start: the first tokens of the decoder, unless the context contains a sentinel.

    Raises:
        ModelError: the start token of the decoder is unknown.
    """

    def __init__(self, model: Any, tokenizer: Any, start: tuple[int, ...], end: tuple[int, ...]) -> None:
        self._model, self._tokenizer, self._end = model, tokenizer, end
        self.decoder_start = _beginning(model, start)
        self._sentinel, self._next_sentinel = _token_id(tokenizer, SENTINEL), _token_id(tokenizer, NEXT_SENTINEL)

    def __str__(self) -> str:
        """The start and end tokens, as in fingerprints."""
        return f"begin{'.'.join(map(str, self.decoder_start))}|end{'.'.join(map(str, self._end))}"

    @property
    def reserved(self) -> int:
        """Number of tokens that a window needs besides those of a context or continuation."""
        return max(len(self._end), len(self.decoder_start) - 1, 1 if self._sentinel is not None else 0)

    def inputs_of(self, context: Tokens) -> tuple[Tokens, Tokens]:
        """The tokens of the encoder for a context, and the first tokens of the decoder."""
        # the fallback token of an empty context may be the end token
        has_ended = tuple(context[len(context) - len(self._end) :]) == self._end
        read = context if has_ended else np.concatenate([context, np.array(self._end, np.int32)])
        decoder_start = (self.decoder_start[0], self._sentinel) if self._has_sentinel(context) else self.decoder_start
        return read, np.array(decoder_start, np.int32)

    def ends_after(self, prompt: Tokens) -> frozenset[int]:
        """The tokens that end a text generated after a prompt; if it contains a sentinel, the next sentinel is one."""
        usual = end_tokens(self._model, self._tokenizer)
        return (
            usual | {self._next_sentinel} if self._next_sentinel is not None and self._has_sentinel(prompt) else usual
        )

    def _has_sentinel(self, context: Tokens) -> bool:
        return self._sentinel is not None and bool((context == self._sentinel).any())


def _beginning(model: Any, start: tuple[int, ...]) -> tuple[int, ...]:
    """The first tokens of a decoder."""
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


def _token_id(tokenizer: Any, name: str) -> int | None:
    token = tokenizer.get_vocab().get(name)
    return None if token is None else int(token)
