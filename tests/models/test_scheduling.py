from __future__ import annotations

from collections.abc import Sequence

import torch

from icl_eval.models import Decoding, GenerateAnswer, GenerateRequest
from icl_eval.models.generation.decoder import Entry
from icl_eval.models.generation.generation import Generation, Limits
from icl_eval.models.generation.search import Extension, search_for


class Recorder:
    """A decoder that always finds token 3 the most likely, and what it is asked for."""

    def __init__(self, *, joins: bool) -> None:
        self.joins = joins
        self.calls: list[tuple[str, int]] = []

    def enter(self, entries: Sequence[Entry]) -> torch.Tensor:
        self.calls.append(("enter", len(entries)))
        return self._logits(len(entries))

    def step(self, extensions: Sequence[Extension]) -> torch.Tensor:
        self.calls.append(("step", len(extensions)))
        return self._logits(len(extensions))

    def _logits(self, count: int) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.full((count,), 3), 5).float()


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
