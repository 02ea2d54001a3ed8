from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_rows import REQUESTS, sequence_of

from icl_eval.models import ScoreRequest
from icl_eval.models.causal.rows import PackedRow, Packing, RowSizes, longest_first, pack

SHORT_PREFIXES = RowSizes(min_prefix=2)


def packed(
    requests: list[ScoreRequest],
    *,
    share: bool = True,
    limit: int = 4096,
    tree_attention: bool = False,
    cache_prefixes: bool = False,
    sizes: RowSizes = SHORT_PREFIXES,
) -> list[PackedRow]:
    packing = Packing(
        share=share,
        limit=limit,
        width=32,
        tree_attention=tree_attention,
        cache_prefixes=cache_prefixes,
        sizes=sizes,
    )
    return pack(dict(enumerate(requests)), packing)


def inputs(request: ScoreRequest) -> tuple[int, ...]:
    return tuple(request.tokens[:-1])


@given(REQUESTS, st.booleans(), st.integers(1, 40), st.booleans(), st.booleans())
def test_rows_score_exactly_the_requests(
    requests: list[ScoreRequest], share: bool, limit: int, tree_attention: bool, cache_prefixes: bool
) -> None:
    found: dict[int, tuple[list[list[int]], list[int]]] = {}
    rows = packed(
        requests,
        share=share,
        limit=limit,
        tree_attention=tree_attention and share,
        cache_prefixes=cache_prefixes and share,
    )

    for each in rows:
        for span in each.spans:
            assert span.request not in found
            indices = each.row.scored[span.start : span.stop]
            contexts = [sequence_of(each.row, int(position)) for position in indices]
            found[span.request] = contexts, each.row.targets[span.start : span.stop].tolist()

    assert sorted(found) == list(range(len(requests)))
    for index, request in enumerate(requests):
        tokens = list(request.tokens)
        assert found[index][0] == [tokens[:position] for position in range(request.boundary, len(tokens))]
        assert found[index][1] == tokens[request.boundary :]


@given(REQUESTS, st.integers(1, 40), st.booleans())
def test_a_cached_prefix_is_one_sequence_in_which_nothing_is_scored(
    requests: list[ScoreRequest], limit: int, tree_attention: bool
) -> None:
    rows = packed(requests, limit=limit, tree_attention=tree_attention, cache_prefixes=True)

    for each in rows:
        assert each.row.parents[: each.row.prefix_length].tolist() == list(range(-1, each.row.prefix_length - 1))
        assert each.row.scored.min() >= each.row.prefix_length


@given(REQUESTS)
def test_no_token_is_computed_twice_within_a_row(requests: list[ScoreRequest]) -> None:
    for each in packed(requests):
        paths = [tuple(sequence_of(each.row, index)) for index in range(len(each.row.tokens))]

        assert len(set(paths)) == len(paths)


@given(REQUESTS)
def test_short_requests_make_one_row_with_every_distinct_prefix_once(requests: list[ScoreRequest]) -> None:
    prefixes = {inputs(request)[: size + 1] for request in requests for size in range(len(inputs(request)))}

    assert sum(len(each.row.tokens) for each in packed(requests)) == len(prefixes)
    assert len(packed(requests)) == (1 if requests else 0)


@given(REQUESTS)
def test_spans_tile_the_targets_of_their_row(requests: list[ScoreRequest]) -> None:
    for each in packed(requests):
        assert [span.start for span in each.spans] == [0, *(span.stop for span in each.spans)][:-1]
        assert each.spans[-1].stop == len(each.row.targets) == len(each.row.scored)


@given(REQUESTS)
def test_without_sharing_every_row_is_one_sequence(requests: list[ScoreRequest]) -> None:
    rows = packed(requests, share=False)

    assert all(each.row.is_linear for each in rows)
    assert len({tuple(each.row.tokens) for each in rows}) == len(rows)


@given(REQUESTS, st.integers(1, 40))
def test_a_row_exceeds_the_limit_only_with_a_single_sequence(requests: list[ScoreRequest], limit: int) -> None:
    for each in packed(requests, limit=limit):
        assert len(each.row.tokens) <= limit or each.row.is_linear


@pytest.mark.parametrize(("limit", "rows"), [(6, 1), (5, 2)])
def test_a_row_is_filled_up_to_its_limit(limit: int, rows: int) -> None:
    requests = [ScoreRequest.of([1, 2, 3, 4], [9]), ScoreRequest.of([1, 2, 3, 5, 6], [9])]

    assert len(packed(requests, limit=limit)) == rows


@given(REQUESTS)
def test_rows_do_not_depend_on_the_order_of_requests(requests: list[ScoreRequest]) -> None:
    def rows(ordered: list[ScoreRequest]) -> list[list[int]]:
        return [each.row.tokens.tolist() for each in packed(ordered)]

    assert rows(requests[::-1]) == rows(requests)


@given(REQUESTS)
def test_rows_of_a_model_with_tree_attention_are_depth_first_with_the_longest_branch_first(
    requests: list[ScoreRequest],
) -> None:
    for each in packed(requests, tree_attention=True):
        parents = each.row.parents.tolist()
        way = [index for index in range(len(parents)) if index not in parents]
        farthest = max((sequence_of(each.row, index) for index in way), key=len)
        open_path: list[int] = []
        for index, parent in enumerate(parents):
            while open_path and open_path[-1] != parent:
                open_path.pop()
            assert parent == -1 or open_path
            open_path.append(index)
        roots = [index for index, parent in enumerate(parents) if parent < 0]
        if len(roots) == 1:
            assert parents[: len(farthest)] == list(range(-1, len(farthest) - 1))


def test_the_longest_branch_comes_first() -> None:
    parents = np.array([-1, 0, 1, 1, 3, 4, 0], np.int32)  # 0 1, after 1 either 2 or 3 4 5, after 0 also 6

    assert longest_first(parents, prefix_length=0).tolist() == [0, 1, 3, 4, 5, 2, 6]


def test_no_scored_token_is_in_the_cached_prefix() -> None:
    scored_early = ScoreRequest.of([1, 2, 3], [4, 5, 6, 7, 8])
    other = ScoreRequest.of([1, 2, 3, 8, 8, 8], [8, 8])
    first, second = packed([scored_early, other], limit=8, cache_prefixes=True)

    assert (first.row.prefix_length, int(first.row.scored.min())) == (0, 2)
    assert second.row.prefix_length == 3


def test_a_request_that_is_scored_within_a_cached_prefix_does_not_join_its_row() -> None:
    after_prefix = [ScoreRequest.of([1, 2, 3, token, 5, 6], [7]) for token in (4, 5)]
    within = ScoreRequest.of([1, 2], [3, 6])
    rows = packed([*after_prefix, within], limit=8, cache_prefixes=True)

    assert any(each.row.prefix_length == 3 for each in rows)
    assert all(each.row.scored.min() >= each.row.prefix_length for each in rows)


def test_a_row_on_a_cached_prefix_has_few_new_tokens_where_wasted_attention_costs() -> None:
    sizes = RowSizes(after_prefix=12)
    shared = list(range(100, 100 + sizes.min_prefix))
    requests = [ScoreRequest.of([*shared, tail, 1, 1, 1], [1]) for tail in range(20)]
    rows = packed(requests, limit=80, cache_prefixes=True, sizes=sizes)

    new = [len(each.row.tokens) - each.row.prefix_length for each in rows if each.row.prefix_length]
    assert len(new) > 2
    assert max(new[1:]) == 12


def test_a_row_without_a_cached_prefix_may_have_more_new_tokens() -> None:
    requests = [ScoreRequest.of([1, 2, 3, tail], [1]) for tail in range(20)]
    (row,) = packed(requests, limit=80, cache_prefixes=True, sizes=RowSizes(after_prefix=12))

    assert len(row.row.tokens) == 23


def test_unrelated_sequences_share_a_small_row() -> None:
    requests = [ScoreRequest.of([token] * 5, [1]) for token in range(6)]

    assert [len(each.row.tokens) for each in packed(requests, sizes=RowSizes(small_row=12))] == [10, 10, 10]


def test_the_first_row_caches_what_the_next_one_continues() -> None:
    requests = [ScoreRequest.of([1, 2, 3, tail, 4, 5], [1]) for tail in range(6, 10)]

    assert [each.row.prefix_length for each in packed(requests, limit=9, cache_prefixes=True)] == [3, 3]


def test_unrelated_sequences_share_a_row_with_tree_attention() -> None:
    rng = np.random.default_rng(0)
    unrelated = [ScoreRequest.of(rng.integers(0, 9, 600).tolist(), [1]) for _ in range(6)]

    assert len(packed(unrelated, tree_attention=True)) == 1
    assert len(packed(unrelated, tree_attention=True, limit=1200)) == 3


def test_a_row_has_no_more_targets_than_the_head_may_see_at_once() -> None:
    requests = [ScoreRequest.of([1, token], [2, 3, 4]) for token in range(6)]
    packing = Packing(share=True, limit=4096, width=32, targets=7)

    assert [len(each.row.targets) for each in pack(dict(enumerate(requests)), packing)] == [6, 6, 6]


def test_a_prefix_of_another_request_costs_nothing() -> None:
    long, short = ScoreRequest.of([1, 2, 3], [4, 5, 6]), ScoreRequest.of([1, 2], [3, 4])

    for share in (True, False):
        (row,) = packed([long, short, long], share=share)
        assert row.row.tokens.tolist() == [1, 2, 3, 4, 5]


def test_unrelated_sequences_get_separate_rows_where_wasted_attention_costs_more_than_the_prefix() -> None:
    rng = np.random.default_rng(0)
    unrelated = [ScoreRequest.of(rng.integers(0, 9, 600).tolist(), [1]) for _ in range(3)]
    context = rng.integers(0, 9, 600).tolist()
    kin = [ScoreRequest.of([*context, token], [1]) for token in range(3)]

    assert len(packed(unrelated)) == 3
    assert len(packed(kin)) == 1


@pytest.mark.parametrize("dtype", ["tokens", "parents", "scored", "targets"])
def test_rows_hold_32_bit_integers(dtype: str) -> None:
    (each,) = packed([ScoreRequest.of([1, 2], [3]), ScoreRequest.of([1, 3], [3])])

    assert getattr(each.row, dtype).dtype == np.int32
