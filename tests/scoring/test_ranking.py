from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_eval.scoring import TIE, Ranking, close_options, rank

SCORES = st.lists(st.floats(-1e3, 0), min_size=1, max_size=6)


def test_the_highest_score_wins_with_its_margin() -> None:
    ranking = rank([-3.0, -1.0, -1.5])

    assert (ranking.chosen, ranking.tied, ranking.margin) == (1, False, 0.5)


def test_of_tied_options_the_first_wins_and_the_tie_is_reported() -> None:
    assert (rank([-2.0, -1.0, -1.0]).chosen, rank([-2.0, -1.0, -1.0]).tied) == (1, True)
    assert rank([-1.0 - TIE / 2, -1.0]).chosen == 0
    assert rank([-1.0 - TIE / 2, -1.0]) == rank([-1.0 - TIE / 2, -1.0])
    assert rank([-1.0 - TIE / 2, -1.0]).tied
    assert rank([-TIE, 0.0]) == Ranking(0, tied=True, margin=0.0, scores=(-TIE, 0.0))
    assert rank([0.0, -TIE]) == Ranking(0, tied=True, margin=TIE, scores=(0.0, -TIE))


def test_scores_further_apart_than_a_tie_are_not_tied() -> None:
    ranking = rank([-1.0 - 2 * TIE, -1.0])

    assert (ranking.chosen, ranking.tied) == (1, False)
    assert ranking.margin == pytest.approx(2 * TIE)


def test_a_tie_below_the_best_is_none() -> None:
    assert not rank([-2.0, -2.0, -1.0]).tied


def test_a_single_option_wins_without_a_rival() -> None:
    ranking = rank([-4.0])

    assert (ranking.chosen, ranking.tied, ranking.margin) == (0, False, math.inf)


@pytest.mark.parametrize("scores", [[], [math.nan], [-1.0, math.nan], [math.nan, -1.0]])
def test_what_cannot_be_compared_is_refused(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="cannot rank the scores"):
        rank(scores)


def test_options_are_close_within_the_noise_of_both_scores() -> None:
    assert close_options([-1.0, -1.049, -1.051, -3.0], [0.03, 0.04, 0.04, 0.0]) == (1,)  # 0.05 = hypot(0.03, 0.04)
    assert close_options([-1.0, -1.0], [0.01, 0.01]) == (1,)
    assert close_options([-1.0, -1.0], [0.0, 0.0]) == ()


@given(SCORES)
def test_the_chosen_score_is_the_best_within_a_tie(scores: list[float]) -> None:
    ranking = rank(scores)

    assert max(scores) - scores[ranking.chosen] <= TIE
    assert ranking.margin >= 0
    assert ranking.tied == (sum(max(scores) - value <= TIE for value in scores) > 1)


@given(SCORES, st.floats(-100, 100))
def test_a_shift_of_all_scores_changes_no_choice_that_is_clear(scores: list[float], shift: float) -> None:
    ranking = rank(scores)

    if ranking.margin > 2 * TIE:
        assert rank([value + shift for value in scores]).chosen == ranking.chosen


def test_a_score_is_close_if_it_is_nearer_than_the_noise_of_both() -> None:
    assert close_options([0.0, -5.0, -4.9], [3.0, 4.0, 4.0]) == (2,)
