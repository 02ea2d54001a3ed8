from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from icl_eval.engine import Engine, MemoryJournal, Workload, packing
from icl_eval.models import ScoreRequest
from icl_eval.testing import FakeLM

from .toys import REQUESTS, ToyRows


@given(REQUESTS, st.booleans(), st.integers(6, 60), st.integers(0, 8))
def test_a_plan_counts_what_answering_then_takes(
    requests: list[ScoreRequest], skips: bool, budget: int, before: int
) -> None:
    store, stem = MemoryJournal(), packing.STEM
    packing.STEM = 3
    try:
        Engine(ToyRows(), store).answer(requests[:before])
        model = ToyRows(skips=skips, row_budget=budget)
        engine = Engine(model, store)

        planned = engine.workload(requests, set())
        engine.answer(requests)
    finally:
        packing.STEM = stem

    assert planned.requests == len(requests)
    assert planned.known == engine.reused
    assert planned.requests - planned.known - planned.repeated == engine.computed
    assert planned.computed == engine.tokens
    assert planned.batches == len(model.batches)
    assert planned.targets == max((sum(len(row.targets) for row in rows) for rows in model.batches), default=0)
    assert planned.stem == max((rows[0].stem for rows in model.batches), default=0)


@given(REQUESTS)
def test_planning_asks_and_stores_nothing(requests: list[ScoreRequest]) -> None:
    model, store = ToyRows(), MemoryJournal()

    Engine(model, store).workload(requests, set())

    assert model.batches == []
    assert all(store.get(request.key(model.fingerprint)) is None for request in requests)


def test_what_an_earlier_part_of_the_run_asks_is_not_planned_again() -> None:
    request, planned = ScoreRequest.of([1, 2, 3], [4, 5]), set[str]()
    engine = Engine(ToyRows())

    first, second = engine.workload([request], planned), engine.workload([request, request], planned)

    assert (first.computed, first.repeated) == (4, 0)
    assert (second.computed, second.repeated, second.asked) == (0, 2, 8)
    assert first + second == Workload(
        3, 0, 2, asked=12, computed=4, batches=1, longest=4, targets=2, stem=0, context=4, scored=2, attended=10
    )
    assert (first + second).sharing == 3


def test_a_model_that_plans_for_itself_is_counted_one_by_one() -> None:
    requests = [ScoreRequest.of([65, 66], [67]), ScoreRequest.of([65, 66], [68]), ScoreRequest.of([65, 66], [67])]

    work = Engine(FakeLM()).workload(requests, set())

    assert (work.asked, work.computed, work.batches) == (6, 4, 0)


def test_memory_is_that_of_the_largest_batch() -> None:
    work = Workload(longest=100, targets=7, stem=30)

    assert work.memory(token_bytes=10, state_bytes=5, vocabulary=50) == {
        "activations": 1000,
        "logits": 7 * 50 * 4,
        "kept states": 150,
    }
