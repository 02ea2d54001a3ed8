from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_tasks import parity

from icl_eval import evaluate, rescore
from icl_eval.errors import RunError
from icl_eval.prompts import Prompt
from icl_eval.reports import render
from icl_eval.runs.format_search import ThompsonSearch
from icl_eval.testing import FakeLM

EXAMPLES = 500
PROMPT = Prompt("Number: {{ n }}\nName:", "plain")
NAMES = ("even", "odd")
RIGHT = (4, 7, 1, 5, 4, 3)  # of 8, in each format


class Planted:
    """Formats that are right with a probability each, and which of them were evaluated."""

    def __init__(self, *shares: float) -> None:
        draws = random.Random(1)
        self.answers = [[draws.random() < share for _ in range(EXAMPLES)] for share in shares]
        self.calls: list[tuple[int, int, int]] = []

    def __call__(self, index: int, start: int, end: int) -> int:
        self.calls.append((index, start, end))
        return sum(self.answers[index][start:end])


def test_search_finds_planted_formats_with_a_fraction_of_all_examples() -> None:
    planted = Planted(0.6, *[0.58, 0.6, 0.62] * 6, 0.85, 0.3)
    search = ThompsonSearch(21, EXAMPLES, planted, seed=0)

    assert search.best_and_worst(budget=2000, batch=20) == (19, 20)
    assert search.spent <= 2000 < 21 * EXAMPLES / 5
    assert search.seen[0] == EXAMPLES
    assert search.right == [sum(answers[:seen]) for answers, seen in zip(planted.answers, search.seen, strict=True)]
    assert min(search.seen[19], search.seen[20]) > sum(search.seen[1:19]) / 18


def test_examples_of_a_format_are_evaluated_once_and_in_order() -> None:
    planted = Planted(0.5, 0.9, 0.1)
    search = ThompsonSearch(3, EXAMPLES, planted, seed=3)
    search.best_and_worst(budget=5000, batch=30)

    for index in range(3):
        ranges = [(start, end) for which, start, end in planted.calls if which == index]
        assert [end for _, end in ranges[:-1]] == [start for start, _ in ranges[1:]]
        assert (ranges[0][0], ranges[-1][1]) == (0, search.seen[index])


def test_a_seed_gives_one_search_and_another_seed_another() -> None:
    calls = []
    for seed in (0, 0, 1):
        planted = Planted(0.5, *[0.5] * 9)
        ThompsonSearch(10, EXAMPLES, planted, seed).best_and_worst(400, 20)
        calls.append(planted.calls)

    assert calls[0] == calls[1] != calls[2]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_prompt_that_is_always_or_never_right_is_searched_too(share: float) -> None:
    search = ThompsonSearch(3, EXAMPLES, Planted(share, 0.5, 0.5), seed=0)

    assert 0 in search.best_and_worst(400, 20)


def knowing() -> FakeLM:
    return FakeLM(
        {
            each.query({"n": n}, NAMES, 0): each.answer({"n": n}, NAMES, n % 2 if n < known else 1 - n % 2)
            for each, known in zip(PROMPT.formats(len(RIGHT), 0), RIGHT, strict=True)
            for n in range(8)
        }
    )


def test_only_the_prompt_and_the_best_and_the_worst_format_are_evaluated() -> None:
    result = evaluate(knowing(), parity(prompt={"plain": PROMPT}), prompts="plain", shots=0, formats=6, budget=240)

    assert [(line.prompt, line.value, line.difference) for line in result] == [
        ("plain", 4 / 8, None),
        ("plain~f1-best", 7 / 8, 3 / 8),
        ("plain~f2-worst", 1 / 8, -3 / 8),
    ]
    assert "plain~f2-worst " in result.table()
    assert "the search found" not in render(result.scores[:1], result.manifest)  # as in a comparison
    assert "seed 0, worst of 6 by a search with 40 examples|k0|" in result.scores[2].signature


def test_a_prompt_that_is_itself_the_best_stands_once() -> None:
    lm = FakeLM({PROMPT.query({"n": n}, NAMES, 0): PROMPT.answer({"n": n}, NAMES, n % 2) for n in range(8)})
    result = evaluate(lm, parity(prompt={"plain": PROMPT}), prompts="plain", shots=0, formats=3, budget=120)

    assert [line.prompt.rpartition("-")[2] for line in result] == ["plain", "worst"]
    assert "\nparity: the search found no better format than plain\n" in result.table()


def test_found_formats_are_evaluated_in_the_whole_grid_and_a_finished_search_is_read(tmp_path: Path) -> None:
    options: dict[str, Any] = {"shots": [0, 2], "seeds": 2, "labels": ["gold", "random"], "formats": 5, "budget": 80}
    options |= {"data": "sample", "limit": 8, "prompts": "gpt3", "out": tmp_path / "run", "device": "cpu"}
    found = evaluate("tiny", "superglue/rte", **options)
    names = {line.prompt for line in found}
    again = evaluate("tiny", "superglue/rte", **options)

    assert again.manifest == found.manifest
    assert again.scores == found.scores == rescore(tmp_path / "run").scores
    assert {name.split("-")[-1] for name in names if "-" in name} >= {"best~labels=random", "worst"}
    assert {line.shots for line in found if line.is_found} == {0, 2}


def test_progress_counts_the_search_in_one_cell_and_its_result_in_all() -> None:
    """Six formats of eight examples with two options: both are scored, with and without the prompt."""
    task = parity(prompt={"plain": PROMPT})
    totals: list[int] = []
    done: list[int] = []

    def progress(total: int) -> Callable[[int], None]:
        totals.append(total)
        return done.append

    options: dict[str, Any] = {"prompts": "plain", "shots": [0, 1, 2], "seeds": 2, "formats": 6, "budget": 80}
    evaluate(knowing(), task, progress=progress, **options)

    assert totals == [4 * (3 * 8 * (1 + 2 + 2) + 8 + 4 * 8)]  # three whole formats, the plain one, four steps of eight
    assert sum(done) == totals[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 80}, "`budget` limits a search among `formats`, so give both"),
        ({"budget": 39, "formats": 3}, "`budget`"),
        (
            {"budget": 80, "formats": 3, "until": 0.1},
            "`until` stops before all examples are evaluated, but a search with",
        ),
    ],
)
def test_a_budget_needs_formats_two_batches_and_all_examples(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        evaluate(knowing(), parity(), **options)


def test_answers_that_are_not_right_or_wrong_are_refused() -> None:
    task = parity(prompt={"plain": PROMPT}, answer="likelihood", references="n", options=None)
    with pytest.raises(RunError, match="parity: its answers are not right or wrong, so formats cannot be searched"):
        evaluate(knowing(), task, shots=0, formats=3, budget=80)
