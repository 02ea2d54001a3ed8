"""Models whose forward pass takes rows: plan rows and batches, and run them on cached prefixes."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from icl_eval.models.causal.batches import Batch, Step, batched, steps, work_items
from icl_eval.models.causal.packing import PackedRow, Terms, pack
from icl_eval.models.causal.rows import PendingRows, Row, RowAnswer
from icl_eval.models.protocol import (
    AnswerSink,
    Budget,
    LanguageModel,
    OutOfMemory,
    Plan,
    Request,
    ScoreAnswer,
    ScoreRequest,
)

LOGITS = 2**26  # of one batch, scored tokens x vocabulary: 256 MiB in float32


class RowModel(LanguageModel):
    """A causal model that scores rows of shared prefixes.

    Attributes:
        shares_prefixes: whether it accepts rows that branch; otherwise every row is one sequence.
        caches_prefixes: whether it caches the states of a prefix from one row to the next.
        has_tree_attention: whether tokens attend to their ancestors only, so that unrelated sequences of a row cost
            nothing: a row need not be small, nor a batch more than one row.
        max_shared_length: input tokens up to which rows may branch; longer sequences need their own batches.
        hidden_size: width of its layers, from which attention is weighed against the rest.
        queue_depth: the most batches in flight; 1 if the answers of each are read before the next.
    """

    measures_noise = True
    shares_prefixes: bool
    caches_prefixes: bool
    has_tree_attention: bool
    max_shared_length: int
    hidden_size: int
    queue_depth: int
    budget: Budget

    @abstractmethod
    def enqueue(self, rows: Sequence[Row]) -> PendingRows:
        """Start one batch after the ones before it; only reading the answers waits for a device.

        Raises:
            OutOfMemory: it does not fit the device.
        """

    def clear_cache(self) -> None:
        """Clear the cache of the last prefix, so that the next answers do not depend on it."""

    def plan(self, requests: Sequence[Request]) -> Plan:
        """Plan rows and batches for requests to score; those to generate are planned as for every model."""
        if not isinstance(requests[0], ScoreRequest):
            return super().plan(requests)
        planned = self.plan_batches({i: each for i, each in enumerate(requests) if isinstance(each, ScoreRequest)})
        return Plan(
            requests=requests,
            items=work_items(planned),
            details=planned,
            computed=sum(batch.computed for batch in planned),
            attended=sum(batch.attended for batch in planned),
            batches=len(planned),
            longest=max(batch.tokens for batch in planned),
            targets=max(batch.targets for batch in planned),
            prefix_length=max(batch.rows[0].row.prefix_length for batch in planned),
        )

    def plan_batches(self, requests: Mapping[int, ScoreRequest]) -> list[Batch]:
        """Batches: sequences up to `max_shared_length` share rows if possible; longer ones get their own batches."""
        planned = []
        targets = max(LOGITS // self.vocabulary, 1)
        for near in (False, True):
            alike = {
                i: request
                for i, request in requests.items()
                if (request.input_length <= self.max_shared_length) is near
            }
            share = near and self.shares_prefixes
            terms = Terms(
                share=share,
                limit=self.budget.size,
                width=self.hidden_size,
                targets=targets,
                cache_prefixes=share and self.caches_prefixes,
                tree_attention=share and self.has_tree_attention,
            )
            rows = pack(alike, terms)
            planned += batched(rows, budget=terms.limit, targets=targets, one_by_one=terms.tree_attention)
        return planned

    def run(self, plan: Plan, items: Sequence[int], sink: AnswerSink) -> int:
        """Answer the requests of some items; batches are planned again where one does not fit the device."""
        if not isinstance(plan.requests[0], ScoreRequest):
            return super().run(plan, items, sink)
        self.clear_cache()
        selected = sorted(span.request for item in items for row in plan.details[item].rows for span in row.spans)
        waiting = {index: each for index in selected if isinstance(each := plan.requests[index], ScoreRequest)}
        flight = _Flight(self, waiting, steps(plan.details, items), sink)
        try:
            for step in flight.steps():
                with self.budget.halved_if_exceeded(step):
                    if step.clears:
                        self.clear_cache()
                    for row in step.replay:
                        self.enqueue([row])
                    flight.add(step, self.enqueue([packed.row for packed in step.batch.rows]))
        except OutOfMemory:
            flight.settle(0)  # what was computed before is kept
            raise
        return flight.tokens


class _Flight:
    """The batches of a run: those that are still to be computed, and those in flight."""

    def __init__(
        self, model: RowModel, waiting: dict[int, ScoreRequest], planned: Iterator[Step], sink: AnswerSink
    ) -> None:
        self._model, self._waiting, self._planned, self._sink = model, waiting, planned, sink
        self.tokens = 0
        self._in_flight: deque[tuple[Batch, PendingRows]] = deque()

    def steps(self) -> Iterator[Step]:
        """The batches in order; when the budget has changed, those of a new plan for all that is not answered."""
        budget = self._model.budget.size
        while self._waiting:
            for step in self._planned:
                yield step
                if self._model.budget.size != budget:
                    break
            self.settle(0)
            budget = self._model.budget.size
            self._planned = map(Step, self._model.plan_batches(self._waiting))

    def add(self, step: Step, pending: PendingRows) -> None:
        """Take a started batch, and read the answers of the oldest ones."""
        self._in_flight.append((step.batch, pending))
        self.tokens += step.batch.computed + sum(len(row.tokens) for row in step.replay)
        self.settle(self._model.queue_depth - 1)

    def settle(self, most: int) -> None:
        """Read the answers of the oldest batches, until at most `most` are in flight."""
        while len(self._in_flight) > most:
            batch, pending = self._in_flight.popleft()
            answers = dict(_unpacked(batch.rows, pending()))
            self._sink(answers)
            for index in answers:
                del self._waiting[index]


def _unpacked(rows: Sequence[PackedRow], answers: Sequence[RowAnswer]) -> Iterator[tuple[int, ScoreAnswer]]:
    for packed, answer in zip(rows, answers, strict=True):
        for span in packed.spans:
            targets = slice(span.start, span.stop)
            yield span.request, ScoreAnswer.of(answer.logprobs[targets], answer.greedy[targets])
