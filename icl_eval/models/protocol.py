"""Requests to models and their answers, in token ids, and the protocols of kinds of models."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from icl_eval.models.decoding import GenerateAnswer, GenerateRequest, TextSink

CAUSAL, SEQ2SEQ = "causal", "seq2seq"
DIGITS = 7  # decimals of a stored log-probability: below float32's own precision
ROUNDING = 1e-4  # nats above zero that are rounding


@dataclass(frozen=True, slots=True, eq=False)
class ScoreRequest:
    """Score a continuation after a context: `tokens[boundary:]` after `tokens[:boundary]`, neither empty."""

    tokens: array[int]
    boundary: int

    @classmethod
    def of(cls, context: Sequence[int], continuation: Sequence[int]) -> ScoreRequest:
        """A request from two lists of token ids.

        Raises:
            ValueError: one of them is empty.
        """
        if not context or not continuation:
            raise ValueError("context and continuation need at least one token each")
        return cls(array("i", [*context, *continuation]), len(context))

    @property
    def input_length(self) -> int:
        """Input tokens of the model: all but the last."""
        return len(self.tokens) - 1

    @property
    def context(self) -> int:
        """The same: nothing is generated."""
        return self.input_length

    def key(self, fingerprint: str) -> str:
        """Hash of everything that the answer depends on: the model's fingerprint, the tokens and the boundary."""
        digest = hashlib.blake2b(f"{fingerprint}:{self.boundary}:".encode(), digest_size=12)
        digest.update(self.tokens.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class ScoreAnswer:
    """The continuation's log-probabilities, one per token, in nats; and whether every token was the most likely one."""

    logprobs: tuple[float, ...]
    greedy: bool

    @classmethod
    def of(cls, logprobs: NDArray[np.float32], greedy: NDArray[np.bool_]) -> ScoreAnswer:
        """From arrays (tokens,); values that rounding put above zero become zero."""
        values = (round(min(float(each), 0.0), DIGITS) if each < ROUNDING else float(each) for each in logprobs)
        return cls(tuple(values), bool(greedy.all()))


Request = ScoreRequest | GenerateRequest
Answer = ScoreAnswer | GenerateAnswer
Sink = Callable[[int, ScoreAnswer], None]  # called with the index of a request and its answer


class LanguageModel(Protocol):
    """The attributes and methods of every kind of model.

    A model may also have `device` and `parameters`, the number of distinct ones, which the manifest stores; `noise`,
    the nats by which the log-probability of a token may depend on its batch, if this need not be measured; and
    `controls`, its `ControlTokens`: then records are marked by them, and `encode` gets texts with marks.

    Attributes:
        name: its name in tables.
        kind: what its log-probabilities are conditioned on. `causal`: all tokens before; `seq2seq`: the same, but an
            encoder reads the context and a decoder the continuation, each with its own window; `pll` and `pll-l2r`:
            the tokens after it as well, see `MaskedLM`. Scores of different kinds are not comparable.
        fingerprint: identifies weights, precision and tokenizer; equal fingerprints mean equal answers.
        precision: the type of the weights in the signature, such as `float32`.
        window: context length in tokens: all of a request but the last, or, with separate windows, the longer one of
            context and continuation.
        start: special tokens before every text; the signature has bos0 or bos1.
        fallback: the token that replaces an empty context.
    """

    name: str
    kind: str
    fingerprint: str
    precision: str
    window: int
    start: tuple[int, ...]
    fallback: int

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, without special tokens."""
        ...

    def decode(self, ids: Sequence[int]) -> list[str]:
        """The text of each token, for people."""
        ...


@runtime_checkable
class ScoringModel(LanguageModel, Protocol):
    """A model that answers requests as a black box."""

    def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
        """Answer requests; call `sink` with each answer as it comes."""
        ...


@runtime_checkable
class CountingModel(LanguageModel, Protocol):
    """A model that answers requests as a black box, but can count the tokens it computes for them."""

    def computed_tokens(self, requests: Sequence[ScoreRequest]) -> int:
        """Tokens that it computes to answer requests together, including padding."""
        ...


@runtime_checkable
class GeneratingModel(LanguageModel, Protocol):
    """A model that generates text."""

    def generate(self, requests: Sequence[GenerateRequest], sink: TextSink) -> None:
        """Answer requests that fit the window; call `sink` with each answer as it comes.

        Raises:
            OutOfMemory: a single prompt does not fit the device.
            FloatingPointError: the model returns something that is not a log-probability.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """Token sequences packed into one row of a batch, shared prefixes once.

    Attributes:
        tokens: (length,) int32.
        parents: (length,) int32, the index in the row of the token before; -1 where a sequence begins.
        scored: (targets,) int32, the indices of the tokens after which a target is scored.
        targets: (targets,) int32, the next tokens to score.
        prefix_length: how many of the first tokens form a plain sequence that other rows begin with too, and in which
            nothing is scored: a model may cache their states from one row to the next.
    """

    tokens: NDArray[np.int32]
    parents: NDArray[np.int32]
    scored: NDArray[np.int32]
    targets: NDArray[np.int32]
    prefix_length: int = 0

    @property
    def is_linear(self) -> bool:
        """Whether the row is one plain sequence."""
        return bool((self.parents == np.arange(-1, len(self.tokens) - 1)).all())


@dataclass(frozen=True, slots=True, eq=False)
class RowAnswer:
    """Log-probabilities (targets,) in nats, float32, and whether each target was the most likely token."""

    logprobs: NDArray[np.float32]
    greedy: NDArray[np.bool_]


PendingRows = Callable[[], list[RowAnswer]]  # waits for the answers to the rows of a batch


def common_prefix(left: NDArray[np.int32], right: NDArray[np.int32]) -> int:
    """How many leading tokens two sequences share."""
    size = min(len(left), len(right))
    different = np.flatnonzero(left[:size] != right[:size])
    return int(different[0]) if len(different) else size


class OutOfMemory(Exception):  # noqa: N818
    """A batch did not fit the device; a smaller one may."""


@runtime_checkable
class RowModel(LanguageModel, Protocol):
    """A model whose forward pass the engine plans.

    Attributes:
        shares_prefixes: whether it accepts rows that branch; otherwise every row is one sequence.
        caches_prefixes: whether it caches the states of a prefix from one row to the next.
        has_tree_attention: whether tokens attend to their ancestors only, so that unrelated sequences of a row cost
            nothing: a row need not be small, nor a batch more than one row.
        max_shared_length: input tokens up to which rows may branch; longer sequences need their own batches.
        prefix_sharing_limit: one clause saying why rows may not branch, or not beyond `max_shared_length`; empty if
            nothing limits them.
        hidden_size: width of its layers, from which the engine weighs attention against the rest.
        vocabulary: its number of tokens.
        row_budget: tokens, including padding, that one batch may hold.
        queue_depth: the most batches in flight; 1 if the answers of each are read before the next.
        token_bytes: memory that a token of a batch is expected to take while it is computed.
        state_bytes: memory that a token of a cached prefix takes.
        weights: memory of its parameters, in bytes.
    """

    shares_prefixes: bool
    caches_prefixes: bool
    has_tree_attention: bool
    max_shared_length: int
    prefix_sharing_limit: str
    hidden_size: int
    vocabulary: int
    row_budget: int
    queue_depth: int
    token_bytes: int
    state_bytes: int
    weights: int

    def enqueue(self, rows: Sequence[Row]) -> PendingRows:
        """Start one batch after the ones before it; only reading the answers waits for a device.

        Raises:
            OutOfMemory: it does not fit the device.
        """
        ...


@runtime_checkable
class PrefixCachingModel(LanguageModel, Protocol):
    """A model that can clear its prefix cache, so that its next answers do not depend on it."""

    def clear_cache(self) -> None:
        """Clear the cache: the next prefix is computed from its first token."""
        ...


def is_encoder_decoder(model: LanguageModel) -> bool:
    """Whether context and continuation are encoded separately, each with its own window."""
    return model.kind == SEQ2SEQ
