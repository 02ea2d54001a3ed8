"""From requests to answers: look up, compute each missing one once, remember."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from icl_eval.engine.journal import AnswerStore, MemoryJournal
from icl_eval.engine.packing import PackedRow, Terms, pack
from icl_eval.engine.plan import Batch, plan
from icl_eval.errors import ModelError
from icl_eval.models import LanguageModel, OutOfMemory, RowAnswer, RowModel, ScoreAnswer, ScoreRequest, ScoringModel

LOGITS = 2**26  # of one batch, scored places x vocabulary: 256 MiB in float32
DIGITS = 7  # decimals of a stored log-probability: below float32's own precision


class Engine:
    """Answers requests with one model.

    Args:
        model: what is asked.
        store: where known answers are; in memory by default.
        tick: called with a number of requests whenever so many more are answered.

    Attributes:
        computed: requests answered by the model.
        reused: requests whose answer was known before.
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
        self.computed = self.reused = self.tokens = 0

    def answer(self, requests: Sequence[ScoreRequest]) -> list[ScoreAnswer]:
        """The answers, in the order of the requests.

        Raises:
            ModelError: a request is longer than the model's window, the model gives something that is no
                log-probability, or one sequence exceeds the device's memory.
        """
        self._check_lengths(requests)
        keys = [request.key(self.model.fingerprint) for request in requests]
        known = {key: answer for key in dict.fromkeys(keys) if (answer := self.store.get(key)) is not None}
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in known}
        found = sum(key in known for key in keys)
        self.reused += found
        self.tick(found)
        repeated = len(keys) - found - len(missing)
        self._compute(missing, known)
        self.tick(repeated)
        return [known[key] for key in keys]

    def _check_lengths(self, requests: Sequence[ScoreRequest]) -> None:
        longest = max((request.input_length for request in requests), default=0)
        if longest > self.model.window:
            raise ModelError(f"a request reads {longest} tokens, but the model's window is {self.model.window}")

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
        waiting = dict(enumerate(requests))
        while waiting:
            for batch in _batches(model, waiting):
                try:
                    answers = model.forward([packed.row for packed in batch.rows])
                except OutOfMemory as error:
                    model.row_budget = _smaller(model.row_budget, batch, error)
                    break  # all that is still waiting is planned anew
                self.tokens += batch.tokens
                accept(answered := dict(_unpack(batch.rows, answers)))
                for index in answered:
                    del waiting[index]

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
        batches += [Batch((row,)) for row in rows] if terms.skips else plan(rows, budget=terms.limit, targets=targets)
    return batches


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


def _smaller(budget: int, batch: Batch, error: OutOfMemory) -> int:
    """Half the tokens that were too many.

    Raises:
        ModelError: the batch is a single sequence already.
    """
    if len(batch.rows) == 1 and batch.rows[0].row.is_linear:
        raise ModelError(f"one prompt of {batch.tokens} tokens does not fit the device's memory: {error}") from error
    return min(budget, batch.tokens) // 2
