"""The protocol of models: requests and answers in token ids, the plan of the work, and the model itself."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from icl_eval.errors import ModelError
from icl_eval.models.chat import ChatTemplate
from icl_eval.models.control_tokens import ControlTokens
from icl_eval.models.decoding import GenerateAnswer, GenerateRequest, TextSink

CAUSAL, SEQ2SEQ = "causal", "seq2seq"
DIGITS = 7  # decimals of a stored log-probability: below float32's own precision
ROUNDING = 1e-4  # nats above zero that are rounding
LOGITS = 2**26  # of one batch, scored tokens x vocabulary: 256 MiB in float32
CHUNK = 2**14  # tokens of a chunk, at least
UNLIMITED = 2**40  # the window of a model whose context length is unknown
CHUNKS = 32  # at most: enough to balance the processes of a run, few enough that each is worth a plan


@dataclass(frozen=True, slots=True, eq=False)
class ScoreRequest:
    """Score a continuation after a context: `tokens[boundary:]` after `tokens[:boundary]`, neither empty.

    Attributes:
        moments: whether the answer has the moments of the next token's log-probability, too.
    """

    tokens: array[int]
    boundary: int
    moments: bool = False

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
        """Hash of all that the answer depends on: the model's fingerprint, the tokens, the boundary, and `moments`."""
        moments = "moments:" if self.moments else ""
        digest = hashlib.blake2b(f"{fingerprint}:{self.boundary}:{moments}".encode(), digest_size=12)
        digest.update(self.tokens.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class ScoreAnswer:
    """The continuation's log-probabilities, one per token, in nats; and whether every token was the most likely one.

    Attributes:
        means: the expectation of the log-probability of each token under the model's distribution of it, in nats: its
            negative entropy. Empty unless the request has `moments`.
        sds: the standard deviation, likewise.
    """

    logprobs: tuple[float, ...]
    greedy: bool
    means: tuple[float, ...] = ()
    sds: tuple[float, ...] = ()

    @classmethod
    def of(
        cls, logprobs: NDArray[np.float32], greedy: NDArray[np.bool_], moments: NDArray[np.float32] | None = None
    ) -> ScoreAnswer:
        """From arrays (tokens,), and means and standard deviations (2, tokens), or (0, tokens) if there are none.

        Nats that rounding put above zero become zero.
        """
        means, sds = moments if moments is not None and len(moments) else ((), ())
        return cls(_nats(logprobs), bool(greedy.all()), _nats(means), tuple(round(float(each), DIGITS) for each in sds))


def _nats(values: Iterable[np.float32]) -> tuple[float, ...]:
    return tuple(round(min(float(each), 0.0), DIGITS) if each < ROUNDING else float(each) for each in values)


Request = ScoreRequest | GenerateRequest
Answer = ScoreAnswer | GenerateAnswer
Sink = Callable[[int, ScoreAnswer], None]  # called with the index of a request and its answer
AnswerSink = Callable[[Mapping[int, Answer]], None]  # called with the answers of a batch, by the index of each request


@dataclass(frozen=True, slots=True)
class WorkItem:
    """Work that one process does at once.

    Attributes:
        cost: tokens.
        shared: tokens that the item before it in the prefix chain has cached for it; None if it is not part of it.
        requests: indices of the requests that it answers; if it names none, a run that is continued computes it again.
    """

    cost: int
    shared: int | None = None
    requests: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a model will answer requests, all scored or all generated.

    Attributes:
        requests: what is answered.
        items: the work, in order; processes may share it in any way.
        details: of the kind of model: what each item computes.
        computed: tokens that the model computes, including padding and cached prefixes, without generated ones.
        attended: pairs of a computed token and one that it attends to, itself included, without padding.
        batches: calls of the model to score, without those that compute cached prefixes; 0 if it does not say.
        longest: tokens of the largest batch.
        targets: scored tokens of the batch that has most.
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
    """A batch did not fit the device; a smaller one may."""


class Batch(Protocol):
    """What `Budget` needs to know of a batch; it may be counted while it is computed."""

    @property
    def size(self) -> int:
        """What the budget limits, such as tokens."""
        ...

    @property
    def divisible(self) -> bool:
        """Whether a smaller batch is possible."""
        ...


@dataclass(slots=True)
class Budget:
    """How much a batch may hold, usually in tokens, including padding; halved when memory runs out."""

    size: int

    @contextmanager
    def halved_if_exceeded(self, batch: Batch) -> Iterator[None]:
        """Compute a batch; where it does not fit the device, halve the budget, by which the next one is made.

        Raises:
            OutOfMemory: the batch does not fit and cannot be divided.
        """
        try:
            yield
        except OutOfMemory:
            if not batch.divisible:
                raise
            self.size = min(self.size, batch.size) // 2


class LanguageModel(ABC):
    """A model of any kind. For one of your own, implement `encode`, `decode` and `score`, and set what has no default.

    The engine plans requests, divides the items of the plan among processes, and runs those of this process. By default
    an item is a chunk of requests, which `score` or `generate` answers; models whose batches share more override `plan`
    and `run`.

    Attributes:
        name: its name in tables.
        fingerprint: identifies weights, precision and tokenizer; equal fingerprints mean equal answers.
        precision: the type of the weights in the signature, such as `float32`.
        window: context length in tokens: all of a request but the last, or, for an encoder-decoder, the longer one of
            context and continuation.
        fallback: the token that replaces an empty context.
        start: special tokens before every text; the signature has bos0 or bos1.
        kind: what its log-probabilities are conditioned on. `causal`: all tokens before; `seq2seq`: the same, but an
            encoder reads the context and a decoder the continuation; `pll` and `pll-l2r`: the tokens after it as well,
            see `MaskedLM`. Scores of different kinds are not comparable.
        is_encoder_decoder: whether context and continuation are encoded separately, each with its own window.
        controls: its control tokens: names of them in records are marked, and `encode` gets texts with marks.
        noise: nats by which the log-probability of a token may depend on its batch; None if this is unknown or has to
            be measured.
        measures_noise: whether it has to be measured. If so, a run that is continued computes items of a plan whole,
            also for answers that it has, since the rounding of an answer depends on what is computed with it.
        budget: how many tokens a batch may hold, if the model makes batches; the engine plans for the least of all
            processes.
        parameter_count: the number of distinct parameters; the manifest stores it.
        weights: their memory, in bytes.
        token_bytes: memory that a token of a batch is expected to take while it is computed, in bytes.
        state_bytes: memory that a token of a cached prefix takes, in bytes.
        vocabulary: its number of tokens.
        device: where it is computed; the manifest stores it.
        scoring_limit: why it cannot score texts, in one clause; empty if it can.
        gives_moments: whether it answers requests with `moments`.
        prefix_sharing_limit: one clause saying why requests do not share prefixes; empty if nothing limits them.
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
    scoring_limit: str = ""
    gives_moments: bool = False
    prefix_sharing_limit: str = ""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, without special tokens."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> list[str]:
        """The text of each token, for people."""

    def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:  # noqa: ARG002
        """Answer requests that fit the window; call `sink` with each answer as it comes.

        Raises:
            OutOfMemory: a single request does not fit the device.
            ModelError: the model cannot score.
        """
        raise ModelError(f"{type(self).__name__} cannot score requests")

    def generate(self, requests: Sequence[GenerateRequest], sink: TextSink) -> None:  # noqa: ARG002
        """Generate texts after prompts that fit the window; call `sink` with each answer as it comes.

        Raises:
            OutOfMemory: a single prompt does not fit the device.
            FloatingPointError: the model returns something that is not a log-probability.
            ModelError: the model cannot generate text.
        """
        raise ModelError(f"{type(self).__name__} cannot generate text")

    def chat_template(self, arguments: Mapping[str, Any]) -> ChatTemplate:  # noqa: ARG002
        """What makes a prompt of messages.

        Raises:
            ModelError: the model has no chat template.
        """
        raise ModelError(f"{self.name} has no chat template, so it cannot be used with --chat")

    @property
    def can_generate(self) -> bool:
        """Whether it generates text: whether `generate` is implemented."""
        return type(self).generate is not LanguageModel.generate

    def computed_tokens(self, requests: Sequence[ScoreRequest]) -> int:
        """Tokens that the model computes to score requests together, including padding."""
        return sum(request.input_length for request in requests)

    def plan(self, requests: Sequence[Request]) -> Plan:
        """Plan how to answer requests that fit the window, all of the same type, independently of other processes."""
        if isinstance(requests[0], GenerateRequest):
            return _text_plan([request for request in requests if isinstance(request, GenerateRequest)])
        scored = [request for request in requests if isinstance(request, ScoreRequest)]
        order = sorted(range(len(scored)), key=lambda index: scored[index].tokens)
        costs = [scored[index].input_length for index in order]
        items = [order[each.start : each.stop] for each in chunks(costs, CHUNK, CHUNKS)]
        return Plan(
            requests=scored,
            items=[WorkItem(sum(scored[index].input_length for index in item), None, item) for item in items],
            details=items,
            computed=sum(self.computed_tokens([scored[index] for index in item]) for item in items),
            attended=sum(attended_pairs(0, cost) for cost in costs),
        )

    def run(self, plan: Plan, items: Sequence[int], sink: AnswerSink) -> int:
        """Answer the requests of some items of a plan; call `sink` with the answers of each batch as they come.

        Returns:
            Tokens computed and generated.

        Raises:
            OutOfMemory: a single request does not fit the device.
            FloatingPointError: the model returns something that is not a log-probability.
            ModelError: the model cannot answer requests of this type.
        """
        return sum(self._run_chunk(plan.requests, plan.details[item], sink) for item in items)

    def _run_chunk(self, requests: Sequence[Request], indices: Sequence[int], sink: AnswerSink) -> int:
        """Answer the requests at some indices, and count the tokens computed and generated."""
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
        return self.computed_tokens(chunk) if method == "score" else generated + sum(map(_input_length, chunk))


def _input_length(request: Request) -> int:
    return request.input_length


def _text_plan(requests: Sequence[GenerateRequest]) -> Plan:
    """Chunks of prompts sorted by tokens; each costs what it does not share with the one before, and its answer."""
    order = sorted(range(len(requests)), key=lambda index: requests[index].tokens)
    new = new_tokens([requests[index].tokens for index in order])
    costs = [tokens + requests[index].most_tokens for index, tokens in zip(order, new, strict=True)]
    found = chunks(costs, CHUNK, CHUNKS)
    lengths = [len(requests[index].tokens) for index in order]
    chunked = [order[each.start : each.stop] for each in found]
    return Plan(
        requests=requests,
        items=[
            WorkItem(sum(costs[each.start : each.stop]), None, chunk)
            for each, chunk in zip(found, chunked, strict=True)
        ],
        details=chunked,
        computed=sum(new),
        attended=sum(attended_pairs(size - tokens, size) for size, tokens in zip(lengths, new, strict=True)),
    )


def chunks(costs: Sequence[int], least: int, most: int) -> list[range]:
    """Neighbours together: every chunk but the last costs at least `least`, and there are no more than `most`."""
    size = max(least, -(-sum(costs) // most))
    found, start, cost = [], 0, 0
    for stop, each in enumerate(costs, start=1):
        cost += each
        if cost >= size or stop == len(costs):
            found.append(range(start, stop))
            start, cost = stop, 0
    return found


def common_prefix(left: NDArray[np.int32], right: NDArray[np.int32]) -> int:
    """How many leading tokens two sequences share."""
    size = min(len(left), len(right))
    different = np.flatnonzero(left[:size] != right[:size])
    return int(different[0]) if len(different) else size


def new_tokens(sequences: Sequence[array[int]]) -> list[int]:
    """Tokens of each of sorted sequences that it does not share with the one before."""
    new, last = [], np.empty(0, np.int32)
    for tokens in sequences:
        current = np.frombuffer(tokens, dtype=np.int32)
        new.append(len(current) - common_prefix(last, current))
        last = current
    return new


def attended_pairs(first: int, last: int) -> int:
    """Pairs of a token and one it attends to, itself included, of the tokens `first:last` of a sequence."""
    return (last * (last + 1) - first * (first + 1)) // 2
