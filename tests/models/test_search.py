from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from icl_eval.models import Decoding, GenerateAnswer, GenerateRequest
from icl_eval.models.generation.search import Candidates, search_for

Tokens = tuple[int, ...]
RowOf = Callable[[Tokens], NDArray[np.float32]]
END = 0
WORDS = ("", "a", "b\nc", "\n", "ab")  # of the tokens; the first ends a text
PENALIZED = st.sampled_from(["gnmt", "power"])
ALPHAS = st.sampled_from([0.0, 0.6, 1.0, 3.0])


def text_of(tokens: Sequence[int]) -> str:
    return "".join(WORDS[token] for token in tokens)


def random_rows(seed: int, size: int, sharpness: float = 2.0) -> RowOf:
    """The same log-probabilities after the same tokens."""

    def row_of(tokens: Tokens) -> NDArray[np.float32]:
        logits = np.random.default_rng([seed, *tokens]).normal(size=size) * sharpness
        row: NDArray[np.float32] = (logits - np.log(np.exp(logits).sum())).astype(np.float32)
        return row

    return row_of


def run(
    decoding: Decoding,
    row_of: RowOf,
    prompt: Sequence[int] = (7, 8),
    ends: Sequence[int] = (END,),
    text: Callable[[Sequence[int]], str] = text_of,
) -> GenerateAnswer:
    search = search_for(GenerateRequest.of(prompt, decoding), ends, text)
    written: list[Tokens] = [()]
    while extensions := search.advance(
        Candidates.best_of(np.stack([row_of(tokens) for tokens in written]), search.candidates)
    ):
        written = [(*written[each.row], each.token) for each in extensions]
        assert decoding.beams == 1 or len(set(written)) == len(written) <= decoding.beams
    return search.answer()


def all_texts(decoding: Decoding, row_of: RowOf, tokens: Tokens = (), logprob: float = 0.0) -> Iterator[Any]:
    """Every way to write: text, tokens, why it ended, log-probability."""
    for token, value in enumerate(row_of(tokens).tolist()):
        longer, total = (*tokens, token), logprob + value
        text = text_of(longer)
        if token == END:
            yield text, len(longer), "end", total
        elif any(stop in text for stop in decoding.stop):
            yield text[: min(text.find(stop) for stop in decoding.stop if stop in text)], len(longer), "stop", total
        elif len(longer) == decoding.max_tokens:
            yield text, len(longer), "length", total
        else:
            yield from all_texts(decoding, row_of, longer, total)


def penalized(decoding: Decoding, logprob: float, length: int) -> float:
    """Wu et al. (2016), equation 14, or the power of the length."""
    base = (5 + length) / (5 + 1) if decoding.penalty == "gnmt" else length
    return float(logprob / base**decoding.length_penalty)


@given(st.integers(0, 2**20), st.integers(1, 4), st.sampled_from([(), ("\n",), ("ab", "\nc")]), PENALIZED, ALPHAS)
def test_with_beams_for_all_paths_the_best_of_all_texts_is_found(
    seed: int, longest: int, stop: tuple[str, ...], penalty: Any, alpha: float
) -> None:
    decoding = Decoding(longest, stop, beams=len(WORDS) ** longest + 1, length_penalty=alpha, penalty=penalty)
    row_of = random_rows(seed, len(WORDS))
    score, text, length, finished = max(
        (penalized(decoding, logprob, length), text, length, finished)
        for text, length, finished, logprob in all_texts(decoding, row_of)
    )

    answer = run(decoding, row_of)

    assert (answer.texts, answer.tokens, answer.finished) == ((text,), (length,), (finished,))
    assert answer.scores[0] == pytest.approx(score, abs=1e-6)


@given(st.integers(0, 2**20), st.integers(2, 6), PENALIZED, ALPHAS)
def test_few_beams_find_a_text_with_its_score_and_never_more_than_the_best(
    seed: int, beams: int, penalty: Any, alpha: float
) -> None:
    decoding = Decoding(4, ("\n",), beams=beams, length_penalty=alpha, penalty=penalty)
    row_of = random_rows(seed, len(WORDS))

    answer = run(decoding, row_of)

    scores = [penalized(decoding, logprob, length) for _, length, _, logprob in all_texts(decoding, row_of)]
    assert min(abs(answer.scores[0] - score) for score in scores) < 1e-6
    assert answer.scores[0] <= max(scores) + 1e-6


def chain(*shares: dict[int, float]) -> RowOf:
    """Probabilities of the next token by the number of tokens written."""
    return lambda tokens: np.log([shares[len(tokens)].get(token, 1e-9) for token in range(len(WORDS))]).astype(
        np.float32
    )


@pytest.mark.parametrize(
    ("penalty", "text", "tokens", "score"),
    [("gnmt", "", 1, math.log(0.37)), ("power", "aa", 3, math.log(0.63 * 0.6 * 0.59) / 3)],
)
def test_the_form_of_the_penalty_decides_between_short_and_long(
    penalty: Any, text: str, tokens: int, score: float
) -> None:
    """With alpha 1, `a a end` has ln(0.223) = -1.50: -1.50 / (8/6) = -1.13 by GNMT, below ln(0.37) = -0.99; -0.50 else.

    `a end` has ln(0.252) = -1.38: -1.18 and -0.69.
    """
    row_of = chain({END: 0.37, 1: 0.63}, {END: 0.4, 1: 0.6}, {END: 0.59, 1: 0.41})

    answer = run(Decoding(3, (), beams=2, length_penalty=1.0, penalty=penalty), row_of)

    assert (answer.texts, answer.tokens, answer.finished) == ((text,), (tokens,), ("end",))
    assert answer.scores[0] == pytest.approx(score, abs=1e-6)


def test_beam_search_is_not_greedy() -> None:
    rows = {(): {1: 0.6, 4: 0.4}, (1,): {END: 0.3, 1: 0.3, 4: 0.4}, (4,): {END: 1.0}}

    def row_of(tokens: Tokens) -> NDArray[np.float32]:
        shares = rows.get(tokens, {END: 1.0})
        return np.log([shares.get(token, 1e-9) for token in range(len(WORDS))]).astype(np.float32)

    assert run(Decoding(3, ()), row_of).texts == ("aab",)
    assert run(Decoding(3, (), beams=2, length_penalty=0.0), row_of).texts == ("ab",)


def test_an_end_that_ranks_below_all_that_goes_on_does_not_count() -> None:
    """As in `transformers`: the end, third here, is neither finished nor continued."""
    row_of = chain({END: 0.2, 1: 0.45, 4: 0.35}, {1: 0.5, 4: 0.5}, {1: 0.5, 4: 0.5})

    assert run(Decoding(3, (), beams=2, length_penalty=0.0), row_of).tokens == (3,)
    assert run(Decoding(3, (), beams=3, length_penalty=0.0), row_of).tokens == (1,)


def test_the_more_tokens_end_a_text_the_farther_it_looks() -> None:
    """Four continuations of two end after two tokens; the best text goes on with the fifth."""
    row_of = chain({1: 0.5, 3: 0.5}, {END: 0.45, 4: 0.45, 1: 0.1}, {END: 1.0})
    decoding = Decoding(3, (), beams=2, length_penalty=3.0, penalty="power")

    assert run(decoding, row_of, ends=(END, 4)).tokens == (3,)  # ln(0.05) / 27 = -0.11, and ln(0.225) / 8 = -0.19


def test_beam_search_stops_as_soon_as_nothing_can_win() -> None:
    prefixes: list[Tokens] = []
    certain = chain({END: 0.9, 1: 0.1}, *[{1: 0.5, 4: 0.5}] * 49)

    def row_of(tokens: Tokens) -> NDArray[np.float32]:
        prefixes.append(tokens)
        return certain(tokens)

    assert run(Decoding(50, (), beams=2, length_penalty=0.0), row_of).finished == ("end",)
    assert prefixes == [()]


def test_beams_that_cannot_win_are_dropped() -> None:
    """The end has ln(0.5) = -0.69; `a` can still reach ln(0.45) / 2 = -0.40, but `ab` only ln(0.05) / 2 = -1.50."""
    computed: list[Tokens] = []
    row_of = chain({END: 0.5, 1: 0.45, 4: 0.05}, {END: 1.0})

    def recorded(tokens: Tokens) -> NDArray[np.float32]:
        computed.append(tokens)
        return row_of(tokens)

    assert run(Decoding(2, (), beams=2, length_penalty=1.0, penalty="power"), recorded).texts == ("a",)
    assert computed == [(), (1,)]


def test_impossible_tokens_are_never_generated() -> None:
    row_of = chain({1: 1.0}, {1: 1.0}, {END: 1.0})

    def masked(tokens: Tokens) -> NDArray[np.float32]:
        row = row_of(tokens)
        return np.where(row < -5, -np.inf, row).astype(np.float32)

    assert run(Decoding(9, (), beams=4), masked).texts == ("aa",)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize(
    ("tokens", "stop", "text", "finished"),
    [
        ([END], (), "", "end"),
        ([3], ("\n",), "", "stop"),
        ([2], ("\n",), "b", "stop"),
        ([1, 2], ("ab\n",), "", "stop"),
        ([1, 4, 4], ("ba",), "aa", "stop"),
        ([1, 4, 2], ("c", "\n"), "aabb", "stop"),
        ([1, 1, 1, 1], ("\n",), "aaaa", "length"),
        ([1, 2, END], ("q",), "ab\nc", "end"),
        ([1, 1, 1, END], ("\n",), "aaa", "end"),
    ],
    ids=[
        "end at once",
        "stop at once",
        "inside a token",
        "over two",
        "in the third",
        "earliest",
        "never",
        "unmet",
        "last",
    ],
)
def test_a_text_ends_where_it_should(
    beams: int, tokens: list[int], stop: tuple[str, ...], text: str, finished: str
) -> None:
    row_of = chain(*({token: 0.999} for token in [*tokens, 1, 1, 1, 1]))

    answer = run(Decoding(4, stop, beams=beams), row_of)

    assert (answer.texts, answer.tokens, answer.finished) == ((text,), (len(tokens),), (finished,))
    assert answer.scores[0] == pytest.approx(0, abs=0.01)


def test_characters_of_several_tokens_are_put_together() -> None:
    wanted = "é中😀.é"
    stop = "😀."
    ids = list(wanted.encode())
    row_of: RowOf = lambda tokens: np.log(np.eye(256)[ids[len(tokens)]] * 0.99 + 1e-6).astype(np.float32)  # noqa: E731

    def text(tokens: Sequence[int]) -> str:
        return bytes(tokens).decode(errors="replace")

    assert run(Decoding(len(ids), ()), row_of, ends=(), text=text).texts == (wanted,)
    answer = run(Decoding(len(ids), (stop,)), row_of, ends=(), text=text)
    assert (answer.texts, answer.tokens) == (("é中",), (len("é中😀.".encode()),))


def drawn(probabilities: Sequence[float], count: int, **settings: Any) -> list[int]:
    """The first tokens of many samples."""
    row = np.log(probabilities).astype(np.float32)
    decoding = Decoding(1, (), samples=count, **{"temperature": 1.0, **settings})
    answer = run(decoding, lambda _: row, ends=(), text=lambda tokens: chr(65 + tokens[0]))
    return [ord(text) - 65 for text in answer.texts]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_are_as_frequent_as_they_are_probable(temperature: float) -> None:
    shares, count = np.array([0.1, 0.6, 0.05, 0.25]), 4000
    expected = shares ** (1 / temperature) / (shares ** (1 / temperature)).sum()

    found = np.bincount(drawn(shares.tolist(), count, temperature=temperature), minlength=4) / count

    assert np.abs(found - expected).max() < 4.5 * math.sqrt(0.25 / count)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.5, {1}), (0.6, {1}), (0.61, {1, 3}), (0.85, {1, 3}), (0.9, {0, 1, 3}), (1.0, {0, 1, 2, 3})]
)
def test_top_p_keeps_the_fewest_tokens_that_reach_it(top_p: float, kept: set[int]) -> None:
    assert set(drawn([0.1001, 0.6001, 0.0497, 0.2501], 400, top_p=top_p)) == kept


def test_the_nucleus_is_that_after_the_temperature() -> None:
    """At temperature 0.5 the shares 0.6 and 0.4 become 0.69 and 0.31."""
    assert set(drawn([0.6, 0.4], 200, temperature=0.5, top_p=0.65)) == {0}
    assert set(drawn([0.6, 0.4], 200, temperature=1.0, top_p=0.65)) == {0, 1}


def test_a_draw_is_the_documented_number_of_its_position() -> None:
    """Hash of the hash of seed and prompt with sample and position, as 52 bits after the point."""
    prompt = np.array([7, 8], np.int32).tobytes()
    inner = hashlib.blake2b(b"3:" + prompt).digest()
    numbers = [
        int.from_bytes(hashlib.blake2b(inner + f":{sample}:0".encode(), digest_size=8).digest(), "big") // 2**12 / 2**52
        for sample in range(50)
    ]

    assert drawn([0.25] * 4, 50, seed=3) == [int(number * 4) for number in numbers]


def test_a_sample_depends_on_its_number_and_the_seed_alone() -> None:
    shares = [0.05] * 20

    assert drawn(shares, 40)[:10] == drawn(shares, 10)
    assert drawn(shares, 40) != drawn(shares, 40, seed=1)


@given(st.integers(0, 2**20), st.integers(1, 5))
def test_samples_that_run_side_by_side_are_those_that_run_alone(seed: int, count: int) -> None:
    row_of = random_rows(seed, len(WORDS))
    decoding = Decoding(6, samples=5, temperature=1.0, seed=seed)

    together = run(decoding, row_of)

    fewer = run(Decoding(6, samples=count, temperature=1.0, seed=seed), row_of)
    assert fewer.texts == together.texts[:count]
    assert fewer.scores == together.scores[:count]
    assert set(together.finished) <= {"end", "stop", "length"}


def test_almost_no_temperature_is_greedy() -> None:
    row_of = random_rows(5, len(WORDS))

    assert run(Decoding(6, ("q",), temperature=1e-3), row_of) == run(Decoding(6, ("q",)), row_of)


def test_scores_of_samples_are_those_of_the_model_without_temperature() -> None:
    answer = run(Decoding(1, (), temperature=0.01), lambda _: np.log([0.4, 0.6]).astype(np.float32))

    assert answer.scores[0] == pytest.approx(math.log(0.6), abs=1e-6)


@pytest.mark.parametrize("decoding", [Decoding(2), Decoding(2, beams=2), Decoding(2, temperature=1.0)])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_rows_that_are_not_numbers_are_an_error(decoding: Decoding, value: float) -> None:
    with pytest.raises(FloatingPointError, match="log-probabilities are not numbers"):
        run(decoding, lambda _: np.full(5, value, np.float32))


def test_of_two_finished_beams_of_equal_score_the_first_wins() -> None:
    """`a end` and `b end` have the very same probability; the lower token is looked at first."""
    row_of = chain({1: 0.5, 4: 0.5}, {END: 1.0})

    assert run(Decoding(3, (), beams=2, length_penalty=0.0), row_of).texts == (WORDS[1],)
