"""Plan and run batches of rows, for models whose forward pass takes rows and may continue a cached prefix.

A batch has rows up to a token budget, longest first. A process that runs a part of the plan computes each batch from
the same cached states as a process that runs the whole plan, so that answers are equal.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from icl_eval.models.causal.rows import PackedRow, Packing, PendingRows, Row, RowAnswer, RowSizes, depths, pack
from icl_eval.models.protocol import (
    LOGITS,
    AnswerSink,
    Budget,
    LanguageModel,
    OutOfMemory,
    Plan,
    Request,
    ScoreAnswer,
    ScoreRequest,
    WorkItem,
    attended_pairs,
    common_prefix,
)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are computed together.

    Attributes:
        rows: the rows, which have the same cached prefix.
        new_prefix: number of tokens of this prefix that are not in the cache after the previous batch.
    """

    rows: tuple[PackedRow, ...]
    new_prefix: int = 0

    @property
    def tokens(self) -> int:
        """Number of tokens of the rows, including padding, without their cached prefix."""
        return len(self.rows) * max(len(packed.row.tokens) - packed.row.prefix_length for packed in self.rows)

    @property
    def computed(self) -> int:
        """Number of tokens that the model computes, including new tokens of the cached prefix."""
        return self.tokens + self.new_prefix

    @property
    def targets(self) -> int:
        """Number of tokens to score."""
        return sum(len(packed.row.targets) for packed in self.rows)

    @property
    def attended(self) -> int:
        """Number of pairs of a computed token and a token that it attends to, including itself."""
        rows = [packed.row for packed in self.rows]
        pairs = sum(int((depths(row.parents)[row.prefix_length :] + 1).sum()) for row in rows)
        return pairs + attended_pairs(rows[0].prefix_length - self.new_prefix, rows[0].prefix_length)


def batched(rows: Sequence[PackedRow], *, budget: int, targets: int, one_by_one: bool = False) -> list[Batch]:
    """Batches of at most `budget` tokens, including padding, and `targets` scored tokens; a larger row is alone in one.

    Plain and branching rows go into separate batches, since a branching row would require a mask for all. Rows with a
    cached prefix each form a batch, in the order of the trie, in which each prefix differs least from the previous one.
    With `one_by_one`, every row forms a batch.
    """
    if one_by_one:
        return _one_by_one(rows)
    after_prefixes = _one_by_one([packed for packed in rows if packed.row.prefix_length])
    others = [packed for packed in rows if not packed.row.prefix_length]
    ordered = sorted(others, key=lambda packed: (packed.row.is_linear, -len(packed.row.tokens)))
    batches: list[Batch] = []
    for _, alike in groupby(ordered, key=lambda packed: packed.row.is_linear):
        batches += _fill(list(alike), budget, targets)
    return batches + after_prefixes


def _one_by_one(rows: Sequence[PackedRow]) -> list[Batch]:
    batches: list[Batch] = []
    cached = np.empty(0, np.int32)
    for packed in rows:
        prefix = packed.row.tokens[: packed.row.prefix_length]
        batches.append(Batch((packed,), len(prefix) - common_prefix(cached, prefix)))
        cached = prefix if len(prefix) else cached
    return batches


def _fill(rows: list[PackedRow], budget: int, most_targets: int) -> list[Batch]:
    batches: list[Batch] = []
    current: list[PackedRow] = []
    targets = 0
    for packed in rows:  # longest first, so the first row of a batch sets its length
        longest = len(current[0].row.tokens) if current else len(packed.row.tokens)
        targets += len(packed.row.targets)
        if current and ((len(current) + 1) * longest > budget or targets > most_targets):
            batches.append(Batch(tuple(current)))
            current, targets = [], len(packed.row.targets)
        current.append(packed)
    return [*batches, Batch(tuple(current))] if current else batches


@dataclass(frozen=True, slots=True)
class Step:
    """A batch, and what to do before it.

    Attributes:
        batch: the batch.
        clears_cache: whether to clear the prefix cache first, because it does not have the states that the batch
            continues.
        replay: rows to run after that, so that the cache has these states.
    """

    batch: Batch
    clears_cache: bool = False
    replay: tuple[Row, ...] = ()

    @property
    def size(self) -> int:
        """Number of tokens of the batch, including padding, without its cached prefix."""
        return self.batch.tokens

    @property
    def divisible(self) -> bool:
        """Whether the batch has more than one sequence."""
        return len(self.batch.rows) > 1 or not self.batch.rows[0].row.is_linear


def work_items(batches: Sequence[Batch]) -> list[WorkItem]:
    """The work item of each batch."""
    return [
        WorkItem(
            batch.computed,
            _prefix_length(batch) - batch.new_prefix if _prefix_length(batch) else None,
            [span.request for packed in batch.rows for span in packed.spans],
        )
        for batch in batches
    ]


def steps(batches: Sequence[Batch], indices: Sequence[int]) -> Iterator[Step]:
    """The steps that compute the batches of a plan at these indices, in order, beginning with an empty prefix cache."""
    after_prefixes = [index for index, batch in enumerate(batches) if _prefix_length(batch)]
    order = {index: number for number, index in enumerate(after_prefixes)}
    done = 0  # the cache has the states as after this number of batches with prefixes
    for index in indices:
        number = order.get(index)
        if number is None or number == done:
            yield Step(batches[index])
        else:
            rows = [batches[each].rows[0].row for each in after_prefixes[:number]]
            yield Step(batches[index], True, tuple(_prefix_row(row) for row in replayed_rows(rows)))
        done = done if number is None else number + 1


def replayed_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows that have computed the states in the cache after the last row; those of the others were dropped."""
    found: list[tuple[int, Row]] = []  # with the tokens that were cached before each
    cached = np.empty(0, np.int32)
    for row in rows:
        prefix = row.tokens[: row.prefix_length]
        if (shared := common_prefix(cached, prefix)) < len(prefix):
            while found and found[-1][0] >= shared:
                found.pop()
            found.append((shared, row))
            cached = prefix
    return [row for _, row in found]


def _prefix_row(row: Row) -> Row:
    """A row's cached prefix and one more token: the shortest row that fills the cache with this prefix."""
    size = row.prefix_length
    indices: NDArray[np.int32] = np.arange(size + 1, dtype=np.int32)
    return Row(row.tokens[: size + 1], indices - 1, indices[-1:], row.tokens[:1], size)


def _prefix_length(batch: Batch) -> int:
    return batch.rows[0].row.prefix_length


class RowModel(LanguageModel):
    """The base class of causal models that score rows with shared prefixes.

    Attributes:
        shares_prefixes: whether rows may branch; otherwise each row is one sequence.
        caches_prefixes: whether the states of a prefix are kept from one row to the next.
        has_tree_attention: whether attention between unrelated sequences of a row is not computed. Then rows may be
            large, and a batch is one row.
        max_shared_length: the largest number of input tokens of sequences that may share rows; longer sequences get
            batches of their own.
        hidden_size: hidden size of the layers, from which the cost of attention is estimated.
        queue_depth: maximum number of batches in flight; 1 if the answers of each are read before the next starts.
        row_sizes: lengths of rows and prefixes.
    """

    measures_noise = True
    shares_prefixes: bool
    caches_prefixes: bool
    has_tree_attention: bool
    max_shared_length: int
    hidden_size: int
    queue_depth: int
    row_sizes = RowSizes()
    budget: Budget

    @abstractmethod
    def enqueue(self, rows: Sequence[Row]) -> PendingRows:
        """Start a batch without waiting for the device; the returned function waits for the answers.

        Raises:
            OutOfMemory: the batch does not fit the device.
        """

    def clear_cache(self) -> None:
        """Clear the prefix cache, so that the next answers do not depend on earlier rows."""

    def plan(self, requests: Sequence[Request]) -> Plan:
        """A plan of batches of rows for requests to score; requests to generate are planned as for other models."""
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
        """Batches of rows: sequences up to `max_shared_length` share rows if possible; longer ones have own batches."""
        planned = []
        targets = max(LOGITS // self.vocabulary, 1)
        for near in (False, True):
            alike = {
                i: request
                for i, request in requests.items()
                if (request.input_length <= self.max_shared_length) is near
            }
            share = near and self.shares_prefixes
            packing = Packing(
                share=share,
                limit=self.budget.size,
                width=self.hidden_size,
                targets=targets,
                cache_prefixes=share and self.caches_prefixes,
                tree_attention=share and self.has_tree_attention,
                sizes=self.row_sizes,
            )
            rows = pack(alike, packing)
            planned += batched(rows, budget=packing.limit, targets=targets, one_by_one=packing.tree_attention)
        return planned

    def run(self, plan: Plan, items: Sequence[int], sink: AnswerSink) -> int:
        """Answer the requests of some items; if a batch does not fit the device, plan the remaining ones again."""
        if not isinstance(plan.requests[0], ScoreRequest):
            return super().run(plan, items, sink)
        self.clear_cache()
        selected = sorted(index for item in items for index in plan.items[item].requests)
        waiting = {index: each for index in selected if isinstance(each := plan.requests[index], ScoreRequest)}
        queue = _BatchQueue(self, waiting, steps(plan.details, items), sink)
        try:
            for step in queue.steps():
                with self.budget.halved_if_exceeded(step):
                    if step.clears_cache:
                        self.clear_cache()
                    for row in step.replay:
                        self.enqueue([row])
                    queue.add(step, self.enqueue([packed.row for packed in step.batch.rows]))
        except OutOfMemory:
            queue.drain(0)  # keep the answers of the batches before
            raise
        return queue.tokens


class _BatchQueue:
    """The batches of a run that are still to be computed, and those in flight.

    Args:
        model: the model that computes them.
        waiting: requests without an answer, by index; answered ones are removed.
        planned: the steps of the plan.
        sink: takes the answers of each batch.

    Attributes:
        tokens: number of tokens computed so far.
    """

    def __init__(
        self, model: RowModel, waiting: dict[int, ScoreRequest], planned: Iterator[Step], sink: AnswerSink
    ) -> None:
        self._model, self._waiting, self._planned, self._sink = model, waiting, planned, sink
        self.tokens = 0
        self._in_flight: deque[tuple[Batch, PendingRows]] = deque()

    def steps(self) -> Iterator[Step]:
        """The planned steps; after the budget has changed, those of a new plan for all requests without an answer."""
        budget = self._model.budget.size
        while self._waiting:
            for step in self._planned:
                yield step
                if self._model.budget.size != budget:
                    break
            self.drain(0)
            budget = self._model.budget.size
            self._planned = map(Step, self._model.plan_batches(self._waiting))

    def add(self, step: Step, pending: PendingRows) -> None:
        """Add a batch that has been started, and read the answers of the oldest ones if there are too many."""
        self._in_flight.append((step.batch, pending))
        self.tokens += step.batch.computed + sum(len(row.tokens) for row in step.replay)
        self.drain(self._model.queue_depth - 1)

    def drain(self, most: int) -> None:
        """Read the answers of the oldest batches until at most `most` batches are in flight."""
        while len(self._in_flight) > most:
            batch, pending = self._in_flight.popleft()
            answers = dict(_unpacked(batch.rows, pending(), self._waiting))
            self._sink(answers)
            for index in answers:
                del self._waiting[index]


def _unpacked(
    rows: Sequence[PackedRow], answers: Sequence[RowAnswer], requests: Mapping[int, ScoreRequest]
) -> Iterator[tuple[int, ScoreAnswer]]:
    for packed, answer in zip(rows, answers, strict=True):
        for span in packed.spans:
            targets = slice(span.start, span.stop)
            moments = answer.moments[:, targets] if requests[span.request].moments else None
            yield span.request, ScoreAnswer.of(answer.logprobs[targets], answer.greedy[targets], moments)
