from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_eval.engine import partition
from icl_eval.models import Decoding, GenerateRequest, WorkItem
from icl_eval.models.protocol import chunks
from icl_eval.testing import FakeLM

WORK_ITEMS = st.lists(st.builds(WorkItem, st.integers(1, 500), st.none() | st.integers(0, 100)), max_size=60)
RANKS = st.integers(1, 9)


def loads(work_items: list[WorkItem], shares: list[list[int]]) -> list[int]:
    return [sum(work_items[index].cost for index in share) for share in shares]


@given(WORK_ITEMS, RANKS)
def test_every_item_is_assigned_once_and_stays_in_order(work_items: list[WorkItem], ranks: int) -> None:
    shares = partition(work_items, ranks)

    assert len(shares) == ranks
    assert sorted(index for share in shares for index in share) == list(range(len(work_items)))
    assert all(share == sorted(share) for share in shares)


@given(WORK_ITEMS, RANKS)
def test_every_rank_computes_the_same_partition(work_items: list[WorkItem], ranks: int) -> None:
    assert partition(work_items, ranks) == partition([WorkItem(item.cost, item.shared) for item in work_items], ranks)


@given(WORK_ITEMS, RANKS)
def test_no_rank_gets_much_more_than_its_share(work_items: list[WorkItem], ranks: int) -> None:
    fair = sum(item.cost for item in work_items) / ranks

    assert max(loads(work_items, partition(work_items, ranks))) <= fair * 1.125 + max(
        (item.cost for item in work_items), default=0
    )


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(1, 3))
def test_items_outside_the_chain_are_balanced_nearly_optimally(costs: list[int], ranks: int) -> None:
    """Graham 1969: the largest first to who has least is at most 4/3 of the best there is."""
    ways = product(range(ranks), repeat=len(costs))
    best = min(
        max(sum(c for c, r in zip(costs, way, strict=True) if r == rank) for rank in range(ranks)) for way in ways
    )
    work_items = [WorkItem(cost) for cost in costs]

    assert max(loads(work_items, partition(work_items, ranks))) <= 4 / 3 * best


@given(WORK_ITEMS, RANKS)
def test_what_a_rank_does_of_the_chain_is_one_piece(work_items: list[WorkItem], ranks: int) -> None:
    chain = [index for index, item in enumerate(work_items) if item.shared is not None]

    assigned = [index for share in partition(work_items, ranks) for index in share if index in chain]

    assert assigned == chain


def test_a_chain_is_cut_where_it_shares_least() -> None:
    shared = [0, *[90] * 14, 5, 90, *[90] * 15]
    work_items = [WorkItem(100, each) for each in shared]

    assert partition(work_items, 2) == [list(range(15)), list(range(15, 32))]


@given(st.lists(st.integers(1, 12), min_size=200, max_size=300), st.integers(2, 3))
def test_parts_of_the_chain_below_an_eighth_of_a_share_stay_whole(sizes: list[int], ranks: int) -> None:
    sizes += [12] * max(0, -(-12 * 8 * ranks // 12))  # so that 12 items are no more than an eighth
    work_items = [WorkItem(1, 70 if index else 0) for size in sizes for index in range(size)]
    starts = [share[0] for share in partition(work_items, ranks)]

    assert [work_items[start].shared for start in starts] == [0] * ranks


def test_one_prefix_for_all_is_shared_among_the_ranks() -> None:
    work_items = [WorkItem(100, 1000 if index else 0) for index in range(12)]

    assert partition(work_items, 3) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_with_fewer_items_than_ranks_some_ranks_get_none() -> None:
    assert partition([WorkItem(5), WorkItem(7)], 4) == [[1], [0], [], []]
    assert sorted(map(len, partition([WorkItem(5, 0), WorkItem(7, 3)], 4))) == [0, 0, 1, 1]
    assert partition([], 3) == [[], [], []]


def test_one_large_item_leaves_the_rest_to_the_others() -> None:
    work_items = [WorkItem(10), WorkItem(1000), WorkItem(10), WorkItem(10)]

    assert partition(work_items, 2) == [[1], [0, 2, 3]]


@given(st.lists(st.integers(1, 300), max_size=80), st.integers(1, 500), st.integers(1, 12))
def test_chunks_hold_neighbours_and_are_no_more_than_requested(costs: list[int], least: int, most: int) -> None:
    found = chunks(costs, least, most)

    assert [index for chunk in found for index in chunk] == list(range(len(costs)))
    assert len(found) <= most
    assert all(sum(costs[index] for index in chunk) >= least for chunk in found[:-1])
    assert all(found)


@pytest.mark.parametrize(
    ("cost", "least", "expected"),
    [
        (3, 1, [range(0, 2), range(2, 4), range(4, 5)]),
        (3, 6, [range(0, 2), range(2, 4), range(4, 5)]),
        (1, 1, [range(0, 2), range(2, 4), range(4, 5)]),
        (3, 100, [range(0, 5)]),
    ],
)
def test_a_chunk_ends_where_it_has_its_share(cost: int, least: int, expected: list[range]) -> None:
    assert chunks([cost] * 5, least, 3) == expected


@pytest.mark.parametrize(("cost", "cut"), [(10, 8), (4, 19)])
def test_the_chain_is_cut_where_least_is_shared_within_a_sixteenth_of_a_share(cost: int, cut: int) -> None:
    """A fair share is 80 tokens: the cut may be up to 5 from the even index."""
    cheapest = 80 // cost - 1
    work_items = [WorkItem(cost, 0 if index == cheapest else 50) for index in range(160 // cost)]

    assert partition(work_items, 2)[0] == list(range(cut))


def test_generating_costs_the_new_tokens_of_a_prompt_and_all_that_may_follow_it() -> None:
    requests = [
        GenerateRequest.of([1, 2, 3], Decoding(9)),
        GenerateRequest.of([1, 2, 4], Decoding(5, samples=3, temperature=1)),
    ]

    assert FakeLM().plan(requests).items == [WorkItem(3 + 9 + 1 + 15, requests=[0, 1])]
