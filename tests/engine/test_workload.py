from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from toy_rows import REQUESTS, ToyRows

from icl_eval.engine import Engine, MemoryJournal, Workload
from icl_eval.models import ScoreRequest, Sink
from icl_eval.models.causal.rows import RowSizes
from icl_eval.testing import FakeLM


@given(REQUESTS, st.booleans(), st.integers(6, 60), st.integers(0, 8))
def test_a_plan_counts_what_answering_then_takes(
    requests: list[ScoreRequest], tree_attention: bool, budget: int, before: int
) -> None:
    store, sizes = MemoryJournal(), RowSizes(min_prefix=3)
    Engine(ToyRows(row_sizes=sizes), store).answer(requests[:before])
    model = ToyRows(tree_attention=tree_attention, row_budget=budget, row_sizes=sizes)
    engine = Engine(model, store)

    planned = engine.workload(requests, set())
    engine.answer(requests)

    assert planned.requests == len(requests)
    assert planned.known == engine.reused
    assert planned.requests - planned.known - planned.repeated == engine.computed
    assert planned.computed == engine.tokens
    assert planned.batches == len(model.batches)
    assert planned.targets == max((sum(len(row.targets) for row in rows) for rows in model.batches), default=0)
    assert planned.prefix_length == max((rows[0].prefix_length for rows in model.batches), default=0)


@given(REQUESTS)
def test_planning_computes_and_stores_nothing(requests: list[ScoreRequest]) -> None:
    model, store = ToyRows(), MemoryJournal()

    Engine(model, store).workload(requests, set())

    assert model.batches == []
    assert all(store.get(request.key(model.fingerprint)) is None for request in requests)


def test_what_an_earlier_part_of_the_run_evaluates_is_not_planned_again() -> None:
    request, planned = ScoreRequest.of([1, 2, 3], [4, 5]), set[str]()
    engine = Engine(ToyRows())

    first, second = engine.workload([request], planned), engine.workload([request, request], planned)

    assert (first.computed, first.repeated) == (4, 0)
    assert (second.computed, second.repeated, second.one_by_one) == (0, 2, 8)
    assert first + second == Workload(
        3,
        0,
        2,
        one_by_one=12,
        computed=4,
        batches=1,
        longest=4,
        targets=2,
        prefix_length=0,
        context=4,
        scored=2,
        attended=10,
    )
    assert (first + second).sharing == 3


def test_a_model_that_plans_for_itself_is_counted_one_by_one() -> None:
    requests = [ScoreRequest.of([65, 66], [67]), ScoreRequest.of([65, 66], [68]), ScoreRequest.of([65, 66], [67])]

    work = Engine(FakeLM()).workload(requests, set())

    assert (work.one_by_one, work.computed, work.batches) == (6, 4, 0)


class Padding(FakeLM):
    """Pads all requests of a call to the length of the longest."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: list[int] = []

    def computed_tokens(self, requests: Sequence[ScoreRequest]) -> int:
        return len(requests) * max(request.input_length for request in requests)

    def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
        self.chunks.append(len(requests))
        super().score(requests, sink)


def test_a_model_that_plans_for_itself_is_counted_in_the_chunks_that_it_gets() -> None:
    long = [ScoreRequest.of([65] * 3000, [number]) for number in range(66, 76)]
    requests = [*long, *(ScoreRequest.of([70, number], [67]) for number in range(66, 76))]
    model = Padding()
    engine = Engine(model)

    planned = engine.workload(requests, set())
    engine.answer(requests)

    assert len(model.chunks) > 1
    assert planned.computed == engine.tokens


def test_memory_is_that_of_the_largest_batch() -> None:
    work = Workload(longest=100, targets=7, prefix_length=30)

    assert work.memory(token_bytes=10, state_bytes=5, vocabulary=50) == {
        "activations": 1000,
        "logits": 7 * 50 * 4,
        "cached prefix": 150,
    }


def test_the_largest_batch_of_several_parts_is_the_largest_of_any() -> None:
    parts = [
        Workload(longest=5, targets=1, prefix_length=9, context=2),
        Workload(3, longest=4, targets=7, prefix_length=6, context=8),
    ]

    assert parts[0] + parts[1] == Workload(3, longest=5, targets=7, prefix_length=9, context=8)
