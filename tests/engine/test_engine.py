from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_rows import REQUESTS, ToyRows, expected

from icl_eval.engine import Engine, MemoryJournal
from icl_eval.errors import ModelError
from icl_eval.models import (
    Decoding,
    GenerateRequest,
    LanguageModel,
    Request,
    ScoreAnswer,
    ScoreRequest,
    Sink,
)
from icl_eval.models.causal.rows import PendingRows, Row, RowAnswer
from icl_eval.models.protocol import LOGITS, AnswerSink, Plan
from icl_eval.testing import FakeLM

MODELS = st.builds(
    ToyRows,
    shares=st.booleans(),
    max_shared_length=st.integers(1, 64),
    row_budget=st.integers(1, 200),
    capacity=st.none() | st.integers(16, 100),
)


@given(REQUESTS, MODELS)
def test_answers_are_those_of_the_model_whatever_budget_shared_length_and_memory(
    requests: list[ScoreRequest], model: ToyRows
) -> None:
    answers = Engine(model).answer(requests)

    for request, answer in zip(requests, answers, strict=True):
        assert answer.logprobs == pytest.approx(expected(request), abs=1e-6)


@given(REQUESTS, MODELS, st.randoms(use_true_random=False))
def test_answers_do_not_depend_on_order_or_company(
    requests: list[ScoreRequest], model: ToyRows, random: object
) -> None:
    together = dict(zip(map(id, requests), Engine(model).answer(requests), strict=True))
    shuffled = requests[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    engine = Engine(ToyRows())

    alone = {id(request): engine.answer([request])[0] for request in shuffled}

    for key, answer in together.items():
        assert alone[key].logprobs == pytest.approx(answer.logprobs, abs=1e-6)
        assert alone[key].greedy == answer.greedy


def test_an_answer_counts_for_all_requests_that_it_answers() -> None:
    ticks: list[int] = []
    one, other = ScoreRequest.of([65], [66]), ScoreRequest.of([67], [68, 69])

    Engine(FakeLM(), tick=ticks.append).answer([one, other, one, one])

    assert sorted(filter(None, ticks)) == [1, 3]


@given(REQUESTS, MODELS)
def test_every_request_is_answered_once(requests: list[ScoreRequest], model: ToyRows) -> None:
    ticks: list[int] = []
    distinct = {(request.boundary, *request.tokens) for request in requests}
    engine = Engine(model, tick=ticks.append)

    engine.answer(requests)

    assert engine.computed == len(distinct)
    assert sum(ticks) == len(requests)
    assert sum(len(batch) for batch in model.batches) <= len(distinct)


def test_repetitions_of_a_known_request_are_reused_and_counted() -> None:
    ticks: list[int] = []
    request = ScoreRequest.of([1, 2], [3])
    engine = Engine(FakeLM(), tick=ticks.append)
    engine.answer([request])

    engine.answer([request, request])

    assert (engine.computed, engine.reused, sum(ticks)) == (1, 2, 3)


@given(REQUESTS)
def test_what_is_known_is_not_computed_again(requests: list[ScoreRequest]) -> None:
    model, store = ToyRows(), MemoryJournal()
    first = Engine(model, store).answer(requests)
    model.batches.clear()

    again = Engine(model, store)

    assert again.answer(requests) == first
    assert (model.batches, again.computed, again.tokens) == ([], 0, 0)


@given(REQUESTS)
def test_what_another_model_answered_is_not_known(requests: list[ScoreRequest]) -> None:
    store = MemoryJournal()
    Engine(ToyRows(), store).answer(requests)
    other = ToyRows()
    other.fingerprint = "another"

    engine = Engine(other, store)
    engine.answer(requests)

    assert engine.computed == len({(request.boundary, *request.tokens) for request in requests})


def test_tokens_count_what_the_model_read() -> None:
    engine = Engine(ToyRows())

    engine.answer([ScoreRequest.of([1, 2, 3], [4]), ScoreRequest.of([1, 2, 5], [4]), ScoreRequest.of([1, 2], [5])])

    assert engine.tokens == 4


def test_sequences_beyond_max_shared_length_share_neither_rows_nor_batches_with_others() -> None:
    model = ToyRows(max_shared_length=3)
    long = [ScoreRequest.of([1, 2, 3, 4, end], [0]) for end in (1, 2)]
    short = [ScoreRequest.of([1, 2, end], [0]) for end in (1, 2)]

    Engine(model).answer([*long, *short])

    assert [[len(row.tokens) for row in batch] for batch in model.batches] == [[5, 5], [4]]


@pytest.mark.parametrize("shares", [True, False])
def test_a_full_device_halves_the_budget_until_all_is_answered(shares: bool) -> None:
    requests = [ScoreRequest.of([a, b, 0, 1, 2], [c]) for a in range(5) for b in range(5) for c in range(5)]
    model = ToyRows(shares=shares, capacity=20)
    engine = Engine(model)

    answers = engine.answer(requests)

    assert [a.logprobs for a in answers] == [pytest.approx(expected(r), abs=1e-6) for r in requests]
    assert engine.computed == len(requests)
    assert model.failures > 0
    assert 10 <= model.budget.size <= 20
    failures = model.failures
    engine.answer([ScoreRequest.of([5, a, b, 0], [1]) for a in range(5) for b in range(5)])
    assert model.failures == failures


@pytest.mark.parametrize("shares", [True, False])
def test_no_batch_has_more_scored_positions_than_the_budget_of_logits(shares: bool) -> None:
    model = ToyRows(shares=shares)
    model.vocabulary = LOGITS // 5 - 1

    Engine(model).answer([ScoreRequest.of([a, b, 0], [1, 2]) for a in range(4) for b in range(4)])

    assert {sum(len(row.targets) for row in batch) for batch in model.batches} == {4}


def test_a_budget_far_above_what_was_too_much_is_halved_from_that() -> None:
    requests = [ScoreRequest.of([a, b, 0, 1], [2]) for a in range(4) for b in range(4)]
    model = ToyRows(shares=False, capacity=40, row_budget=10**9)

    Engine(model).answer(requests)

    assert (model.failures, model.budget.size) == (1, 32)


def test_what_was_answered_before_the_device_was_full_is_kept() -> None:
    class Crowded(ToyRows):
        def forward(self, rows: Sequence[Row]) -> list[RowAnswer]:
            self.capacity = 4 if len(self.batches) == 2 else None
            return super().forward(rows)

    model = Crowded(shares=False, row_budget=12)
    requests = [ScoreRequest.of([a, b, 0, 1], [2]) for a in range(4) for b in range(4)]
    engine = Engine(model)

    engine.answer(requests)

    assert model.failures == 1
    assert model.budget.size == 6
    assert sum(len(batch) for batch in model.batches) == len(requests)


class Devices(ToyRows):
    """A toy whose batches are enqueued and read apart, and the order in which that happens."""

    def __init__(self, queue_depth: int, **settings: Any) -> None:
        super().__init__(shares=False, row_budget=4, **settings)
        self.queue_depth, self.events = queue_depth, list[tuple[str, int]]()

    def enqueue(self, rows: Sequence[Row]) -> PendingRows:
        answers, batch = self.forward(rows), len(self.batches)
        self.events.append(("enqueue", batch))

        def read() -> list[RowAnswer]:
            self.events.append(("read", batch))
            return answers

        return read


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_next_batches_are_enqueued_before_the_answers_of_the_last_are_read(depth: int) -> None:
    model = Devices(depth)
    requests = [ScoreRequest.of([a, b, 0, 1], [2]) for a in range(3) for b in range(2)]

    answers = Engine(model).answer(requests)

    assert [a.logprobs for a in answers] == [pytest.approx(expected(r), abs=1e-6) for r in requests]
    ahead = [("enqueue", batch) for batch in range(1, depth)]
    steady = [event for batch in range(depth, 7) for event in (("enqueue", batch), ("read", batch - depth + 1))]
    assert model.events == ahead + steady + [("read", batch) for batch in range(8 - depth, 7)]


def test_batches_in_flight_when_the_device_is_full_are_read_and_not_computed_again() -> None:
    class Crowded(Devices):
        def forward(self, rows: Sequence[Row]) -> list[RowAnswer]:
            self.capacity = 4 if len(self.batches) == 2 and not self.failures else None
            return super().forward(rows)

    model = Crowded(3)
    model.budget.size = 12
    requests = [ScoreRequest.of([a, b, 0, 1], [2]) for a in range(4) for b in range(4)]

    Engine(model).answer(requests)

    assert model.failures == 1
    assert sum(len(batch) for batch in model.batches) == len(requests)
    assert model.events[2:4] == [("read", 1), ("read", 2)]


def test_one_sequence_that_exceeds_the_device_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"one request of up to 10 tokens does not fit .* memory: the toy is full"):
        Engine(ToyRows(capacity=8)).answer([ScoreRequest.of([1] * 9, [1])])


def test_a_request_longer_than_the_window_is_an_error() -> None:
    with pytest.raises(ModelError, match="a request takes 65 tokens, but the context length is 64"):
        Engine(ToyRows()).answer([ScoreRequest.of([1] * 65, [1])])

    assert Engine(ToyRows()).answer([ScoreRequest.of([1] * 64, [1])])


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), float("inf"), 0.5])
def test_what_is_no_log_probability_is_an_error(value: float) -> None:
    class Broken(ToyRows):
        def forward(self, rows: Sequence[Row]) -> list[RowAnswer]:
            return [RowAnswer(np.full(len(row.targets), value, np.float32), np.zeros(1, np.bool_)) for row in rows]

    store = MemoryJournal()
    request = ScoreRequest.of([1], [2])
    with pytest.raises(ModelError, match=r"the model returns a log-probability of .*; its weights may be damaged"):
        Engine(Broken(), store).answer([request])

    assert store.get(request.key("toy")) is None


def test_overflow_in_float16_is_reported_with_its_remedy() -> None:
    class Overflowing(ToyRows):
        precision = "float16"

        def forward(self, rows: Sequence[Row]) -> list[RowAnswer]:
            return [RowAnswer(np.full(len(row.targets), np.nan, np.float32), np.zeros(1, np.bool_)) for row in rows]

    with pytest.raises(ModelError, match="try --dtype float32"):
        Engine(Overflowing()).answer([ScoreRequest.of([1], [2])])


def test_rounding_above_zero_is_zero() -> None:
    class Certain(ToyRows):
        def forward(self, rows: Sequence[Row]) -> list[RowAnswer]:
            return [RowAnswer(np.full(len(row.targets), 1e-6, np.float32), np.ones(1, np.bool_)) for row in rows]

    assert Engine(Certain()).answer([ScoreRequest.of([1], [2])])[0].logprobs == (0.0,)


def test_a_black_box_computes_only_what_is_missing() -> None:
    model, store = FakeLM(), MemoryJournal()
    requests = [ScoreRequest.of([65, 66], [67]), ScoreRequest.of([65], [66, 67])]
    Engine(model, store).answer(requests[:1])

    engine = Engine(model, store)
    engine.answer([*requests, *requests])

    assert (model.answered, engine.computed, engine.tokens) == (2, 1, 2)


class Mute(LanguageModel):
    """The least that a model can be."""

    name, fingerprint, precision = "mute", "mute", "float32"
    window, fallback = 9, 0

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [[len(text)] for text in texts]

    def decode(self, ids: Sequence[int]) -> list[str]:
        return list(map(str, ids))


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (ScoreRequest.of([1], [2]), "Mute cannot score requests"),
        (GenerateRequest.of([1], Decoding(1)), "Mute cannot generate text"),
    ],
)
def test_what_a_model_does_not_implement_is_an_error(request_: Request, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        Engine(Mute()).answer([request_])


GOOD = ScoreAnswer((-1.0,), False)


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ([], r"^Odd.score answers 0 of 2 requests, but must call `sink` for each$"),
        ([(0, GOOD)], r"^Odd.score answers 1 of 2 requests, but must call `sink` for each$"),
        ([(0, GOOD), (0, GOOD)], r"^Odd.score calls `sink` twice for a request, or for 0 of 2 requests$"),
        ([(2, GOOD)], "or for 2 of 2 requests"),
        ([(-1, GOOD)], "or for -1 of 2 requests"),
        ([(0, ScoreAnswer((-1.0, -1.0), False))], "^Odd returns 2 log-probabilities for a request of 1 token$"),
        (
            [(0, ScoreAnswer((-1.0,), False, (-1.0,)))],
            "^Odd returns 1 mean and 0 standard deviations for a request of 0$",
        ),
        ([(0, ScoreAnswer((-1.0,), False, (1.0,), (1.0,)))], "returns a log-probability of 1.0"),
        ([(0, -1.0)], "^Odd returns an answer to another kind of request$"),
    ],
)
def test_what_a_model_does_not_answer_or_answers_wrongly_is_one_sentence(answers: list[Any], sentence: str) -> None:
    class Odd(Mute):
        def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
            for position, answer in answers:
                sink(position, answer)

    with pytest.raises(ModelError, match=sentence):
        Engine(Odd()).answer([ScoreRequest.of([1], [2]), ScoreRequest.of([1], [3])])


def test_a_plan_that_is_not_run_is_one_sentence() -> None:
    class Idle(Mute):
        def run(self, plan: Plan, items: Sequence[int], sink: AnswerSink) -> int:
            return 0

    with pytest.raises(ModelError, match=r"^Idle leaves 1 of 1 request without an answer$"):
        Engine(Idle()).answer([ScoreRequest.of([1], [2])])


def test_a_model_generates_if_it_implements_it() -> None:
    assert FakeLM().can_generate
    assert not Mute().can_generate


def test_a_model_without_encoding_cannot_be_made() -> None:
    class Blind(LanguageModel):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Blind()  # type: ignore[abstract]


def test_a_model_of_a_few_lines_is_answered_in_chunks() -> None:
    class Constant(Mute):
        def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
            for index, each in enumerate(requests):
                sink(index, ScoreAnswer((-1.0,) * (len(each.tokens) - each.boundary), False))

    engine = Engine(Constant())

    assert engine.answer([ScoreRequest.of([1], [2, 3])]) == [ScoreAnswer((-1.0, -1.0), False)]
    assert engine.tokens == 2
