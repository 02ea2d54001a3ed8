"""The engine: answers requests from the journal or with the model, each distinct request once."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, overload

from icl_eval.engine.journal import AnswerStore, MemoryJournal
from icl_eval.engine.ranks import SINGLE_PROCESS, partition
from icl_eval.engine.shared import SharedJournal
from icl_eval.engine.workload import Workload, expected
from icl_eval.errors import ModelError, RunError, counted
from icl_eval.models import (
    Answer,
    GenerateAnswer,
    GenerateRequest,
    LanguageModel,
    OutOfMemory,
    Request,
    ScoreAnswer,
    ScoreRequest,
    WorkItem,
)


class Engine:
    """Answers requests with one model.

    Batches depend neither on the number of processes nor on the answers that an interrupted call has left, so answers
    do not either.

    Args:
        model: the model.
        store: where answers are looked up and stored; in memory by default. With a `SharedJournal`, this process
            computes only its share: all processes make the same calls, and each gets all answers.
        tick: called with the number of requests that have just been answered.

    Attributes:
        computed: number of requests that the model of this process has answered.
        reused: number of requests whose answer was known.
        tokens: number of tokens that the model has computed, including padding and cached prefixes, or generated.
    """

    def __init__(
        self,
        model: LanguageModel,
        store: AnswerStore | None = None,
        tick: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.model, self.tick = model, tick
        self.store = MemoryJournal() if store is None else store
        self._ranks = store.ranks if isinstance(store, SharedJournal) else SINGLE_PROCESS
        self.computed = self.reused = self.tokens = 0

    @overload
    def answer(self, requests: Sequence[ScoreRequest]) -> list[ScoreAnswer]: ...

    @overload
    def answer(self, requests: Sequence[GenerateRequest]) -> list[GenerateAnswer]: ...

    @overload
    def answer(self, requests: Sequence[Request]) -> list[Answer]: ...

    def answer(self, requests: Sequence[Request]) -> Any:
        """The answers, in the order of the requests.

        Raises:
            ModelError: a request is longer than the context length, or leaves no room to generate; the model cannot
                answer this kind of request; it returns something that is not a log-probability; or a single sequence
                does not fit the memory of the device.
            RunError: answers cannot be stored, or those of another process cannot be read.
            WorkerError: another process failed.
        """
        fitting = [self._fitting(request) for request in requests]
        keys = [request.key(self.model.fingerprint) for request in fitting]
        entries = {key: entry for key in dict.fromkeys(keys) if (entry := self.store.entry(key)) is not None}
        known = {key: answer for key, (answer, _) in entries.items()}
        missing = {key: request for key, request in zip(keys, fitting, strict=True) if key not in known}
        for key, request in zip(keys, fitting, strict=True):
            if key in known and (problem := _misfit(request, known[key])):
                raise RunError(f"the journal contains {problem}; another program may have written it")
        found = sum(key in known for key in keys)
        self.reused += found
        self.tick(found)
        copies = Counter(keys)
        self._sync_budget()
        call = _call(keys) if missing and self.model.measures_noise else ""
        begun = {key for key, (_, computed_by) in entries.items() if call and computed_by == call}
        planned = {key: each for key, each in zip(keys, fitting, strict=True) if key in missing or key in begun}
        for kind in (ScoreRequest, GenerateRequest):
            part = {key: each for key, each in planned.items() if isinstance(each, kind)}
            if not part.keys().isdisjoint(missing):
                accept = partial(self._accept, list(part.items()), known, copies, call)
                with self.model.lock, self._explaining_errors(part, known):
                    plan = self.model.plan(list(part.values()))
                    share = self._share(plan.items, [key not in known for key in part])
                    self.tokens += self.model.run(plan, share, accept)
        self._take_others(missing, known, copies)
        return [known[key] for key in keys]

    def workload(self, requests: Sequence[Request], planned: set[str]) -> Workload:
        """The work of `answer` for these requests, planned in the same way; known answers are not counted.

        Args:
            requests: the requests to answer.
            planned: keys of requests that have been planned before; the keys of these requests are added.

        Raises:
            ModelError: a request is longer than the context length.
        """
        fitting = [self._fitting(request) for request in requests]
        keys = [request.key(self.model.fingerprint) for request in fitting]
        known = {key for key in dict.fromkeys(keys) if self.store.get(key) is not None}
        waiting = [(key, request) for key, request in zip(keys, fitting, strict=True) if key not in known]
        missing = {key: request for key, request in waiting if key not in planned}
        planned.update(missing)
        return expected(self.model, list(missing.values())) + Workload(
            requests=len(keys),
            known=len(keys) - len(waiting),
            repeated=len(waiting) - len(missing),
            one_by_one=sum(
                self.model.computed_tokens([each]) if isinstance(each, ScoreRequest) else each.input_length
                for _, each in waiting
            ),
        )

    def _fitting(self, request: Request) -> Request:
        """The request, checked to fit the context length; one to generate is limited to the tokens that fit.

        Raises:
            ModelError: the request is longer than the context length.
        """
        if isinstance(request, GenerateRequest):
            try:
                return request.within(self.model.window, separate=self.model.is_encoder_decoder)
            except ValueError as error:
                raise ModelError(str(error)) from error
        length = request.input_length
        if self.model.is_encoder_decoder:
            length = max(request.boundary, len(request.tokens) - request.boundary)
        if length > self.model.window:
            raise ModelError(f"a request takes {length} tokens, but the context length is {self.model.window}")
        return request

    def _sync_budget(self) -> None:
        """Set the budget to the smallest one of all processes, so that all make the same plan."""
        if (budget := self.model.budget) is not None and self._ranks.size > 1:
            budget.size = min(self._ranks.gather(budget.size))

    def _take_others(self, missing: Mapping[str, Request], known: dict[str, Answer], copies: Mapping[str, int]) -> None:
        """Read the answers of the other processes, and check that no request is left without an answer.

        Raises:
            ModelError: the model has left a request without an answer.
            RunError: no process has answered a request.
        """
        if not isinstance(self.store, SharedJournal):
            if count := sum(key not in known for key in missing):
                left = f"{count} of {counted(len(missing), 'request')}"
                raise ModelError(f"{type(self.model).__name__} leaves {left} without an answer")
            return
        self.store.sync(None)
        for key in missing:
            if key not in known:
                if (answer := self.store.get(key)) is None:
                    raise RunError(
                        "no process has answered a request of this process; do all processes run the same command?"
                    )
                known[key] = answer
                self.tick(copies[key])

    def _share(self, items: Sequence[WorkItem], missing: Sequence[bool]) -> Sequence[int]:
        """The indices of the items that this process computes: its share of the items with missing answers.

        If any answer of an item is missing, the whole item is computed, because rounding depends on the other requests
        of a batch. An item that does not name its requests is always computed.

        Args:
            items: the items of the plan.
            missing: for each request of the plan, whether its answer is missing.
        """
        whole = all(missing)
        left = [
            index
            for index, item in enumerate(items)
            if whole or not item.requests or any(missing[request] for request in item.requests)
        ]
        if self._ranks.size == 1:
            return left
        share = partition([items[index] for index in left], self._ranks.size)[self._ranks.rank]
        return [left[index] for index in share]

    @contextmanager
    def _explaining_errors(self, part: Mapping[str, Request], known: Mapping[str, Answer]) -> Iterator[None]:
        """Raise errors of the model in the block, which computes requests of one type, as `ModelError`."""
        try:
            yield
        except OutOfMemory as error:
            left = [request for key, request in part.items() if key not in known] or part.values()
            longest = max(len(request.tokens) for request in left)
            generates = isinstance(next(iter(part.values())), GenerateRequest)
            what = "generating after one prompt" if generates else "one request"
            raise ModelError(f"{what} of up to {longest} tokens does not fit the device's memory: {error}") from error
        except FloatingPointError as error:
            raise ModelError(f"the model's {error}; {self._advice()}") from error

    def _accept(
        self,
        requests: Sequence[tuple[str, Request]],
        known: dict[str, Answer],
        copies: Mapping[str, int],
        call: str,
        answers: Mapping[int, Answer],
    ) -> None:
        new: dict[str, Answer] = {}
        for index, answer in answers.items():
            key, request = requests[index]
            if key in known:
                continue
            if impossible := [value for value in _nats(answer) if not (math.isfinite(value) and value <= 0)]:
                raise ModelError(f"the model returns a log-probability of {impossible[0]}; {self._advice()}")
            if problem := _misfit(request, answer):
                raise ModelError(f"{type(self.model).__name__} returns {problem}")
            new[key] = answer
        known |= new
        self.store.put(new, call)
        self.computed += len(new)
        self.tick(sum(copies[key] for key in new))

    def _advice(self) -> str:
        return (
            "float16 overflows in some models: try --dtype float32"
            if self.model.precision.split("-")[-1] == "float16"
            else "its weights may be damaged"
        )


def _call(keys: Sequence[str]) -> str:
    """An id of a call of `answer`, by which a continued run recognises the requests that were answered together."""
    return hashlib.blake2b("".join(keys).encode(), digest_size=8).hexdigest()


def _nats(answer: Answer) -> Sequence[float]:
    """The numbers of an answer that must be at most 0; none for an object of another type."""
    if isinstance(answer, ScoreAnswer):
        return *answer.logprobs, *answer.means
    return getattr(answer, "scores", ())


def _misfit(request: Request, answer: Answer) -> str:
    """How the parts of an answer do not match its request, in one clause; empty if they do."""
    if isinstance(request, ScoreRequest) and isinstance(answer, ScoreAnswer):
        count, wanted = len(answer.logprobs), len(request.tokens) - request.boundary
        if count != wanted:
            given = counted(count, "log-probability", "log-probabilities")
            return f"{given} for a request of {counted(wanted, 'token')}"
        moments, wanted = (len(answer.means), len(answer.sds)), wanted if request.moments else 0
        if moments != (wanted, wanted):
            means, sds = counted(moments[0], "mean"), counted(moments[1], "standard deviation")
            return f"{means} and {sds} for a request of {wanted}"
        return ""
    if isinstance(request, GenerateRequest) and isinstance(answer, GenerateAnswer):
        count, wanted = len(answer.texts), request.decoding.samples
        return f"{counted(count, 'text')} for a request of {wanted}" if count != wanted else ""
    return "an answer to another kind of request"
