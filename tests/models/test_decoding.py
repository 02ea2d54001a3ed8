from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from icl_eval.models import Decoding, GenerateRequest, ScoreRequest

PLAIN = Decoding(32)
OTHERS: dict[str, Any] = {
    "max_tokens": 33,
    "stop": ("\n", "Q:"),
    "beams": 4,
    "length_penalty": 0.7,
    "penalty": "power",
    "samples": 5,
    "temperature": 0.7,
    "top_p": 0.9,
    "seed": 1,
    "reasoning_end": "</think>",
    "reply_end": "<|im_end|>",
}


@pytest.mark.parametrize(
    ("decoding", "word"),
    [
        (PLAIN, r"greedy-max32-stop(\n)"),
        (Decoding(64, beams=4), r"beam4-gnmt0.6-max64-stop(\n)"),
        (Decoding(64, (), beams=2, penalty="power", length_penalty=1), "beam2-power1-max64-stop()"),
        (
            Decoding(8, ("a|b", "é."), samples=5, temperature=0.7, top_p=0.95),
            r"sample5-t0.7-p0.95-max8-stop(a\u007cb,é.)",
        ),
    ],
)
def test_the_signatures_word_says_all_but_the_seed(decoding: Decoding, word: str) -> None:
    assert f"{decoding.method}-{decoding.ending}" == word


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"max_tokens": 0}, "max_tokens must be at least 1, not 0"),
        ({"beams": 0}, "beams must be at least 1"),
        ({"samples": -1}, "samples must be at least 1"),
        ({"length_penalty": -0.1}, "length_penalty must be at least 0 and finite"),
        ({"temperature": float("nan")}, "temperature must be at least 0"),
        ({"temperature": float("inf")}, "temperature must be at least 0"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1"),
        ({"top_p": 1.1}, "top_p must be above 0 and at most 1"),
        ({"penalty": "hf"}, "penalty must be one of gnmt, power, not 'hf'"),
        ({"stop": ("\n", "")}, "an empty stop string would end every text at once"),
        ({"reasoning_end": ""}, "reasoning_end must not be empty"),
        ({"beams": 2, "temperature": 1.0}, "beam search cannot be combined with sampling"),
        ({"beams": 2, "samples": 2}, "beam search cannot be combined with sampling"),
        ({"samples": 2}, "samples at temperature 0 are all equal"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Decoding(**{"max_tokens": 32, **changes})


def test_penalties_are_the_published_forms() -> None:
    gnmt, power = Decoding(9, beams=2), Decoding(9, beams=2, penalty="power")

    assert gnmt.penalized(-3.0, 1) == -3.0
    assert gnmt.penalized(-3.0, 7) == pytest.approx(-3.0 / 2**0.6)
    assert power.penalized(-3.0, 1) == -3.0
    assert power.penalized(-3.0, 32) == pytest.approx(-3.0 / 8)


def test_a_key_covers_the_model_the_prompt_and_all_of_the_decoding() -> None:
    decodings = [PLAIN, Decoding(32, samples=2, temperature=0.5)]
    for field in fields(Decoding):
        base = PLAIN if field.name in ("beams", "length_penalty", "penalty") else decodings[1]
        decodings.append(replace(base, **{field.name: OTHERS[field.name]}))

    keys = {GenerateRequest.of([1, 2], decoding).key("a") for decoding in decodings}
    keys |= {GenerateRequest.of([1, 2], PLAIN).key("b"), GenerateRequest.of([1, 2, 3], PLAIN).key("a")}

    assert len(keys) == len(decodings) + 2
    assert GenerateRequest.of([1, 2], Decoding(32)).key("a") in keys


def test_a_key_is_never_that_of_a_request_to_score() -> None:
    """Not even where the tokens and another model's fingerprint make up for what differs."""
    boundary = int.from_bytes(b"100:", "little")
    writing, scoring = GenerateRequest.of([boundary, *[5] * 100, 6], PLAIN), ScoreRequest.of([5] * 100, [6])

    assert writing.key("a") != scoring.key(f"a:{PLAIN!r}")


def test_a_prompt_is_not_empty() -> None:
    with pytest.raises(ValueError, match="a prompt needs at least one token"):
        GenerateRequest.of([], PLAIN)


def test_generated_text_fits_the_window_with_its_prompt() -> None:
    request = GenerateRequest.of([1] * 60, Decoding(8, ("x",), beams=3))

    assert request.within(68) is request
    assert request.within(64).decoding == Decoding(4, ("x",), beams=3)
    assert request.within(61).decoding.max_tokens == 1
    with pytest.raises(ValueError, match="a prompt of 60 tokens leaves no room to generate: the context length is 60"):
        request.within(60)


def test_generated_text_has_a_separate_window_in_an_encoder_decoder() -> None:
    request = GenerateRequest.of([1] * 60, Decoding(80))

    assert request.within(90, separate=True) is request
    assert request.within(60, separate=True).decoding.max_tokens == 60
    with pytest.raises(ValueError, match="leaves no room"):
        request.within(59, separate=True)
