from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from icl_eval.models import Decoding, GenerateAnswer, GenerateRequest
from icl_eval.models.generation.decoder import Entry
from icl_eval.models.generation.generation import Generation, Limits, _enqueue_best
from icl_eval.models.generation.search import Extension, search_for


class Recorder:
    """A decoder for which token 3 is always the most likely, and the calls it gets."""

    def __init__(self, *, joins: bool, vocabulary: int = 5) -> None:
        self.joins, self.vocabulary = joins, vocabulary
        self.calls: list[tuple[str, int]] = []

    def enter(self, entries: Sequence[Entry]) -> torch.Tensor:
        self.calls.append(("enter", len(entries)))
        return self._logits(len(entries))

    def step(self, extensions: Sequence[Extension]) -> torch.Tensor:
        self.calls.append(("step", len(extensions)))
        return self._logits(len(extensions))

    def _logits(self, count: int) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.full((count,), 3), self.vocabulary) + torch.linspace(
            0, 0.5, self.vocabulary
        )


def calls(limits: Limits, *, joins: bool) -> list[tuple[str, int]]:
    decoder, answers = Recorder(joins=joins), dict[int, GenerateAnswer]()
    generation = Generation(
        lambda _: decoder, lambda *_: (0,), lambda request: search_for(request, {1}, lambda _: ""), limits
    )
    requests = [GenerateRequest.of([first, 4], Decoding(2, ())) for first in range(5)]
    generation.generate(requests, lambda index, answer: answers.update({index: answer}))
    assert [answers[index].tokens for index in range(5)] == [(2,)] * 5
    return decoder.calls


def test_a_batch_is_filled_before_the_first_step_by_as_many_reads_as_its_prompts_need() -> None:
    limits = Limits(hypotheses=5, new_tokens=4, states=1000)

    assert calls(limits, joins=True) == [("enter", 2), ("enter", 2), ("enter", 1), ("step", 5)]


def test_a_batch_that_nobody_joins_is_read_once() -> None:
    limits = Limits(hypotheses=5, new_tokens=4, states=1000)

    assert calls(limits, joins=False) == [
        ("enter", 2),
        ("step", 2),
        ("enter", 2),
        ("step", 2),
        ("enter", 1),
        ("step", 1),
    ]


def test_a_batch_holds_no_more_hypotheses_than_its_limit() -> None:
    limits = Limits(hypotheses=3, new_tokens=4, states=1000)

    assert calls(limits, joins=True) == [("enter", 2), ("enter", 1), ("step", 3), ("enter", 2), ("step", 2)]


def numbers_read(
    monkeypatch: pytest.MonkeyPatch, *decodings: Decoding, vocabulary: int = 1000
) -> list[tuple[int, ...]]:
    """The shapes of the tensors that are copied from the device while texts are generated together."""
    read: list[tuple[int, ...]] = []

    def to_host(tensor: torch.Tensor) -> Callable[[], Any]:
        read.append(tuple(tensor.shape))
        return lambda: tensor.numpy()

    monkeypatch.setattr("icl_eval.models.generation.generation.to_host", to_host)
    decoder = Recorder(joins=True, vocabulary=vocabulary)
    limits = Limits(hypotheses=9, new_tokens=100, states=1000)
    generation = Generation(
        lambda _: decoder, lambda *_: (0,), lambda request: search_for(request, {1}, lambda _: ""), limits
    )
    generation.generate([GenerateRequest.of([4], each) for each in decodings], lambda *_: None)
    return read


@pytest.mark.parametrize(
    ("decodings", "shapes"),
    [
        ([Decoding(2, ())] * 2, [(2, 2)] * 4),
        ([Decoding(2, (), beams=3)], [(1, 7)] * 2 + [(3, 7)] * 2),
        ([Decoding(1, (), temperature=1.0)], [(1, 1000)]),
    ],
)
def test_only_the_best_tokens_of_a_vocabulary_are_copied_from_the_device(
    monkeypatch: pytest.MonkeyPatch, decodings: list[Decoding], shapes: list[tuple[int, int]]
) -> None:
    """For greedy search and beams: one more than are looked at, since that one shows whether there is a tie."""
    assert numbers_read(monkeypatch, *decodings) == shapes


@given(st.integers(0, 2**20), st.integers(1, 3), st.integers(1, 9), st.sampled_from([1, 3, 100]))
def test_candidates_are_the_best_tokens_and_the_lowest_of_equal_ones(
    seed: int, count: int, most: int, levels: int
) -> None:
    """Few levels tie nearly everywhere; at large logits, different ones have the same log-probability."""
    logits = torch.from_numpy(np.random.default_rng(seed).integers(0, levels, (count, 9)) * 1e-6 + 16).float()
    logprobs = (logits - logits.logsumexp(dim=1, keepdim=True)).numpy()

    found = _enqueue_best(logits, most)()

    for row in range(count):
        expected = sorted(zip((-logprobs[row]).tolist(), range(9), strict=True))[:most]
        chosen = list(zip((-found.logprobs[row]).tolist(), found.tokens[row].tolist(), strict=True))
        assert chosen == expected
