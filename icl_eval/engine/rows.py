"""Run rows on a model: plan them, compute them on cached prefixes, and plan again when memory runs out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

from icl_eval.engine.chunking import Share
from icl_eval.engine.packing import PackedRow, Terms, pack
from icl_eval.engine.plan import Batch, plan
from icl_eval.engine.prefix_replay import Step, steps, work_items
from icl_eval.errors import ModelError
from icl_eval.models import OutOfMemory, PendingRows, PrefixCachingModel, RowAnswer, RowModel, ScoreAnswer, ScoreRequest

LOGITS = 2**26  # of one batch, scored tokens x vocabulary: 256 MiB in float32


def batches(model: RowModel, requests: Mapping[int, ScoreRequest]) -> list[Batch]:
    """Batches: sequences up to `max_shared_length` share rows if the model can; longer ones get their own batches."""
    planned = []
    targets = max(LOGITS // model.vocabulary, 1)
    for near in (False, True):
        alike = {
            i: request for i, request in requests.items() if (request.input_length <= model.max_shared_length) is near
        }
        share = near and model.shares_prefixes
        terms = Terms(
            share=share,
            limit=model.row_budget,
            width=model.hidden_size,
            targets=targets,
            cache_prefixes=share and model.caches_prefixes,
            tree_attention=share and model.has_tree_attention,
        )
        rows = pack(alike, terms)
        planned += plan(rows, budget=terms.limit, targets=targets, one_by_one=terms.tree_attention)
    return planned


def compute(
    model: RowModel,
    requests: Sequence[ScoreRequest],
    accept: Callable[[dict[int, ScoreAnswer]], None],
    *,
    share: Share,
    count: Callable[[int], None],
) -> None:
    """Answer this process's share of requests.

    Args:
        model: the model that answers; its budget is halved when memory runs out.
        requests: the requests of all processes.
        accept: called with the answers of every batch, by the indices of their requests.
        share: selects this process's items.
        count: called with the number of tokens that the model has just computed.

    Raises:
        ModelError: one sequence alone exceeds the device's memory.
    """
    _clear_cache(model)
    planned = batches(model, dict(enumerate(requests)))
    indices = share(work_items(planned))
    selected = sorted(span.request for index in indices for row in planned[index].rows for span in row.spans)
    waiting = {index: requests[index] for index in selected}
    todo: Iterator[Step] = steps(planned, indices)
    in_flight: deque[tuple[Batch, PendingRows]] = deque()

    def settle(most: int) -> None:
        """Read the answers of the oldest batches, until at most `most` are in flight."""
        while len(in_flight) > most:
            batch, pending = in_flight.popleft()
            accept(answered := dict(_unpack(batch.rows, pending())))
            for index in answered:
                del waiting[index]

    while waiting:
        for step in todo:
            try:
                in_flight.append((step.batch, _enqueue(model, step, count)))
            except OutOfMemory as error:
                settle(0)
                model.row_budget = _smaller(model.row_budget, step.batch, error)
                todo = map(Step, batches(model, waiting))  # plan again all that is still waiting
                break
            settle(model.queue_depth - 1)
        else:
            settle(0)


def _enqueue(model: RowModel, step: Step, count: Callable[[int], None]) -> PendingRows:
    if step.clears:
        _clear_cache(model)
    for row in step.replay:
        model.enqueue([row])
        count(len(row.tokens))
    pending = model.enqueue([packed.row for packed in step.batch.rows])
    count(step.batch.computed)
    return pending


def _clear_cache(model: RowModel) -> None:
    if isinstance(model, PrefixCachingModel):
        model.clear_cache()


def _unpack(rows: Sequence[PackedRow], answers: Sequence[RowAnswer]) -> list[tuple[int, ScoreAnswer]]:
    unpacked = []
    for packed, answer in zip(rows, answers, strict=True):
        for span in packed.spans:
            targets = slice(span.start, span.stop)
            unpacked.append((span.request, ScoreAnswer.of(answer.logprobs[targets], answer.greedy[targets])))
    return unpacked


def _smaller(budget: int, batch: Batch, error: OutOfMemory) -> int:
    """Half of the tokens that did not fit.

    Raises:
        ModelError: the batch is a single sequence already.
    """
    if len(batch.rows) == 1 and batch.rows[0].row.is_linear:
        raise ModelError(f"one prompt of {batch.tokens} tokens does not fit the device's memory: {error}") from error
    return min(budget, batch.tokens) // 2
