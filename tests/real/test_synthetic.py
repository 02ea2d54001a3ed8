"""The released arithmetic and word-scrambling items under `ICL_EVAL_DATA` obey the rules of the generated ones."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from synthetic_items import arithmetic, p_value, scrambles, worth

from icl_eval.results.run_config import RunConfig
from icl_eval.runs.cells import prepare
from icl_eval.tasks import Library, LocalSource, SyntheticSource

pytestmark = pytest.mark.skipif("ICL_EVAL_DATA" not in os.environ, reason="ICL_EVAL_DATA names no official release")
LIBRARY = Library()
ARITHMETIC = LIBRARY.suite("arithmetic").tasks
UNSCRAMBLE = LIBRARY.suite("unscramble").tasks
OVERLAPPING = ["arithmetic/2d-addition", "arithmetic/2d-subtraction", "arithmetic/2d-multiplication", ARITHMETIC[-1]]
LEAST = 0.001


@pytest.fixture
def source() -> LocalSource:
    return LocalSource(Path(os.environ["ICL_EVAL_DATA"]))


@pytest.mark.parametrize(("name", "count"), [*((n, 2000) for n in ARITHMETIC), *((n, 10_000) for n in UNSCRAMBLE)])
def test_released_items_are_read_whole(name: str, count: int, source: LocalSource) -> None:
    task = LIBRARY.task(name)
    (prepared,) = prepare(task, None, RunConfig(model="tiny", tasks=(name,)), source)
    examples = task.evaluation(source)

    assert prepared.record.data == "local"
    assert prepared.pool is not None
    assert prepared.record.shots == ((50,) if name in ARITHMETIC else (100,))
    assert len({example.id for example in examples}) == len(examples) == count


@pytest.mark.parametrize("name", ARITHMETIC)
def test_released_answers_are_right(name: str, source: LocalSource) -> None:
    pairs = arithmetic(source.records(LIBRARY.task(name).definition.data, "validation"))

    assert [int(answer) for _, answer in pairs] == [worth(problem) for problem, _ in pairs]


@pytest.mark.parametrize("name", OVERLAPPING)
def test_generated_and_released_examples_with_equal_operands_are_equal(name: str, source: LocalSource) -> None:
    task = LIBRARY.task(name)
    generated = {example.id: example for example in task.split("validation", SyntheticSource())}
    both = [example for example in task.evaluation(source) if example.id in generated]

    assert len(both) > 200
    assert all(example == generated[example.id] for example in both)


def test_released_operands_are_uniform_where_generated_ones_are(source: LocalSource) -> None:
    data = LIBRARY.task("arithmetic/3d-subtraction").definition.data
    pairs = [problem.split(" minus ") for problem, _ in arithmetic(source.records(data, "validation"))]

    for index in (0, 1):
        assert p_value(Counter(int(pair[index]) // 50 for pair in pairs), 20) > LEAST


@pytest.mark.parametrize(("name", "shortest"), [(name, 5 if "anagrams1" in name else 6) for name in UNSCRAMBLE])
def test_released_words_have_the_lengths_of_generated_ones(name: str, shortest: int, source: LocalSource) -> None:
    words = [word for _, word in scrambles(source.records(LIBRARY.task(name).definition.data, "validation"))]

    assert (min(map(len, words)), max(map(len, words))) == (shortest, 15)


def test_released_scrambles_obey_the_rules_of_generated_ones(source: LocalSource) -> None:
    one, two, cycled, inserted, reversed_ = (
        scrambles(source.records(LIBRARY.task(name).definition.data, "validation")) for name in UNSCRAMBLE
    )

    for kept, pairs in ((1, one), (2, two)):
        assert all((a[:kept], a[-kept:], sorted(a)) == (w[:kept], w[-kept:], sorted(w)) for a, w in pairs)
        assert all((a == w) == (len(set(w[kept:-kept])) == 1) for a, w in pairs)
    assert all(c != w and c in w + w for c, w in cycled)
    assert all(spread[::2] == word for spread, word in inserted)
    assert p_value(Counter("".join(spread[1::2] for spread, _ in inserted)), 4) > LEAST
    assert all(r == w[::-1] for r, w in reversed_)
