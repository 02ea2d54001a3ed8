from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from toy_rows import REQUESTS

from icl_eval.models import ScoreRequest
from icl_eval.models.causal.rows import PackedRow, Packing, Row, pack
from icl_eval.models.causal.scheduling import batched as plan


@given(REQUESTS, st.integers(0, 60), st.booleans())
def test_batches_keep_to_the_budget_unless_a_row_alone_exceeds_it(
    requests: list[ScoreRequest], budget: int, share: bool
) -> None:
    rows = pack(dict(enumerate(requests)), Packing(share=share, limit=20, width=2))

    batches = plan(rows, budget=budget, targets=1000)

    assert all(batch.tokens <= budget or len(batch.rows) == 1 for batch in batches)
    assert Counter(id(row) for batch in batches for row in batch.rows) == Counter(map(id, rows))
    assert all(len({row.row.is_linear for row in batch.rows}) == 1 for batch in batches)


@given(REQUESTS)
def test_the_longest_rows_of_a_kind_come_first(requests: list[ScoreRequest]) -> None:
    rows = pack(dict(enumerate(requests)), Packing(share=False, limit=20, width=2))

    lengths = [len(row.row.tokens) for batch in plan(rows, budget=30, targets=1000) for row in batch.rows]

    assert lengths == sorted(lengths, reverse=True)


def test_tokens_count_the_padding() -> None:
    requests = [ScoreRequest.of([1, 2, 3], [4]), ScoreRequest.of([2], [4])]
    rows = pack(dict(enumerate(requests)), Packing(share=False, limit=20, width=2))

    assert [batch.tokens for batch in plan(rows, budget=6, targets=1000)] == [6]
    assert [batch.tokens for batch in plan(rows, budget=5, targets=1000)] == [3, 1]


def test_logits_of_a_batch_keep_to_their_budget() -> None:
    requests = [ScoreRequest.of([token], [1, 2, 3]) for token in range(4)]
    rows = pack(dict(enumerate(requests)), Packing(share=False, limit=20, width=2))

    batches = plan(rows, budget=4096, targets=6)

    assert [len(batch.rows) for batch in batches] == [2, 2]


@given(REQUESTS, st.integers(1, 12), st.booleans())
def test_no_batch_of_several_rows_has_more_scored_positions_than_the_logits_budget(
    requests: list[ScoreRequest], targets: int, share: bool
) -> None:
    rows = pack(dict(enumerate(requests)), Packing(share=share, limit=8, width=2, targets=targets))

    batches = plan(rows, budget=4096, targets=targets)

    assert all(sum(len(row.row.targets) for row in batch.rows) <= targets or len(batch.rows) == 1 for batch in batches)


def test_a_row_without_a_cached_prefix_leaves_the_one_that_is_cached() -> None:
    def row(tokens: list[int], prefix_length: int) -> PackedRow:
        indices = np.arange(len(tokens), dtype=np.int32)
        return PackedRow(Row(np.array(tokens, np.int32), indices - 1, indices[-1:], indices[:1], prefix_length), ())

    rows = [row([5, 6, 7], 2), row([5, 8], 0), row([5, 6, 9], 2), row([5, 6, 9, 7], 3)]

    batches = plan(rows, budget=8, targets=8, one_by_one=True)
    assert [batch.new_prefix for batch in batches] == [2, 0, 0, 1]
    # a token attends to itself and all before it, and to compute a prefix takes its own pairs
    assert [batch.attended for batch in batches] == [1 + 2 + 3, 1 + 2, 3, 3 + 4]


def test_nothing_makes_no_batch() -> None:
    assert plan([], budget=10, targets=1000) == []
