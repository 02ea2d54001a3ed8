from __future__ import annotations

import random
from pathlib import Path

import pytest
from toy_tasks import parity

from icl_eval import evaluate, search_formats
from icl_eval.errors import RunError
from icl_eval.prompts import Prompt
from icl_eval.runs.format_search import ThompsonSearch
from icl_eval.testing import FakeLM

EXAMPLES = 500
PROMPT = Prompt("Number: {{ n }}\nName:", "plain")
NAMES = ("even", "odd")
RIGHT = (4, 7, 1, 5, 4, 3)  # of 8, in each format


class Planted:
    """Formats that are right with a probability each, and what was asked of them."""

    def __init__(self, *shares: float) -> None:
        draws = random.Random(1)
        self.answers = [[draws.random() < share for _ in range(EXAMPLES)] for share in shares]
        self.asked: list[tuple[int, int, int]] = []

    def __call__(self, index: int, start: int, end: int) -> int:
        self.asked.append((index, start, end))
        return sum(self.answers[index][start:end])


def test_search_finds_planted_formats_with_a_fraction_of_all_examples() -> None:
    planted = Planted(0.6, *[0.58, 0.6, 0.62] * 6, 0.85, 0.3)
    search = ThompsonSearch(21, EXAMPLES, planted, seed=0)

    assert search.best_and_worst(budget=2000, batch=20) == (19, 20)
    assert search.spent <= 2000 < 21 * EXAMPLES / 5
    assert [search.seen[index] for index in (0, 19, 20)] == [EXAMPLES] * 3
    assert [search.right[index] for index in (19, 20)] == [sum(planted.answers[index]) for index in (19, 20)]


def test_examples_of_a_format_are_evaluated_once_and_in_order() -> None:
    planted = Planted(0.5, 0.9, 0.1)
    search = ThompsonSearch(3, EXAMPLES, planted, seed=3)
    search.best_and_worst(budget=5000, batch=30)

    for index in range(3):
        ranges = [(start, end) for which, start, end in planted.asked if which == index]
        assert [end for _, end in ranges[:-1]] == [start for start, _ in ranges[1:]]
        assert (ranges[0][0], ranges[-1][1]) == (0, search.seen[index])


def test_a_seed_gives_one_search_and_another_seed_another() -> None:
    asked = []
    for seed in (0, 0, 1):
        planted = Planted(0.5, *[0.5] * 9)
        ThompsonSearch(10, EXAMPLES, planted, seed).best_and_worst(400, 20)
        asked.append(planted.asked)

    assert asked[0] == asked[1] != asked[2]


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


def test_best_and_worst_format_of_a_task_are_found_on_all_examples() -> None:
    found = search_formats(knowing(), parity(prompt={"plain": PROMPT}), 80, batch=2, shots=0, formats=6)

    assert [(each.name, each.value) for each in (found.plain, found.best, found.worst)] == [
        ("plain", 4 / 8),
        ("plain~f1", 7 / 8),
        ("plain~f2", 1 / 8),
    ]
    assert found.spread == 6 / 8
    assert len(found.formats) == 6
    assert str(found).endswith(f"spread 0.750; 6 of 6 formats tried with {found.spent} examples")


def test_answers_in_a_folder_are_reused(tmp_path: Path) -> None:
    task, first, again = parity(prompt={"plain": PROMPT}), knowing(), knowing()
    options = {"shots": 0, "formats": 6, "out": tmp_path / "run"}
    found = search_formats(first, task, 80, batch=2, **options)  # type: ignore[arg-type]

    assert search_formats(again, task, 80, batch=2, **options) == found  # type: ignore[arg-type]
    assert (first.answered > 0, again.answered) == (True, 0)
    assert evaluate(again, task, **options).manifest.reused  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shots": [0, 1]}, "a search takes one task, one prompt, one number of shots and one seed"),
        ({"shots": 1, "seeds": 2}, "a search takes one task, one prompt, one number of shots and one seed"),
        ({"shots": 0, "batch": 50}, "the budget is 80 examples, but a search takes at least two batches of 50"),
    ],
)
def test_a_search_takes_one_cell_and_two_batches(changes: dict[str, object], said: str) -> None:
    lm = knowing()
    with pytest.raises(RunError, match=said):
        search_formats(lm, parity(prompt={"plain": PROMPT}), 80, formats=3, **changes)  # type: ignore[arg-type]

    assert lm.answered == 0
