from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from icl_eval.engine import Engine, MemoryJournal
from icl_eval.models import ScoreAnswer

from .black_boxes import answer, crowd, lm_of, requests_of
from .kinds import MASKED, SEQ2SEQ


@pytest.mark.parametrize("name", [*SEQ2SEQ, *MASKED])
def test_scores_do_not_depend_on_batches_or_order(name: str) -> None:
    requests, small, large = requests_of(name), lm_of(name), lm_of(name)
    small.budget.size, large.budget.size = 1, 10**6
    together = answer(large, requests)

    for others in (answer(small, requests), answer(large, requests[::-1])[::-1]):
        for one, other in zip(together, others, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
            assert one.greedy == other.greedy


@pytest.mark.parametrize(
    ("name", "too_much"),
    [
        ("bart", lambda settings: settings["encoder_outputs"].last_hidden_state.shape[:2].numel() > 80),
        ("bert", lambda settings: settings["input_ids"].numel() > 70),
    ],
)
def test_a_full_device_halves_the_batch_and_no_answer_comes_twice(
    name: str, too_much: Callable[[Mapping[str, Any]], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, requests = lm_of(name), requests_of(name)
    expected, answers = answer(lm, requests), list[tuple[int, ScoreAnswer]]()
    before = lm.budget.size

    crowd(monkeypatch, lm.model, too_much)
    lm.score(requests, lambda *found: answers.append(found))

    assert sorted(index for index, _ in answers) == list(range(len(requests)))
    assert lm.budget.size < before
    for index, found in answers:
        assert found.logprobs == pytest.approx(expected[index].logprobs, abs=1e-5)


@pytest.mark.parametrize(("name", "row_budget", "calls"), [("t5", 150, 3), ("bert", 40, 11)])
def test_answers_before_a_failure_are_kept(
    name: str, row_budget: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, store, requests = lm_of(name), MemoryJournal(), requests_of(name)
    lm.budget.size = row_budget
    forward, counted = type(lm.model).forward, iter(range(100))

    def dies(model: Any, *inputs: Any, **settings: Any) -> Any:
        if next(counted) == calls:
            raise KeyboardInterrupt
        return forward(model, *inputs, **settings)

    with monkeypatch.context() as patched:
        patched.setattr(type(lm.model), "forward", dies)
        with pytest.raises(KeyboardInterrupt):
            Engine(lm, store).answer(requests)
    again = Engine(lm, store)
    again.answer(requests)

    assert 0 < again.reused < len(requests)
    assert again.reused + again.computed == len(requests)
