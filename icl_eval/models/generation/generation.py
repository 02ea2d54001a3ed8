"""Generate texts for many prompts at once, in a batch that shrinks when memory runs out.

Finished hypotheses leave the batch, and waiting prompts enter it if their states are expected to fit the memory.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch

from icl_eval.models.decoding import GenerateRequest, TextSink
from icl_eval.models.generation.decoder import Decoder, Entry, Tokens
from icl_eval.models.generation.kv_pool import MIN_PREFIX
from icl_eval.models.generation.search import Candidates, Extension, Search
from icl_eval.models.loading.devices import to_host
from icl_eval.models.network import float32_head, full_device
from icl_eval.models.protocol import Budget, common_prefix

LOW = 0.75  # prompts enter when the batch has this share of the hypotheses that it had after prompts last entered

SearchFor = Callable[[GenerateRequest], Search]
Kind = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a batch.

    Attributes:
        hypotheses: maximum number of hypotheses.
        new_tokens: maximum number of tokens of prompts that enter together; shared ones count once.
        states: maximum number of tokens whose states are stored, including padding.
    """

    hypotheses: int
    new_tokens: int
    states: int


@dataclass(slots=True)
class Generation:
    """Answers requests to generate text.

    Attributes:
        decoders: makes the decoder for hypotheses of a kind.
        kind_of: returns the kind of a request's hypotheses after a number of generated tokens; hypotheses of different
            kinds need different decoders, so they are never in one batch.
        search: makes the search for a request.
        limits: the limits of a batch.
        layers: a context in which the network's layers generate faster.
        budget: maximum number of hypotheses of a batch.
    """

    decoders: Callable[[Kind], Decoder]
    kind_of: Callable[[GenerateRequest, int], Kind]
    search: SearchFor
    limits: Limits
    layers: Callable[[], AbstractContextManager[None]] = nullcontext
    budget: Budget = field(init=False)

    def __post_init__(self) -> None:
        self.budget = Budget(self.limits.hypotheses)

    def generate(self, requests: Sequence[GenerateRequest], sink: TextSink) -> None:
        """Generate texts for requests that fit the window; call `sink` with each answer as soon as it is complete.

        Raises:
            OutOfMemory: a single prompt does not fit the device.
            FloatingPointError: the network returns something that is not a log-probability.
        """
        waiting = self._jobs(requests)
        while waiting:
            live = _Live()
            with (
                self.budget.halved_if_exceeded(live),
                full_device(),
                float32_head(),
                self.layers(),
                torch.inference_mode(),
            ):
                self._run(self.decoders(waiting[0].kind), live, waiting, sink)
            waiting.extendleft(reversed(live))

    def _run(self, decoder: Decoder, live: _Live, waiting: deque[_Job], sink: TextSink) -> None:
        """Generate until no job of the first kind is left; if memory runs out, the unfinished ones are in `live`."""
        kind, extensions, low = waiting[0].kind, list[Extension](), 0.0
        while True:
            parts = [decoder.step(extensions)] if extensions else []
            if not live or (decoder.joins and live.hypotheses <= low):
                while new := self._entering(kind, live, waiting):
                    live += new
                    parts.append(decoder.enter([entry for job in new for entry in job.entries()]))
                    if not decoder.joins:
                        break
                low = LOW * live.hypotheses
            if not live:
                return
            logits = parts[0] if len(parts) == 1 else torch.cat(parts)
            extensions, going = self._advance(_candidates(logits, live), live, sink)
            live[:] = [job for job in going if job.kind == kind]
            if len(live) < len(going):
                extensions = _of_kind(extensions, going, kind)
                waiting.extend(job for job in going if job.kind != kind)
            if not live:  # a decoder drops hypotheses only in its next step, so the next jobs get a new decoder
                return

    def _advance(
        self, candidates: Mapping[int | None, Candidates], live: Sequence[_Job], sink: TextSink
    ) -> tuple[list[Extension], list[_Job]]:
        """The extensions that the searches choose, and the unfinished jobs."""
        extensions: list[Extension] = []
        going: list[_Job] = []
        first = 0
        for job in live:
            count = len(job.search.hypotheses)
            following = job.search.advance(candidates[job.search.candidates], first)
            if following:
                extensions += following
                job.kind = self.kind_of(job.request, len(job.search.hypotheses[0].tokens))
                going.append(job)
            else:
                sink(job.index, job.search.answer())
            first += count
        return extensions, going

    def _entering(self, kind: Kind, live: Sequence[_Job], waiting: deque[_Job]) -> list[_Job]:
        """The next jobs of a kind that fit the batch, to prefill together; at least one if the batch is empty."""
        new: list[_Job] = []
        tokens = 0
        last = np.empty(0, np.int32)
        while waiting and waiting[0].kind == kind:
            job = waiting[0]
            tokens += len(job.prompt) - common_prefix(last, job.prompt) + job.generated
            if (live or new) and not (tokens <= self.limits.new_tokens and self._fit([*live, *new, job])):
                break
            new.append(waiting.popleft())
            last = job.prompt
        return new

    def _fit(self, jobs: Sequence[_Job]) -> bool:
        """Whether jobs fit the batch: their states fit the memory, and at most half of them are padding.

        There is padding if prefixes have different numbers of hypotheses.
        """
        width = sum(job.width for job in jobs)
        prefixes = Counter[bytes]()
        for job in jobs:
            prefixes[job.prefix] += job.width
        states = len(prefixes) * max(job.shared for job in jobs) + width * max(job.suffix_length for job in jobs)
        even = len(prefixes) * max(prefixes.values()) <= 2 * width
        return width <= self.budget.size and states <= self.limits.states and even

    def _jobs(self, requests: Sequence[GenerateRequest]) -> deque[_Job]:
        """The jobs of requests by kind, grouped by shared prefix; large groups and long prompts come first."""
        kinds = [self.kind_of(request, 0) for request in requests]
        order = sorted(range(len(requests)), key=lambda index: (kinds[index], requests[index].tokens))
        groups = _groups([self._job(index, requests[index], kinds[index]) for index in order])
        groups.sort(key=lambda group: (group[0].kind, -len(group).bit_length(), -max(len(job.prompt) for job in group)))
        return deque(job for group in groups for job in group)

    def _job(self, index: int, request: GenerateRequest, kind: Kind) -> _Job:
        prompt = prompt_of(request)
        return _Job(index, request, prompt, self.search(request), kind, len(prompt))


@dataclass(slots=True)
class _Job:
    """A request that is being answered.

    Attributes:
        index: the index of the request.
        prompt: the tokens of its prompt, (length,).
        search: its search.
        kind: the kind of its hypotheses.
        shared: number of leading tokens of the prompt whose states are stored once for all prompts that share them.
    """

    index: int
    request: GenerateRequest
    prompt: Tokens
    search: Search
    kind: Kind
    shared: int

    @property
    def width(self) -> int:
        """Maximum number of its hypotheses."""
        return max(self.request.decoding.beams, self.request.decoding.samples)

    @property
    def generated(self) -> int:
        """Number of generated tokens of all its hypotheses."""
        return sum(len(each.tokens) for each in self.search.hypotheses)

    @property
    def suffix_length(self) -> int:
        """Maximum number of tokens of a hypothesis that are not in the shared prefix."""
        return len(self.prompt) - self.shared + self.request.decoding.max_tokens

    @property
    def prefix(self) -> bytes:
        """The tokens of the shared prefix, as a key."""
        return self.prompt[: self.shared].tobytes()

    def entries(self) -> list[Entry]:
        """Its hypotheses as entries of a decoder."""
        generated = [np.array(each.tokens, np.int32) for each in self.search.hypotheses]
        return [Entry(self.prompt, tokens, self.shared) for tokens in generated]


class _Live(list[_Job]):
    """The jobs of a batch."""

    @property
    def size(self) -> int:
        """Maximum number of hypotheses."""
        return sum(job.width for job in self)

    @property
    def hypotheses(self) -> int:
        """Current number of hypotheses."""
        return sum(len(job.search.hypotheses) for job in self)

    @property
    def divisible(self) -> bool:
        """Whether there is more than one job."""
        return len(self) > 1


def prompt_of(request: GenerateRequest) -> Tokens:
    """The tokens of a request's prompt, (length,)."""
    return np.frombuffer(request.tokens, dtype=np.int32)


def _groups(jobs: Sequence[_Job]) -> list[list[_Job]]:
    """Groups of jobs, which are sorted by tokens, whose prompts share at least half of the group's prefix."""
    groups = [[job] for job in jobs[:1]]
    for before, job in pairwise(jobs):
        shared = min(common_prefix(before.prompt, job.prompt), groups[-1][0].shared)
        if job.kind == before.kind and shared >= max(MIN_PREFIX, groups[-1][0].shared // 2, len(job.prompt) // 2):
            groups[-1].append(job)
            for each in groups[-1]:
                each.shared = shared
        else:
            groups.append([job])
    return groups


def _of_kind(extensions: Sequence[Extension], jobs: Sequence[_Job], kind: Kind) -> list[Extension]:
    """The extensions of the jobs of a kind."""
    owners = [job for job in jobs for _ in job.search.hypotheses]
    return [extension for extension, job in zip(extensions, owners, strict=True) if job.kind == kind]


def _candidates(logits: torch.Tensor, jobs: Sequence[_Job]) -> dict[int | None, Candidates]:
    """The candidates after all hypotheses from logits (N, V), for each number of candidates that a job needs."""
    enqueued = {count: _enqueue_best(logits, count) for count in {job.search.candidates for job in jobs}}
    return {count: read() for count, read in enqueued.items()}


def _enqueue_best(logits: torch.Tensor, count: int | None) -> Callable[[], Candidates]:
    """A function that returns the most likely tokens from logits (N, V), or all; only it waits for the device."""
    total = logits.logsumexp(dim=1, keepdim=True)
    if count is None or count >= logits.shape[1]:
        every = to_host(logits - total)
        return lambda: Candidates.best_of(every(), count)
    best = logits.topk(count + 1)
    tokens, logprobs = to_host(best.indices), to_host(best.values - total)

    def read() -> Candidates:
        ids, found = tokens()[:, :-1], logprobs()
        for row in np.flatnonzero(found[:, -1] == found[:, -2]):  # `topk` may return any of equal logits
            above = found[row, :-1] > found[row, -2]
            equal = (logits[row] - total[row] == best.values[row, -2] - total[row]).nonzero()[:, 0].cpu().numpy()
            ids[row] = np.concatenate([ids[row, above], equal[: (~above).sum()]])
        return Candidates(ids, found[:, :-1]).sorted()

    return read
