from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_eval.engine import Engine
from icl_eval.models import Decoding, GenerateAnswer, GenerateRequest, ScoreAnswer, ScoreRequest
from icl_eval.prompts import split_tokens
from icl_eval.testing import FakeLM


def score(lm: FakeLM, context: str, continuation: str) -> ScoreAnswer:
    answers: dict[int, ScoreAnswer] = {}
    (scored,) = split_tokens(lm.encode, [(context, continuation)], lm.start, lm.fallback)
    lm.score([ScoreRequest.of(scored.context, scored.continuation)], answers.__setitem__)
    return answers[0]


def test_log_probabilities_are_the_closed_form() -> None:
    expected = (math.log(2 * (1 + 1) / (256 * 257)), math.log(2 * (1 + 255) / (256 * 257)))  # a -> b, b -> a

    assert score(FakeLM(), "a", "ba").logprobs == pytest.approx(expected)


@pytest.mark.parametrize("context", ["a", "Q: x", ""])
@pytest.mark.parametrize("answers", [{}, {"Q: x": " yes"}, {"x": "é"}])
def test_probabilities_of_the_next_byte_sum_to_one(context: str, answers: dict[str, str]) -> None:
    lm = FakeLM(answers)
    tokens = lm.encode([context])[0] or [lm.fallback]
    total: list[float] = []

    lm.score([ScoreRequest.of(tokens, [byte]) for byte in range(256)], lambda _, a: total.append(math.exp(*a.logprobs)))
    (found,) = Engine(lm).answer([replace(ScoreRequest.of(tokens, [0]), moments=True)])
    mean = sum(each * math.log(each) for each in total)

    assert sum(total) == pytest.approx(1)
    assert found.means == pytest.approx((mean,))
    assert found.sds == pytest.approx((sum(each * (math.log(each) - mean) ** 2 for each in total) ** 0.5,))


def test_a_preferred_continuation_is_the_likely_and_greedy_one() -> None:
    lm = FakeLM({"sky?": " blue", "grass?": " green"})

    assert score(lm, "Colour of the sky?", " blue").logprobs[0] == pytest.approx(
        math.log(0.99 + 0.01 * _plain("?", " "))
    )
    assert score(lm, "Colour of the sky?", " blue").greedy
    assert not score(lm, "Colour of the sky?", " bluish").greedy
    assert sum(score(lm, "the grass?", " green").logprobs) > -0.1
    assert sum(score(lm, "the grass?", " blue").logprobs) < -10


def test_after_a_byte_that_differs_nothing_is_preferred() -> None:
    lm = FakeLM({"x": "abc"})

    assert score(lm, "x", "aXc").logprobs[2] == pytest.approx(math.log(_plain("X", "c")))
    assert score(lm, "x", "abcd").logprobs[3] == pytest.approx(math.log(_plain("c", "d")))


def test_of_several_fitting_keys_the_longest_counts() -> None:
    lm = FakeLM({"?": " no", "sure?": " yes"})

    assert score(lm, "are you sure?", " yes").greedy
    assert score(lm, "are you?", " no").greedy


@given(st.text())
def test_the_tokenizer_is_reversible(text: str) -> None:
    lm = FakeLM()
    (ids,) = lm.encode([text])

    assert bytes(ids).decode() == text
    assert len(lm.decode(ids)) == len(ids)


def test_tokens_are_displayed_as_text() -> None:
    assert FakeLM(bos=True).decode([256, 97, 0xC3]) == ["<bos>", "a", "\ufffd"]


def test_bos_begins_every_text_if_requested() -> None:
    assert (FakeLM().start, FakeLM(bos=True).start, FakeLM().fallback) == ((), (256,), 256)
    assert FakeLM().fingerprint != FakeLM(bos=True).fingerprint


def test_answers_and_fingerprint_are_functions_of_the_arguments() -> None:
    first, second = FakeLM({"a": "b", "c": "d"}), FakeLM({"c": "d", "a": "b"})

    assert first.fingerprint == second.fingerprint != FakeLM({"a": "c"}).fingerprint
    assert score(first, "a", "b") == score(second, "a", "b")


def test_requests_are_counted() -> None:
    lm = FakeLM()

    lm.score([ScoreRequest.of([1], [2])] * 3, lambda _, __: None)

    assert lm.answered == 3


def _plain(before: str, byte: str) -> float:
    return 2 * (1 + (ord(byte) - ord(before)) % 256) / (256 * 257)


def write(lm: FakeLM, prompt: str, decoding: Decoding) -> GenerateAnswer:
    answers: dict[int, GenerateAnswer] = {}
    lm.generate([GenerateRequest.of(lm.encode([prompt])[0], decoding)], answers.__setitem__)
    return answers[0]


@pytest.mark.parametrize("decoding", [Decoding(20), Decoding(20, beams=3), Decoding(20, temperature=0.1)])
def test_it_writes_what_is_preferred(decoding: Decoding) -> None:
    lm = FakeLM({"Sky:": " bleu é\nNo", "Grass:": "\n"})

    assert write(lm, "Sky:", decoding).texts == (" bleu é",)
    assert write(lm, "Sky:", decoding).tokens == (len(b" bleu \xc3\xa9\n"),)
    assert write(lm, "The Grass:", decoding).texts == ("",)
    assert write(lm, "Sky:", decoding).finished == ("stop",)


def test_where_nothing_is_preferred_it_counts_down() -> None:
    """The likeliest byte after b is (b - 1) mod 256, with the probability 2 * 256 / (256 * 257)."""
    answer = write(FakeLM(), "d", Decoding(3))

    assert (answer.texts, answer.finished) == (("cba",), ("length",))
    assert answer.scores[0] == pytest.approx(3 * math.log(2 / 257), abs=1e-5)


def test_what_it_writes_has_the_probability_that_it_says() -> None:
    lm = FakeLM({"x": "ab"})

    written = write(lm, "x", Decoding(4))

    assert written.texts == ("aba`",)
    assert written.scores[0] == pytest.approx(sum(score(lm, "x", "aba`").logprobs), abs=1e-5)
