from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from icl_eval.models.causal.rows import depths, segments, visibility

FORESTS = st.lists(st.integers(-1, 30), max_size=24).map(
    lambda drawn: np.array([min(parent, index - 1) for index, parent in enumerate(drawn)], np.int32)
)


def ancestors(parents: list[int], index: int) -> list[int]:
    return [] if index < 0 else [*ancestors(parents, parents[index]), index]


@given(FORESTS)
def test_every_token_sees_its_ancestors_and_itself_alone(parents: np.ndarray) -> None:
    sees = visibility(parents)

    for index in range(len(parents)):
        assert np.flatnonzero(sees[index]).tolist() == ancestors(parents.tolist(), index)


@given(FORESTS)
def test_depth_counts_ancestors(parents: np.ndarray) -> None:
    expected = [len(ancestors(parents.tolist(), index)) - 1 for index in range(len(parents))]

    assert depths(parents).tolist() == expected


@given(FORESTS)
def test_segments_cover_the_row_and_follow_one_another_inside(parents: np.ndarray) -> None:
    found = segments(parents)

    assert [index for start, stop in found for index in range(start, stop)] == list(range(len(parents)))
    for start, stop in found:
        assert parents[start + 1 : stop].tolist() == list(range(start, stop - 1))


def test_a_row_may_hold_several_roots() -> None:
    parents = np.array([-1, 0, -1, 2], np.int32)

    assert depths(parents).tolist() == [0, 1, 0, 1]
    assert visibility(parents)[3].tolist() == [False, False, True, True]
