from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_threads import crew, errors_of, together
from toy_rows import REQUESTS, ToyRows, expected

from icl_eval.engine import SINGLE_PROCESS, Engine, Journal, MemoryJournal, Ranks, launched, rank_and_world_size
from icl_eval.errors import ModelError, RankError, RunError, WorkerError
from icl_eval.models import (
    Answer,
    Decoding,
    GenerateRequest,
    LanguageModel,
    OutOfMemory,
    Request,
    ScoreRequest,
    Sink,
)
from icl_eval.models.causal import scheduling as prefix_replay
from icl_eval.models.causal.rows import PackedRow, Row, RowAnswer
from icl_eval.models.causal.scheduling import batched as plan
from icl_eval.models.protocol import MIN_CHUNK_TOKENS
from icl_eval.testing import FakeLM

from .sharing import Rounding, shared

SIZES = st.integers(2, 4)


def answers_of_all(
    size: int, model: Callable[[], LanguageModel], requests: Sequence[Request], windows: int = 1
) -> list[tuple[list[Answer], int]]:
    """The answers that each rank gets, and how many its model gave."""

    def work(ranks: Ranks) -> tuple[list[Answer], int]:
        with shared(Path(folder), ranks) as journal:
            engine = Engine(model(), journal)
            found = [answer for window in _split(requests, windows) for answer in engine.answer(window)]
        return found, engine.computed

    with tempfile.TemporaryDirectory() as folder:
        return together(size, work)


def _split(requests: Sequence[Request], parts: int) -> list[list[Request]]:
    size = -(-len(requests) // parts) or 1
    return [list(requests[start : start + size]) for start in range(0, len(requests), size)]


@settings(max_examples=20, deadline=None)
@given(REQUESTS, SIZES, st.integers(1, 3), st.integers(8, 60))
def test_all_ranks_get_the_answers_of_one(requests: list[ScoreRequest], size: int, windows: int, budget: int) -> None:
    alone = Engine(ToyRows(row_budget=budget))
    wanted = [answer for window in _split(requests, windows) for answer in alone.answer(window)]

    found = answers_of_all(size, lambda: ToyRows(row_budget=budget), requests, windows)

    assert [answers for answers, _ in found] == [wanted] * size
    assert sum(computed for _, computed in found) == alone.computed


PREFIXES = ([1] * 9, [1] * 5 + [2] * 4, [3] * 8)
LONG = [
    ScoreRequest.of([*prefix, *middle, end], [0])
    for prefix in PREFIXES
    for middle in product(range(5), repeat=2)
    for end in range(4)
]


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("tree_attention", [True, False])
def test_a_part_of_a_chain_is_computed_on_the_very_states_of_the_whole(size: int, tree_attention: bool) -> None:
    def model() -> Rounding:
        return Rounding(tree_attention=tree_attention, row_budget=16)

    alone = Engine(model())
    wanted = [answer for window in _split(LONG, 2) for answer in alone.answer(window)]
    found = answers_of_all(size, model, LONG, windows=2)

    assert all(answers == wanted for answers, _ in found)
    assert all(computed > 0 for _, computed in found)


@pytest.mark.parametrize("tree_attention", [True, False])
def test_one_process_computes_every_cached_prefix_once(tree_attention: bool) -> None:
    model = Rounding(tree_attention=tree_attention, row_budget=16)

    engine = Engine(model)
    engine.answer(LONG)

    rows = [row for batch in model.batches for row in batch]
    prefixes = {tuple(row.tokens[:size]) for row in rows for size in range(1, row.prefix_length + 1)}
    assert model.computed_prefixes == len(prefixes) > 3
    assert engine.tokens == len(prefixes) + sum(len(row.tokens) - row.prefix_length for row in rows)


def test_the_toy_shows_where_states_came_from() -> None:
    """Else the test above could not fail."""
    rows = [_row([1, 1, 1, 2], 3), _row([1, 1, 3, 2], 3), _row([1, 1, 3, 4], 3)]
    whole, cut = Rounding(), Rounding()
    one_after_the_other = [whole.forward([row])[0].logprobs for row in rows]

    assert cut.forward([rows[2]])[0].logprobs != one_after_the_other[2]
    cut.clear_cache()
    for row in prefix_replay.replayed_rows(rows[:2]):
        cut.forward([row])
    assert cut.forward([rows[2]])[0].logprobs == one_after_the_other[2]


def _row(tokens: list[int], prefix_length: int) -> Row:
    import numpy as np

    size = len(tokens)
    indices = np.arange(size, dtype=np.int32)
    return Row(np.array(tokens, np.int32), indices - 1, indices[-1:], np.array([0], np.int32), prefix_length)


def test_an_item_shares_what_the_batch_before_has_cached_of_its_prefix() -> None:
    rows = [_row([*prefix, 0], len(prefix)) for prefix in ([1, 2, 3], [1, 2, 4, 5], [])]
    batches = plan([PackedRow(row, ()) for row in rows], budget=9, targets=9)

    found = [(each.cost, each.shared) for each in prefix_replay.work_items(batches)]
    assert found == [(1, None), (1 + 3, 0), (1 + 2, 2)]


def test_a_lineage_leaves_out_what_was_cut_off() -> None:
    rows = [
        _row([*prefix, 0], len(prefix)) for prefix in ([1, 2, 3], [1, 2, 4, 5], [1, 2, 4, 6], [7], [7, 8, 9], [7, 8])
    ]

    assert prefix_replay.replayed_rows(rows[:2]) == [rows[0], rows[1]]
    assert prefix_replay.replayed_rows(rows[:3]) == [rows[0], rows[1], rows[2]]
    assert prefix_replay.replayed_rows(rows[:4]) == [rows[3]]
    assert prefix_replay.replayed_rows(rows) == [rows[3], rows[4]]


BLACK = [ScoreRequest.of([65 + n % 7, *range(n % 5 + 1)], [n % 50, 3]) for n in range(90)]
LENGTHY = [
    ScoreRequest.of([65 + n % 7] * (MIN_CHUNK_TOKENS // 20) + [n], [n % 50, 3]) for n in range(90)
]  # several chunks
TEXTS = [
    GenerateRequest.of([65, n], decoding)
    for n in range(30)
    for decoding in (Decoding(9), Decoding(4, samples=3, temperature=1))
]


@pytest.mark.parametrize("size", [2, 3])
def test_a_black_box_gets_the_same_chunks_whatever_the_ranks(size: int) -> None:
    chunks: list[list[bytes]] = []

    class Recording(FakeLM):
        def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
            chunks.append([request.tokens.tobytes() for request in requests])
            super().score(requests, sink)

    wanted = Engine(Recording()).answer(LENGTHY)
    alone = sorted(chunks)
    chunks.clear()
    found = answers_of_all(size, Recording, LENGTHY)

    assert [answers for answers, _ in found] == [wanted] * size
    assert sorted(chunks) == alone
    assert len(alone) > size


@pytest.mark.parametrize("size", [2, 3])
def test_all_ranks_generate_texts(size: int) -> None:
    requests: list[Request] = [*TEXTS, *LENGTHY]
    found = answers_of_all(size, FakeLM, requests, windows=2)

    assert [answers for answers, _ in found] == [Engine(FakeLM()).answer(requests)] * size
    assert all(computed > 0 for _, computed in found)


def test_every_rank_reports_the_requests_that_the_others_answer(tmp_path: Path) -> None:
    ticks = [0, 0]

    def work(ranks: Ranks) -> None:
        def tick(count: int) -> None:
            ticks[ranks.rank] += count

        with shared(tmp_path, ranks) as journal:
            Engine(FakeLM(), journal, tick=tick).answer([*TEXTS, *BLACK, *BLACK])

    together(2, work)

    assert ticks == [len({*TEXTS, *BLACK}) + len(BLACK)] * 2


def test_more_ranks_than_work(tmp_path: Path) -> None:
    found = answers_of_all(4, FakeLM, BLACK[:1])

    assert [computed for _, computed in found] == [1, 0, 0, 0]


def test_all_plan_for_the_smallest_memory() -> None:
    budgets = iter([256, 8, 100])
    models: list[ToyRows] = []

    def model() -> ToyRows:
        models.append(ToyRows(row_budget=next(budgets)))
        return models[-1]

    answers_of_all(3, model, LONG)

    assert [each.budget.size for each in models] == [8, 8, 8]


def test_a_rank_whose_device_is_full_plans_its_share_again() -> None:
    capacities = iter([None, 12])
    found = answers_of_all(2, lambda: ToyRows(row_budget=64, capacity=next(capacities)), LONG, windows=2)

    for answers, _ in found:
        for request, answer in zip(LONG, answers, strict=True):
            assert answer.logprobs == pytest.approx(expected(request), abs=1e-6)  # type: ignore[union-attr]
    assert sum(computed for _, computed in found) == len(LONG)


def test_every_rank_writes_its_answers_and_the_first_takes_them_over(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> list[int]:
        with shared(tmp_path, ranks) as journal:
            Engine(ToyRows(row_budget=16), journal).answer(LONG)
            ranks.gather(None)
            lines = [len(path.read_bytes().splitlines()) for path in sorted(tmp_path.iterdir())]
            ranks.gather(None)
            journal.merge()
        return lines

    (lines, *_) = together(3, work)

    assert len(lines) == 3
    assert min(lines) > 0
    assert sum(lines) == len(LONG)
    assert [path.name for path in tmp_path.iterdir()] == ["answers.jsonl"]
    with Journal(tmp_path / "answers.jsonl") as journal:
        assert len(journal) == len(LONG)
        again = Engine(ToyRows(), journal)
        assert again.answer(LONG) == Engine(ToyRows(row_budget=16)).answer(LONG)
        assert again.computed == 0


def test_what_a_faster_rank_writes_next_is_not_seen_before_the_next_sync(tmp_path: Path) -> None:
    """Else the slower ones would plan the rest otherwise than it did."""

    def work(ranks: Ranks) -> Answer | None:
        with shared(tmp_path, ranks) as journal:
            if ranks.rank:
                journal.put(dict(zip("ab", Engine(FakeLM()).answer(BLACK[:2]), strict=True)))
            ranks.gather(None)
            found = journal.get("a")
            journal.sync(None)
            assert journal.get("a") is not None
            return found

    first, second = together(2, work)

    assert first is None
    assert second is not None


def test_a_shared_file_system_that_lags_is_waited_for_and_then_named(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> None:
        with ranks.propagating_errors(), shared(tmp_path / str(ranks.rank), ranks, patience=0.2) as journal:
            journal.put({str(ranks.rank): Engine(FakeLM()).answer(BLACK[:1])[0]})
            journal.sync(None)

    for rank in "01":
        (tmp_path / rank).mkdir()
    started = time.monotonic()
    with pytest.raises(
        RunError, match=r"answers\.1\.jsonl: the last \d+ bytes of another process's answers cannot be read"
    ):
        together(2, work)
    assert time.monotonic() - started < 30  # without `patience` it would be twice as long, and more


def test_an_error_of_all_is_raised_once() -> None:
    raised = _raised(3, lambda rank: ModelError("there is no such model"))

    assert [type(error) for error in raised] == [ModelError, WorkerError, WorkerError]
    assert str(raised[0]) == "there is no such model"


def test_an_error_of_one_rank_names_it_and_ends_the_others() -> None:
    raised = _raised(3, lambda rank: ModelError("the device is full") if rank == 1 else None)

    assert [type(error) for error in raised] == [WorkerError, RankError, WorkerError]
    assert {str(error) for error in raised} == {"process 1: the device is full"}


def test_an_error_of_the_first_rank_alone_is_as_in_one_process() -> None:
    raised = _raised(2, lambda rank: None if rank else RunError("another process is writing", "folder"))

    assert [type(error) for error in raised] == [RunError, WorkerError]
    assert str(raised[0]) == "folder: another process is writing"


def _raised(size: int, error_of: Callable[[int], Exception | None]) -> list[Exception]:
    def work(ranks: Ranks) -> None:
        with ranks.propagating_errors():
            if error := error_of(ranks.rank):
                raise error
            ranks.gather(None)

    return errors_of(size, work)


def test_a_device_that_one_sequence_fills_ends_all(tmp_path: Path) -> None:
    class Full(ToyRows):
        def forward(self, rows: Sequence[Row]) -> list[RowAnswer]:
            raise OutOfMemory("the toy is full")

    def work(ranks: Ranks) -> None:
        with ranks.propagating_errors(), shared(tmp_path, ranks) as journal:
            Engine(Full() if ranks.rank else ToyRows(), journal).answer(LONG)

    first, second = errors_of(2, work)

    assert (type(first), type(second)) == (WorkerError, RankError)
    assert str(first) == str(second)
    assert str(first).startswith("process 1: one request of up to 13 tokens does not fit")


def test_words_are_gathered_by_rank() -> None:
    assert together(3, lambda ranks: ranks.gather(ranks.rank * 10)) == [[0, 10, 20]] * 3
    assert [ranks.size for ranks in crew(2)] == [2, 2]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, (0, 1)), ({"RANK": "0", "WORLD_SIZE": "1"}, (0, 1)), ({"RANK": "3", "WORLD_SIZE": "4"}, (3, 4))],
)
def test_the_launcher_says_who_this_is(
    environment: dict[str, str], expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert rank_and_world_size() == expected


def test_one_process_meets_nobody() -> None:
    engine = Engine(ToyRows(), MemoryJournal())

    assert len(engine.answer(LONG)) == len(LONG)


def test_without_a_launcher_no_processes_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)

    assert launched(cpu=True) is SINGLE_PROCESS
