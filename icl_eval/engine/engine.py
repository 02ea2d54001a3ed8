"""From requests to answers: look up, compute each missing one once, remember."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

from icl_eval.engine.dealing import Unit, chunks, deal
from icl_eval.engine.journal import AnswerStore, MemoryJournal
from icl_eval.engine.packing import PackedRow, Terms, pack
from icl_eval.engine.plan import Batch, plan
from icl_eval.engine.ranks import ALONE
from icl_eval.engine.resuming import Step, steps, units
from icl_eval.engine.shared import SharedJournal
from icl_eval.engine.workload import Workload, attended_pairs, new_tokens, trie_parts
from icl_eval.errors import ModelError, RunError
from icl_eval.models import (
    Answer,
    CountingModel,
    ForgettingModel,
    GenerateAnswer,
    GenerateRequest,
    GeneratingModel,
    LanguageModel,
    OutOfMemory,
    Request,
    RowAnswer,
    RowModel,
    ScoreAnswer,
    ScoreRequest,
    ScoringModel,
    reads_apart,
)

LOGITS = 2**26  # of one batch, scored places x vocabulary: 256 MiB in float32
CHUNK = 2**14  # tokens that a model which plans for itself is given at once, at least
CHUNKS = 32  # of them at most: so many that the processes of a run get alike, so few that each is worth a plan


class Engine:
    """Answers requests with one model.

    What is computed together does not depend on how many processes share the work, so neither does any answer.

    Args:
        model: what is asked.
        store: where known answers are; in memory by default. A `SharedJournal` makes this process compute its share
            alone: all processes ask the same, and all get all answers.
        tick: called with a number of requests whenever so many more are answered.

    Attributes:
        computed: requests answered by this process's model.
        reused: requests whose answer was known before.
        tokens: tokens the model read for them, padding and stems included, and those of the texts it wrote.
    """

    def __init__(
        self,
        model: LanguageModel,
        store: AnswerStore | None = None,
        tick: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.model, self.tick = model, tick
        self.store = MemoryJournal() if store is None else store
        self._ranks = store.ranks if isinstance(store, SharedJournal) else ALONE
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
            ModelError: a request is longer than the model's window, or a prompt leaves no room in it to write; the
                model gives something that is no log-probability; it cannot do what is asked; or one sequence exceeds
                the device's memory.
            RunError: answers cannot be kept, or those of another process are not seen.
            PeerError: another process failed.
        """
        fitting = [self._fitting(request) for request in requests]
        keys = [request.key(self.model.fingerprint) for request in fitting]
        known = {key: answer for key in dict.fromkeys(keys) if (answer := self.store.get(key)) is not None}
        missing = {key: request for key, request in zip(keys, fitting, strict=True) if key not in known}
        found = sum(key in known for key in keys)
        self.reused += found
        self.tick(found)
        repeated = len(keys) - found - len(missing)
        self._agree()
        self._score({key: each for key, each in missing.items() if isinstance(each, ScoreRequest)}, known)
        self._generate({key: each for key, each in missing.items() if isinstance(each, GenerateRequest)}, known)
        self._learn(missing, known)
        self.tick(repeated)
        return [known[key] for key in keys]

    def workload(self, requests: Sequence[Request], planned: set[str]) -> Workload:
        """What `answer` would take, planned in the same way.

        Args:
            requests: what would be asked.
            planned: keys of requests that were planned before; those of these are added.

        Raises:
            ModelError: a request is longer than the model's window.
        """
        fitting = [self._fitting(request) for request in requests]
        keys = [request.key(self.model.fingerprint) for request in fitting]
        known = {key for key in dict.fromkeys(keys) if self.store.get(key) is not None}
        waiting = [(key, request) for key, request in zip(keys, fitting, strict=True) if key not in known]
        missing = {key: request for key, request in waiting if key not in planned}
        planned.update(missing)
        scored = [request for request in missing.values() if isinstance(request, ScoreRequest)]
        written = [request for request in missing.values() if isinstance(request, GenerateRequest)]
        batches = _batches(self.model, dict(enumerate(scored))) if isinstance(self.model, RowModel) else []
        alone = [] if batches else [request.input_length for request in scored]
        parts = trie_parts([request.tokens for request in written])
        return Workload(
            requests=len(keys),
            known=len(keys) - len(waiting),
            repeated=len(waiting) - len(missing),
            asked=sum(
                self._reads([each]) if isinstance(each, ScoreRequest) else each.input_length for _, each in waiting
            ),
            computed=sum(last - first for first, last in parts)
            + sum(batch.computed for batch in batches)
            + (0 if batches else self._reads_in_chunks(scored)),
            written=sum(request.most_tokens for request in written),
            batches=len(batches),
            longest=max((batch.tokens for batch in batches), default=0),
            targets=max((batch.targets for batch in batches), default=0),
            stem=max((batch.rows[0].row.stem for batch in batches), default=0),
            context=max((request.context for request in missing.values()), default=0),
            scored=sum(len(request.tokens) - request.boundary for request in scored),
            attended=sum(attended_pairs(first, last) for first, last in parts)
            + sum(batch.attended for batch in batches)
            + sum(attended_pairs(0, length) for length in alone),
        )

    def _fitting(self, request: Request) -> Request:
        """The request, for no more tokens than fit the model's window."""
        if isinstance(request, GenerateRequest):
            try:
                return request.within(self.model.window, apart=reads_apart(self.model))
            except ValueError as error:
                raise ModelError(str(error)) from error
        length = request.input_length
        if reads_apart(self.model):
            length = max(request.boundary, len(request.tokens) - request.boundary)
        if length > self.model.window:
            raise ModelError(f"a request reads {length} tokens, but the model's window is {self.model.window}")
        return request

    def _agree(self) -> None:
        """Plan for the smallest memory of all processes."""
        if isinstance(self.model, RowModel) and self._ranks.size > 1:
            self.model.row_budget = min(self._ranks.gather(self.model.row_budget))

    def _learn(self, missing: Mapping[str, Request], known: dict[str, Answer]) -> None:
        """Take what the other processes answered."""
        if not isinstance(self.store, SharedJournal):
            return
        self.store.meet(None)
        for key in missing:
            if key not in known:
                if (answer := self.store.get(key)) is None:
                    raise RunError("the processes do not ask the same: nobody answered a request of this one")
                known[key] = answer
                self.tick(1)

    def _share(self, work: Sequence[Unit]) -> Sequence[int]:
        """The places of what this process does."""
        return range(len(work)) if self._ranks.size == 1 else deal(work, self._ranks.size)[self._ranks.rank]

    def _chunks(self, requests: Sequence[Request], costs: Callable[[Sequence[Any]], list[int]]) -> Iterator[list[int]]:
        """The places of requests that are asked at once, in the order of their tokens: this process's share."""
        order = sorted(range(len(requests)), key=lambda place: requests[place].tokens)
        weights = costs([requests[place] for place in order])
        found = chunks(weights, CHUNK, CHUNKS)
        for place in self._share([Unit(sum(weights[each.start : each.stop])) for each in found]):
            yield order[found[place].start : found[place].stop]

    def _generate(self, missing: Mapping[str, GenerateRequest], known: dict[str, Answer]) -> None:
        if not missing:
            return
        if not isinstance(self.model, GeneratingModel):
            raise ModelError(f"{type(self.model).__name__} cannot write")
        keys, requests = list(missing), list(missing.values())
        for chunk in self._chunks(requests, _writing_costs):
            self._write(self.model, {keys[place]: requests[place] for place in chunk}, known)

    def _write(self, model: GeneratingModel, asked: Mapping[str, GenerateRequest], known: dict[str, Answer]) -> None:
        keys, requests = list(asked), list(asked.values())

        def sink(index: int, answer: GenerateAnswer) -> None:
            self.tokens += len(requests[index].tokens) + sum(answer.tokens)
            self._accept(keys, {index: answer}, known)

        try:
            model.generate(requests, sink)
        except OutOfMemory as error:
            longest = max(len(request.tokens) for key, request in asked.items() if key not in known)
            raise ModelError(
                f"writing after one prompt of up to {longest} tokens does not fit the device's memory: {error}"
            ) from error
        except FloatingPointError as error:
            raise ModelError(f"the model's {error}; {self._advice()}") from error

    def _score(self, missing: Mapping[str, ScoreRequest], known: dict[str, Answer]) -> None:
        if not missing:
            return
        keys, requests = list(missing), list(missing.values())
        if isinstance(self.model, RowModel):
            self._compute_rows(self.model, requests, lambda answers: self._accept(keys, answers, known))
        elif isinstance(self.model, ScoringModel):
            for chunk in self._chunks(requests, _reading_costs):
                self._ask(self.model, {keys[place]: requests[place] for place in chunk}, known)
        else:
            raise ModelError(f"{type(self.model).__name__} can neither score requests nor run rows")

    def _ask(self, model: ScoringModel, asked: Mapping[str, ScoreRequest], known: dict[str, Answer]) -> None:
        keys, requests = list(asked), list(asked.values())
        try:
            model.score(requests, lambda index, answer: self._accept(keys, {index: answer}, known))
        except OutOfMemory as error:
            longest = max(len(request.tokens) for key, request in asked.items() if key not in known)
            raise ModelError(
                f"one request of up to {longest} tokens does not fit the device's memory: {error}"
            ) from error
        self.tokens += self._reads(requests)

    def _reads(self, requests: Sequence[ScoreRequest]) -> int:
        """Tokens that a model reads which plans its own work."""
        if isinstance(self.model, CountingModel):
            return self.model.reads(requests)
        return sum(request.input_length for request in requests)

    def _reads_in_chunks(self, requests: Sequence[ScoreRequest]) -> int:
        """Tokens that a model which plans its own work reads of requests, chunk by chunk as they are asked."""
        shares = self._chunks(requests, _reading_costs)
        return sum(self._reads([requests[place] for place in share]) for share in shares)

    def _compute_rows(
        self, model: RowModel, requests: list[ScoreRequest], accept: Callable[[dict[int, ScoreAnswer]], None]
    ) -> None:
        _forget(model)
        planned = _batches(model, dict(enumerate(requests)))
        share = self._share(units(planned))
        own = sorted(span.request for place in share for row in planned[place].rows for span in row.spans)
        waiting = {index: requests[index] for index in own}
        todo: Iterator[Step] = steps(planned, share)
        while waiting:
            for step in todo:
                try:
                    answers = self._forward(model, step)
                except OutOfMemory as error:
                    model.row_budget = _smaller(model.row_budget, step.batch, error)
                    todo = map(Step, _batches(model, waiting))  # all that is still waiting is planned anew
                    break
                accept(answered := dict(_unpack(step.batch.rows, answers)))
                for index in answered:
                    del waiting[index]

    def _forward(self, model: RowModel, step: Step) -> list[RowAnswer]:
        if step.anew:
            _forget(model)
        for row in step.first:
            model.forward([row])
            self.tokens += len(row.tokens)
        answers = model.forward([packed.row for packed in step.batch.rows])
        self.tokens += step.batch.computed
        return answers

    def _accept(self, keys: list[str], answers: Mapping[int, Answer], known: dict[str, Answer]) -> None:
        for index, answer in answers.items():
            values = answer.logprobs if isinstance(answer, ScoreAnswer) else answer.scores
            if not all(math.isfinite(value) and value <= 0 for value in values):
                raise ModelError(f"the model's log-probabilities are {values}; {self._advice()}")
            known[keys[index]] = answer
        self.store.put({keys[index]: answer for index, answer in answers.items()})
        self.computed += len(answers)
        self.tick(len(answers))

    def _advice(self) -> str:
        return (
            "float16 overflows in some models: try --dtype float32"
            if self.model.precision.split("-")[-1] == "float16"
            else "its weights may be damaged"
        )


def _reading_costs(requests: Sequence[ScoreRequest]) -> list[int]:
    """Tokens that are read for each."""
    return [request.input_length for request in requests]


def _writing_costs(requests: Sequence[GenerateRequest]) -> list[int]:
    """Tokens that each prompt adds to the one before, and those that are written after it at most."""
    new = new_tokens([request.tokens for request in requests])
    return [tokens + request.most_tokens for tokens, request in zip(new, requests, strict=True)]


def _forget(model: RowModel) -> None:
    if isinstance(model, ForgettingModel):
        model.forget()


def _batches(model: RowModel, requests: Mapping[int, ScoreRequest]) -> list[Batch]:
    """Sequences within the model's reach share rows if it can; longer ones share neither rows nor batches with them."""
    batches = []
    targets = max(LOGITS // model.vocabulary, 1)
    for near in (False, True):
        alike = {i: request for i, request in requests.items() if (request.input_length <= model.reach) is near}
        share = near and model.shares_prefixes
        terms = Terms(
            share=share,
            limit=model.row_budget,
            width=model.hidden_size,
            targets=targets,
            stems=share and model.keeps_stems,
            skips=share and model.skips_strangers,
        )
        rows = pack(alike, terms)
        batches += plan(rows, budget=terms.limit, targets=targets, alone=terms.skips)
    return batches


def _unpack(rows: Sequence[PackedRow], answers: Sequence[RowAnswer]) -> list[tuple[int, ScoreAnswer]]:
    unpacked = []
    for packed, answer in zip(rows, answers, strict=True):
        for span in packed.spans:
            own = slice(span.start, span.stop)
            unpacked.append((span.request, ScoreAnswer.of(answer.logprobs[own], answer.greedy[own])))
    return unpacked


def _smaller(budget: int, batch: Batch, error: OutOfMemory) -> int:
    """Half the tokens that were too many.

    Raises:
        ModelError: the batch is a single sequence already.
    """
    if len(batch.rows) == 1 and batch.rows[0].row.is_linear:
        raise ModelError(f"one prompt of {batch.tokens} tokens does not fit the device's memory: {error}") from error
    return min(budget, batch.tokens) // 2
