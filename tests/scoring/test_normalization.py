from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_eval.scoring import NORMALIZATIONS, OptionResult, score, score_noise
from icl_eval.tasks import Normalization

LOGPROBS = st.lists(st.floats(-50, 0), min_size=1, max_size=8).map(tuple)


@pytest.mark.parametrize(
    ("normalization", "expected"),
    [
        ("sum", -6.0),
        ("token", -2.0),  # three tokens
        ("char", -1.5),  # "naïf" has four characters
        ("byte", -1.2),  # and five bytes
        ("unconditional", -4.5),  # -6 - (-1.5)
    ],
)
def test_scores_computed_by_hand(normalization: Normalization, expected: float) -> None:
    option = OptionResult(" naïf", (-1.0, -2.0, -3.0), (-0.5, -0.75, -0.25))

    assert score(option, normalization) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("normalization", "expected"),
    [("sum", 0.6), ("token", 0.15), ("char", 0.15), ("byte", 0.12), ("unconditional", 1.0)],
)
def test_the_noise_of_a_score_is_the_root_of_the_sum_of_its_tokens_squares(
    normalization: Normalization, expected: float
) -> None:
    option = OptionResult(" naïf", (-1.0,) * 4, (-1.0,) * 7)  # 11 tokens of 0.3 nats: the root of 0.99

    assert score_noise(option, normalization, 0.3) == pytest.approx(expected, rel=0.006)


@pytest.mark.parametrize(
    ("text", "characters", "octets"),
    [(" yes", 3, 3), ("\nyes ", 3, 3), (" zwei Wörter", 11, 12), ("日本", 2, 6), (" 👍", 1, 4), ("e\u0301", 2, 3)],
)
def test_lengths_of_an_option_leave_out_the_space_around_it(text: str, characters: int, octets: int) -> None:
    option = OptionResult(text, (-12.0,), (-1.0,))

    assert score(option, "char") == pytest.approx(-12 / characters)
    assert score(option, "byte") == pytest.approx(-12 / octets)


def test_unconditional_is_the_ratio_of_probabilities_in_logarithms() -> None:
    option = OptionResult(" a", (math.log(0.5), math.log(0.25)), (math.log(0.1), math.log(0.5)))

    assert score(option, "unconditional") == pytest.approx(math.log(0.125 / 0.05))


@given(LOGPROBS, LOGPROBS)
def test_every_normalisation_of_one_token_and_one_byte_is_its_log_probability(
    logprobs: tuple[float, ...], unconditional: tuple[float, ...]
) -> None:
    option = OptionResult(" a", logprobs[:1], unconditional)

    for normalization in ("sum", "token", "char", "byte"):
        assert score(option, normalization) == pytest.approx(logprobs[0])


@given(LOGPROBS, st.floats(-50, 0))
def test_a_longer_continuation_is_never_likelier(logprobs: tuple[float, ...], more: float) -> None:
    option, longer = OptionResult("a", logprobs, (-1.0,)), OptionResult("a", (*logprobs, more), (-1.0,))

    assert score(longer, "sum") <= score(option, "sum")


def test_every_normalisation_that_a_task_may_name_is_known() -> None:
    assert set(get_args(Normalization)) == set(NORMALIZATIONS)
