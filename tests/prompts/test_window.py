from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from icl_eval.config import Overflow
from icl_eval.errors import WindowError
from icl_eval.prompts import FittedPrompt, PromptText, Scored, fit, split_tokens

from .encoders import GreedyEncoder

START = -1
ENCODER = GreedyEncoder()


def split(texts: list[tuple[str, str]]) -> list[Scored]:
    return split_tokens(ENCODER, texts, [START], -2)


def lengths(texts: list[str]) -> list[int]:
    return [len(ids) for ids in ENCODER(texts)]


fitted = partial(fit, split=split, start=1)


def prompt(*demonstrations: str, answers: tuple[str, ...] = ("no", "maybe"), query: str = "qqq:") -> PromptText:
    return PromptText("", demonstrations, (query,) * len(answers), answers, "|")


def needed(text: PromptText, shots: int) -> int:
    """Input tokens of the longest option under so many demonstrations."""
    return max(scored.input_length for scored in with_shots(text, shots).options)


def with_shots(text: PromptText, shots: int) -> FittedPrompt:
    pairs = [(text.context(index, shots), answer) for index, answer in enumerate(text.answers)]
    return FittedPrompt(tuple(split(pairs)), shots, 0)


TEXT = prompt("dddd", "eeeeee", "ff")


@pytest.mark.parametrize("shots", [0, 1, 2, 3])
def test_exactly_as_many_demonstrations_stay_as_fit(shots: int) -> None:
    assert fitted(TEXT, window=needed(TEXT, shots)) == with_shots(TEXT, shots)


@pytest.mark.parametrize("shots", [1, 2, 3])
def test_one_token_less_drops_a_whole_demonstration(shots: int) -> None:
    assert fitted(TEXT, window=needed(TEXT, shots) - 1) == with_shots(TEXT, shots - 1)


def test_longest_option_decides_for_all() -> None:
    window = needed(prompt("dddddddddd", answers=("no",)), 1)

    assert fitted(prompt("dddddddddd", answers=("no",)), window=window).shots == 1
    assert fitted(prompt("dddddddddd", answers=("no", "maybe not")), window=window).shots == 0


def test_all_options_see_the_same_context() -> None:
    options = fitted(TEXT, window=needed(TEXT, 1)).options

    assert len({tuple(option.context) for option in options}) == 1


def test_prompt_that_keeps_some_demonstrations_is_the_prompt_of_so_many_shots() -> None:
    fewer = prompt(*TEXT.demonstrations[:2])

    assert fitted(TEXT, window=needed(TEXT, 2)) == fitted(fewer, window=needed(TEXT, 2))


DEMONSTRATIONS = st.lists(st.text("ab= helo\n", min_size=1, max_size=15), max_size=8)


@given(
    DEMONSTRATIONS,
    st.lists(st.text("yes no", min_size=1, max_size=6).filter(str.strip), min_size=1, max_size=3),
    st.integers(1, 60),
    st.sampled_from([None, lengths, lambda texts: [1] * len(texts), lambda texts: [99] * len(texts)]),
    st.booleans(),
)
def test_kept_demonstrations_are_the_most_that_fit(
    demonstrations: list[str],
    answers: list[str],
    window: int,
    guess: Callable[[list[str]], list[int]] | None,
    instructed: bool,
) -> None:
    text = PromptText("do it" * instructed, tuple(demonstrations), ("x =",) * len(answers), tuple(answers), "\n\n")
    fitting = [shots for shots in range(len(demonstrations) + 1) if needed(text, shots) <= window]
    fit_prompt = partial(fitted, text, window=window, lengths=guess)

    if not fitting:
        with pytest.raises(WindowError, match="the query alone takes"):
            fit_prompt()
    else:
        assert fit_prompt() == with_shots(text, max(fitting))


def test_few_demonstrations_are_encoded_to_find_the_number_that_fits() -> None:
    text = prompt(*["d" * (5 + number % 7) for number in range(64)])
    calls = []

    def counted(texts: list[tuple[str, str]]) -> list[Scored]:
        calls.append(texts)
        return split(texts)

    result = fit(text, counted, window=needed(text, 30), lengths=lengths, start=1)

    assert result.shots == 30
    assert len(calls) <= 4


@pytest.mark.parametrize("overflow", ["drop", "error", "truncate"])
def test_prompt_that_fits_is_left_alone(overflow: Overflow) -> None:
    assert fitted(TEXT, window=needed(TEXT, 3), overflow=overflow) == with_shots(TEXT, 3)


def test_error_is_raised_instead_of_dropping() -> None:
    window = needed(TEXT, 3) - 1

    with pytest.raises(
        WindowError, match=f"3 demonstrations take {window + 1} tokens, but the context length is {window}"
    ):
        fitted(TEXT, window=window, overflow="error")


def test_query_that_does_not_fit_alone_is_an_error() -> None:
    window = needed(TEXT, 0) - 1

    with pytest.raises(WindowError, match=f"the query alone takes {window + 1} tokens.* --overflow truncate"):
        fitted(TEXT, window=window)


def test_truncation_drops_all_demonstrations_before_it_cuts_the_query() -> None:
    assert fitted(TEXT, window=needed(TEXT, 1), overflow="truncate") == with_shots(TEXT, 1)


@given(st.integers(1, 30), st.sampled_from([(), ("dddd",), ("dddd", "ee")]))
def test_truncation_cuts_the_start_of_the_query_and_nothing_else(window: int, demonstrations: tuple[str, ...]) -> None:
    text = prompt(*demonstrations, query="abcdefghij:")
    excess = needed(text, 0) - window
    assume(excess > 0)
    left = len(split([(text.context(0, 0), "no")])[0].context) - 1 - excess
    if left < 1:
        with pytest.raises(WindowError, match="an option alone exceeds the context length"):
            fitted(text, window=window, overflow="truncate")
        return
    result = fitted(text, window=window, overflow="truncate")

    assert (result.shots, result.truncated) == (0, excess)
    assert max(option.input_length for option in result.options) == window
    for option, whole in zip(result.options, with_shots(text, 0).options, strict=True):
        assert option.context == [START, *whole.context[1 + excess :]]
        assert option.continuation == whole.continuation


def test_partial_evaluation_cuts_as_much_from_every_context() -> None:
    text = PromptText("", (), ("the cat sat", "the albatross sat"), (" down", " down"), "|")
    window = needed(text, 0) - 3
    result = fitted(text, window=window, overflow="truncate")
    whole = with_shots(text, 0).options

    assert [len(w.context) - len(o.context) for w, o in zip(whole, result.options, strict=True)] == [3, 3]


def test_a_query_that_does_not_fit_alone_is_encoded_once() -> None:
    calls: list[list[tuple[str, str]]] = []

    def counted(texts: list[tuple[str, str]]) -> list[Scored]:
        calls.append(texts)
        return split(texts)

    found = fit(prompt(query="q" * 50 + ":"), counted, 20, "truncate", lengths, start=1)

    assert found.truncated > 0
    assert len(calls) == 1


def test_a_guess_that_drops_too_many_demonstrations_takes_back_all_that_fit() -> None:
    def too_few(texts: list[str]) -> list[int]:
        return [1] * len(texts)

    assert fitted(TEXT, window=needed(TEXT, 2), lengths=too_few) == with_shots(TEXT, 2)
