"""From requests to answers: look up, compute each missing one once, remember."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from icl_eval.engine.journal import AnswerStore, MemoryJournal
from icl_eval.engine.packing import PackedRow, pack
from icl_eval.engine.plan import Batch, plan
from icl_eval.errors import ModelError
from icl_eval.models import LanguageModel, OutOfMemory, RowAnswer, RowModel, ScoreAnswer, ScoreRequest, ScoringModel

DIGITS = 7  # decimals of a stored log-probability: below float32's own precision


class Engine:
    """Answers requests with one model.

    Args:
        model: what is asked.
        store: where known answers are; in memory by default.
        tick: called with a number of requests whenever so many more are answered.

    Attributes:
        computed: requests answered by the model, rather than from the store.
        tokens: tokens the model read for them, padding included.
    """

    def __init__(
        self,
        model: LanguageModel,
        store: AnswerStore | None = None,
        tick: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.model, self.tick = model, tick
        self.store = MemoryJournal() if store is None else store
        self.computed = self.tokens = 0

    def answer(self, requests: Sequence[ScoreRequest]) -> list[ScoreAnswer]:
        """The answers, in the order of the requests.

        Raises:
            ModelError: the model gives something that is no log-probability, or one sequence exceeds the device's memory.
        """
        keys = [request.key(self.model.fingerprint) for request in requests]
        known = {key: answer for key in dict.fromkeys(keys) if (answer := self.store.get(key)) is not None}
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in known}
        self.tick(sum(key in known for key in keys))
        repeated = len(keys) - sum(key in known for key in keys) - len(missing)
        self._compute(missing, known)
        self.tick(repeated)
        return [known[key] for key in keys]

    def _compute(self, missing: Mapping[str, ScoreRequest], known: dict[str, ScoreAnswer]) -> None:
        keys, requests = list(missing), list(missing.values())
        if isinstance(self.model, RowModel):
            self._compute_rows(self.model, requests, lambda answers: self._accept(keys, answers, known))
        elif isinstance(self.model, ScoringModel):
            self.model.score(requests, lambda index, answer: self._accept(keys, {index: answer}, known))
            self.tokens += sum(request.input_length for request in requests)
        else:
            raise ModelError(f"{type(self.model).__name__} can neither score requests nor run rows")

    def _compute_rows(
        self, model: RowModel, requests: list[ScoreRequest], accept: Callable[[dict[int, ScoreAnswer]], None]
    ) -> None:
        rows = pack(requests, share=model.shares_prefixes, limit=model.row_budget, width=model.hidden_size)
        waiting = plan(rows, budget=model.row_budget, vocabulary=model.vocabulary)[::-1]
        while waiting:
            batch = waiting.pop()
            try:
                answers = model.forward([packed.row for packed in batch.rows])
            except OutOfMemory as error:
                waiting += _smaller(model, batch, requests, error)
                continue
            self.tokens += batch.tokens
            accept(dict(_unpack(batch.rows, answers)))

    def _accept(self, keys: list[str], answers: Mapping[int, ScoreAnswer], known: dict[str, ScoreAnswer]) -> None:
        for index, answer in answers.items():
            if not all(math.isfinite(value) and value <= 0 for value in answer.logprobs):
                raise ModelError(f"the model's log-probabilities are {answer.logprobs}; {self._advice()}")
            known[keys[index]] = answer
        self.store.put({keys[index]: answer for index, answer in answers.items()})
        self.computed += len(answers)
        self.tick(len(answers))

    def _advice(self) -> str:
        return (
            "float16 overflows in some models: try --dtype float32"
            if self.model.precision == "float16"
            else "its weights may be damaged"
        )


def _unpack(rows: Sequence[PackedRow], answers: Sequence[RowAnswer]) -> list[tuple[int, ScoreAnswer]]:
    unpacked = []
    for packed, answer in zip(rows, answers, strict=True):
        for span in packed.spans:
            logprobs = answer.logprobs[span.start : span.stop]
            values = tuple(
                round(min(float(value), 0.0), DIGITS) if value < 1e-4 else float(value) for value in logprobs
            )
            unpacked.append((span.request, ScoreAnswer(values, bool(answer.greedy[span.start : span.stop].all()))))
    return unpacked


def _smaller(model: RowModel, batch: Batch, requests: list[ScoreRequest], error: OutOfMemory) -> list[Batch]:
    """The batch again under half the budget, for this batch and all that are planned later.

    Raises:
        ModelError: the batch is a single sequence already.
    """
    own = [requests[span.request] for packed in batch.rows for span in packed.spans]
    if len(batch.rows) == 1 and batch.rows[0].row.is_linear:
        raise ModelError(f"one prompt of {batch.tokens} tokens does not fit the device's memory: {error}") from error
    model.row_budget = max(model.row_budget // 2, 1)
    indices = [span.request for packed in batch.rows for span in packed.spans]
    limit = min(model.row_budget, batch.tokens // 2)
    rows = pack(
        own,
        share=model.shares_prefixes and limit > max(map(len, (r.tokens for r in own))),
        limit=limit,
        width=model.hidden_size,
    )
    renamed = [PackedRow(p.row, tuple(type(s)(indices[s.request], s.start, s.stop) for s in p.spans)) for p in rows]
    return plan(renamed, budget=limit, vocabulary=model.vocabulary)[::-1]
