"""The protocol between the engine and models: requests and answers in token ids, plans, and models."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from icl_eval.errors import ModelError
from icl_eval.models.chat import ChatTemplate
from icl_eval.models.control_tokens import ControlTokens
from icl_eval.models.decoding import GenerateAnswer, GenerateRequest, TextSink
from icl_eval.models.locking import COMPUTING

CAUSAL, SEQ2SEQ = "causal", "seq2seq"
DIGITS = 7  # decimals of a stored log-probability: below float32's own precision
ROUNDING = 1e-4  # nats: a log-probability above 0 by less than this is a rounding error
LOGITS = 2**26  # maximum of a batch, scored tokens x vocabulary: 256 MiB in float32
MIN_CHUNK_TOKENS = 2**14
MAX_CHUNKS = 32  # enough to balance the load of the processes, few enough that a chunk still fills batches
UNLIMITED = 2**40  # the window of a model whose context length is unknown


@dataclass(frozen=True, slots=True, eq=False)
class ScoreRequest:
    """A request for the log-probabilities of a continuation, `tokens[boundary:]`, after a context, `tokens[:boundary]`.

    Neither is empty.

    Attributes:
        moments: whether to answer with the moments of each next token's log-probability, too; see `ScoreAnswer`.
    """

    tokens: array[int]
    boundary: int
    moments: bool = False

    @classmethod
    def of(cls, context: Sequence[int], continuation: Sequence[int]) -> ScoreRequest:
        """A request from the token ids of context and continuation.

        Raises:
            ValueError: one of them is empty.
        """
        if not context or not continuation:
            raise ValueError("context and continuation need at least one token each")
        return cls(array("i", [*context, *continuation]), len(context))

    @property
    def input_length(self) -> int:
        """Number of tokens that the model reads: all but the last."""
        return len(self.tokens) - 1

    @property
    def context(self) -> int:
        """Number of tokens in the context window: those that the model reads, since it generates none."""
        return self.input_length

    def key(self, fingerprint: str) -> str:
        """Hash of everything that the answer depends on: the model's fingerprint, tokens, boundary and `moments`."""
        moments = "moments:" if self.moments else ""
        digest = hashlib.blake2b(f"{fingerprint}:{self.boundary}:{moments}".encode(), digest_size=12)
        digest.update(self.tokens.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class ScoreAnswer:
    """The log-probabilities of a continuation.

    Attributes:
        logprobs: the log-probability of each token, in nats.
        greedy: whether every token was the most likely one.
        means: for each token, the expected log-probability of a token drawn from the model's distribution, in nats: the
            negative entropy of the distribution. Empty unless the request has `moments`.
        sds: the standard deviation of the same log-probability, in nats.
    """

    logprobs: tuple[float, ...]
    greedy: bool
    means: tuple[float, ...] = ()
    sds: tuple[float, ...] = ()

    @classmethod
    def of(
        cls, logprobs: NDArray[np.float32], greedy: NDArray[np.bool_], moments: NDArray[np.float32] | None = None
    ) -> ScoreAnswer:
        """An answer from arrays: log-probabilities that rounding put above 0 become 0.

        Args:
            logprobs: (tokens,), in nats.
            greedy: (tokens,), whether each token was the most likely one.
            moments: (2, tokens), means and standard deviations; (0, tokens) or None if there are none.
        """
        means, sds = moments if moments is not None and len(moments) else ((), ())
        rounded_sds = tuple(round(float(each), DIGITS) for each in sds)
        return cls(_rounded(logprobs), bool(greedy.all()), _rounded(means), rounded_sds)


def _rounded(values: Iterable[np.float32]) -> tuple[float, ...]:
    return tuple(round(min(float(each), 0.0), DIGITS) if each < ROUNDING else float(each) for each in values)


Request = ScoreRequest | GenerateRequest
Answer = ScoreAnswer | GenerateAnswer
Sink = Callable[[int, ScoreAnswer], None]  # takes the index of a request and its answer
AnswerSink = Callable[[Mapping[int, Answer]], None]  # takes the answers of a batch by the indices of their requests


@dataclass(frozen=True, slots=True)
class WorkItem:
    """A unit of work, which one process computes.

    Attributes:
        cost: tokens to compute.
        shared: tokens that the previous item of the prefix chain has left in the cache; None if it is not in the chain.
        requests: indices of the requests that it answers. An item without them is always recomputed when a run is
            continued.
    """

    cost: int
    shared: int | None = None
    requests: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a model will answer requests, which are all to score or all to generate.

    Attributes:
        requests: the requests to answer.
        items: the work, in order; it may be divided among processes in any way.
        details: what each item computes, in a form that only this kind of model reads.
        computed: tokens that the model computes, including padding and cached prefixes but not generated tokens.
        attended: pairs of a computed token and a token that it attends to, including itself, without padding.
        batches: forward passes that score tokens, without those that only fill the cache; 0 if unknown.
        longest: tokens of the largest batch.
        targets: the largest number of scored tokens in a batch.
        prefix_length: tokens of the longest cached prefix.
    """

    requests: Sequence[Request]
    items: Sequence[WorkItem]
    details: Sequence[Any]
    computed: int
    attended: int
    batches: int = 0
    longest: int = 0
    targets: int = 0
    prefix_length: int = 0


class OutOfMemory(Exception):  # noqa: N818
    """A batch did not fit the memory of a device; a smaller one may."""


class Batch(Protocol):
    """What `Budget` needs to know about a batch; both may change while the batch is computed."""

    @property
    def size(self) -> int:
        """Its size in the unit of the budget, such as tokens."""
        ...

    @property
    def divisible(self) -> bool:
        """Whether it can be split into smaller batches."""
        ...


@dataclass(slots=True)
class Budget:
    """The maximum size of a batch, usually in tokens including padding; it is halved when memory runs out."""

    size: int

    @contextmanager
    def halved_if_exceeded(self, batch: Batch) -> Iterator[None]:
        """Compute a batch in the block; if it does not fit the device, halve the budget for the next batches.

        Raises:
            OutOfMemory: the batch does not fit and cannot be split.
        """
        try:
            yield
        except OutOfMemory:
            if not batch.divisible:
                raise
            self.size = min(self.size, batch.size) // 2


class LanguageModel(ABC):
    """The base class of all models.

    For a model of your own, implement `encode`, `decode` and `score`, and set the attributes that have no default.

    The engine plans requests, divides the items of the plan among processes, and runs those of this process. By
    default, an item is a chunk of requests, which `score` or `generate` answers. Models that share computation between
    requests override `plan` and `run`.

    Attributes:
        name: the name in tables.
        fingerprint: identifies weights, precision and tokenizer; equal fingerprints mean equal answers.
        precision: the type of the weights in the signature, such as `float32`.
        window: context length in tokens. It holds all tokens of a request but the last, or, for an encoder-decoder
            model, context and continuation separately.
        fallback: the token that replaces an empty context.
        start: special tokens before every text; the signature has bos0 or bos1.
        kind: what its log-probabilities are conditioned on. `causal`: all earlier tokens; `seq2seq`: the same, but an
            encoder reads the context and a decoder the continuation; `pll` and `pll-l2r`: later tokens, too, see
            `MaskedLM`. Scores of different kinds are not comparable.
        is_encoder_decoder: whether context and continuation are encoded separately, each with its own window.
        controls: the control tokens. Their names in records are marked, and `encode` takes texts with these marks.
        noise: how much a token's log-probability may depend on its batch, in nats; None if unknown or to be measured.
        measures_noise: whether the noise has to be measured. If so, a continued run recomputes whole items, including
            requests with known answers, because rounding depends on the other requests of a batch.
        budget: the maximum number of tokens of a batch, if it makes batches; processes take the smallest.
        parameter_count: number of distinct parameters; stored in the manifest.
        weights: memory of the parameters, in bytes.
        token_bytes: expected memory of each token of a batch while it is computed, in bytes.
        state_bytes: memory of each token of a cached prefix, in bytes.
        vocabulary: number of tokens in the vocabulary.
        device: the device that computes; stored in the manifest.
        lock: held while the model computes. By default, one thread at a time runs a model.
        scoring_limit: why the model cannot score texts, in one clause; empty if it can.
        gives_moments: whether it answers requests with `moments`.
        prefix_sharing_limit: why requests do not share prefixes, in one clause; empty if they do.
    """

    name: str
    fingerprint: str
    precision: str
    window: int
    fallback: int
    start: tuple[int, ...] = ()
    kind: str = CAUSAL
    is_encoder_decoder: bool = False
    controls: ControlTokens = ControlTokens()
    noise: float | None = None
    measures_noise: ClassVar[bool] = False
    budget: Budget | None = None
    parameter_count: int | None = None
    weights: int = 0
    token_bytes: int = 0
    state_bytes: int = 0
    vocabulary: int = 0
    device: Any = "none"
    lock: ClassVar[AbstractContextManager[Any]] = COMPUTING
    scoring_limit: str = ""
    gives_moments: bool = False
    prefix_sharing_limit: str = ""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, without special tokens."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> list[str]:
        """The text of each token, for display."""

    def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:  # noqa: ARG002
        """Score continuations of requests that fit the window; call `sink` with each answer as soon as it is known.

        Raises:
            OutOfMemory: a single request does not fit the device.
            ModelError: the model cannot score.
        """
        raise ModelError(f"{type(self).__name__} cannot score requests")

    def generate(self, requests: Sequence[GenerateRequest], sink: TextSink) -> None:  # noqa: ARG002
        """Generate texts after prompts that fit the window; call `sink` with each answer as soon as it is known.

        Raises:
            OutOfMemory: a single prompt does not fit the device.
            FloatingPointError: the model returns something that is not a log-probability.
            ModelError: the model cannot generate text.
        """
        raise ModelError(f"{type(self).__name__} cannot generate text")

    def chat_template(self, arguments: Mapping[str, Any]) -> ChatTemplate:  # noqa: ARG002
        """The chat template, which turns messages into the text of a prompt.

        Raises:
            ModelError: the model has no chat template.
        """
        raise ModelError(f"{self.name} has no chat template, so it cannot be used with --chat")

    @property
    def can_generate(self) -> bool:
        """Whether the model generates text, that is, implements `generate`."""
        return type(self).generate is not LanguageModel.generate

    def computed_tokens(self, requests: Sequence[ScoreRequest]) -> int:
        """Number of tokens, including padding, that the model computes to score all of these requests."""
        return sum(request.input_length for request in requests)

    def plan(self, requests: Sequence[Request]) -> Plan:
        """A plan for requests that fit the window and have the same type; every process makes the same plan.

        Its items are chunks of sorted requests. A prompt costs the tokens that it does not share with the previous
        one, and the most tokens that it may generate.
        """
        order = sorted(range(len(requests)), key=lambda index: requests[index].tokens)
        ordered = [requests[index] for index in order]
        generates = isinstance(requests[0], GenerateRequest)
        new = new_tokens([each.tokens for each in ordered]) if generates else [each.input_length for each in ordered]
        most = (each.most_tokens if isinstance(each, GenerateRequest) else 0 for each in ordered)
        costs = list(map(sum, zip(new, most, strict=True)))
        parts = chunks(costs, MIN_CHUNK_TOKENS, MAX_CHUNKS)
        items = [order[part.start : part.stop] for part in parts]
        scored = ([each for i in item if isinstance(each := requests[i], ScoreRequest)] for item in items)
        lengths = [each.input_length for each in ordered]
        return Plan(
            requests=requests,
            items=[
                WorkItem(sum(costs[part.start : part.stop]), None, item)
                for part, item in zip(parts, items, strict=True)
            ],
            details=items,
            computed=sum(new) if generates else sum(map(self.computed_tokens, scored)),
            attended=sum(attended_pairs(size - tokens, size) for size, tokens in zip(lengths, new, strict=True)),
        )

    def run(self, plan: Plan, items: Sequence[int], sink: AnswerSink) -> int:
        """Answer the requests of some items of a plan; call `sink` with the answers of each batch.

        Returns:
            The number of computed and generated tokens.

        Raises:
            OutOfMemory: a single request does not fit the device.
            FloatingPointError: the model returns something that is not a log-probability.
            ModelError: the model cannot answer requests of this type.
        """
        return sum(self._run_chunk(plan.requests, plan.details[item], sink) for item in items)

    def _run_chunk(self, requests: Sequence[Request], indices: Sequence[int], sink: AnswerSink) -> int:
        """Answer the requests at these indices; return the number of computed and generated tokens."""
        chunk: list[Any] = [requests[index] for index in indices]
        waiting, generated = set(range(len(chunk))), 0
        method = "score" if isinstance(chunk[0], ScoreRequest) else "generate"
        name = f"{type(self).__name__}.{method}"

        def take(position: int, answer: Answer) -> None:
            nonlocal generated
            if position not in waiting:
                which = f"{position!r} of {len(chunk)} requests"
                raise ModelError(f"{name} calls `sink` twice for a request, or for {which}")
            waiting.remove(position)
            generated += sum(answer.tokens) if isinstance(answer, GenerateAnswer) else 0
            sink({indices[position]: answer})

        getattr(self, method)(chunk, take)
        if waiting:
            answered = f"{len(chunk) - len(waiting)} of {len(chunk)}"
            raise ModelError(f"{name} answers {answered} requests, but must call `sink` for each")
        return (
            self.computed_tokens(chunk) if method == "score" else generated + sum(each.input_length for each in chunk)
        )


def chunks(costs: Sequence[int], least: int, most: int) -> list[range]:
    """At most `most` ranges of consecutive indices, each but the last with a total cost of at least `least`."""
    size = max(least, -(-sum(costs) // most))
    found, start, cost = [], 0, 0
    for stop, each in enumerate(costs, start=1):
        cost += each
        if cost >= size or stop == len(costs):
            found.append(range(start, stop))
            start, cost = stop, 0
    return found


def common_prefix(left: NDArray[np.int32], right: NDArray[np.int32]) -> int:
    """Number of leading tokens that two sequences share."""
    size = min(len(left), len(right))
    different = np.flatnonzero(left[:size] != right[:size])
    return int(different[0]) if len(different) else size


def new_tokens(sequences: Sequence[array[int]]) -> list[int]:
    """For each of the sorted sequences, the number of its tokens that are not a prefix shared with the previous one."""
    new, last = [], np.empty(0, np.int32)
    for tokens in sequences:
        current = np.frombuffer(tokens, dtype=np.int32)
        new.append(len(current) - common_prefix(last, current))
        last = current
    return new


def attended_pairs(first: int, last: int) -> int:
    """Number of pairs of a token in `first:last` of a sequence and a token that it attends to, including itself."""
    return (last * (last + 1) - first * (first + 1)) // 2
