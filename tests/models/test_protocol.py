from __future__ import annotations

from dataclasses import replace

import pytest

from icl_eval.models import ScoreRequest


@pytest.mark.parametrize(("context", "continuation"), [([], [1]), ([1], [])])
def test_a_request_needs_a_context_and_a_continuation(context: list[int], continuation: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one token each"):
        ScoreRequest.of(context, continuation)


def test_input_length_leaves_out_the_last_token() -> None:
    assert ScoreRequest.of([1, 2], [3, 4]).input_length == 3


def test_key_depends_on_model_tokens_boundary_and_moments() -> None:
    request = ScoreRequest.of([1, 2], [3])
    keys = {
        request.key("a"),
        request.key("b"),
        ScoreRequest.of([1], [2, 3]).key("a"),
        ScoreRequest.of([1, 2], [4]).key("a"),
        ScoreRequest.of([1, 2], [3, 0]).key("a"),
        replace(request, moments=True).key("a"),
    }

    assert len(keys) == 6
    assert ScoreRequest.of([1, 2], [3]).key("a") == request.key("a")


def test_key_is_the_same_on_every_platform() -> None:
    assert ScoreRequest.of([1, 256, 70000], [3]).key("weights|float32|bos0") == "46c04d49ffb02045cf99b738"
