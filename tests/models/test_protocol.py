from __future__ import annotations

from dataclasses import replace

import pytest

from icl_eval.models import Decoding, GenerateRequest, ScoreRequest
from icl_eval.models.protocol import MAX_CHUNKS, MIN_CHUNK_TOKENS, Request
from icl_eval.testing import FakeLM


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


@pytest.mark.parametrize("kind", [ScoreRequest, GenerateRequest])
def test_work_of_many_tokens_is_planned_in_few_items(kind: type[Request]) -> None:
    """Two requests an item: with one each there would be too many items, though each is large enough."""
    texts = [[number] * MIN_CHUNK_TOKENS for number in range(2 * MAX_CHUNKS)]
    requests: list[Request] = [
        ScoreRequest.of(text, [1]) if kind is ScoreRequest else GenerateRequest.of(text, Decoding(8)) for text in texts
    ]

    items = FakeLM().plan(requests).items

    assert [len(item.requests) for item in items] == [2] * MAX_CHUNKS
