"""Labels and orders of demonstrations, by hand and by their distributions."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest

from icl_eval.demos import order_exists, positions, shown_label, shown_options
from icl_eval.demos.variants import permutations
from icl_eval.tasks import Example
from icl_eval.values import expand_orders, parse_labels, parse_order

OPTIONS = ("a", "b", "c")


def example(number: int, gold: int = 0) -> Example:
    return Example(f"e{number}", {}, OPTIONS, (gold,), f"e{number}", f"e{number}")


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("drawn", (0, 1, 2, 3, 4, 5)),
        ("reversed", (5, 4, 3, 2, 1, 0)),
        ("balanced", (0, 1, 5, 2, 3, 4)),  # a b c a b a
        ("permutation:1of6", permutations(6, 6)[1]),
    ],
)
def test_order_of_demonstrations(order: str, expected: tuple[int, ...]) -> None:
    assert positions(order, ["a", "b", "a", "b", "a", "c"]) == expected


def test_all_permutations_of_few_demonstrations_in_lexicographic_order() -> None:
    assert permutations(3, 24) == tuple(itertools.permutations(range(3)))
    assert [permutations(4, 24)[index] for index in (0, 1, 23)] == [(0, 1, 2, 3), (0, 1, 3, 2), (3, 2, 1, 0)]


def test_permutations_of_many_demonstrations_are_different_and_uniform() -> None:
    found = permutations(9, 700)

    assert len(set(found)) == 700
    assert found[0] == tuple(range(9))
    assert all(sorted(each) == list(range(9)) for each in found)
    for position in range(9):  # each number as often at every position: 77.8 times, with a standard deviation of 8.3
        assert all(abs(count - 700 / 9) < 35 for count in Counter(each[position] for each in found).values())


def test_permutations_are_the_same_on_every_machine() -> None:
    assert permutations(5, 4)[1:] == ((0, 1, 3, 4, 2), (4, 0, 3, 2, 1), (4, 0, 2, 1, 3))


@pytest.mark.parametrize(
    ("order", "first"), [("reversed", 2), ("permutation:1of24", 2), ("permutation:5of24", 3), ("permutation:6of24", 4)]
)
def test_an_order_exists_from_so_many_demonstrations_on(order: str, first: int) -> None:
    assert [order_exists(order, shots) for shots in (first - 1, first, 2000)] == [False, True, True]


def test_several_permutations_begin_with_the_drawn_order() -> None:
    assert expand_orders(["permutations:3", "reversed"]) == [
        "drawn",
        "permutation:1of3",
        "permutation:2of3",
        "reversed",
    ]


@pytest.mark.parametrize("value", ["sorted", "permutation:3of3", "permutation:1of1001", "permutation:-1of3"])
def test_unknown_order(value: str) -> None:
    with pytest.raises(ValueError, match="choose from drawn"):
        parse_order(value)


@pytest.mark.parametrize("value", ["wrong", "corrupt:1.5", "corrupt:", "random:1", "abstract:a/a", "abstract:a//b"])
def test_unknown_labels(value: str) -> None:
    with pytest.raises(ValueError, match=r"not a rule for labels|separate the words by /"):
        parse_labels(value)


def test_labels_that_do_not_depend_on_chance() -> None:
    assert [shown_label("flipped", example(1, gold), "task", 0) for gold in range(3)] == [1, 2, 0]
    assert [shown_label("gold", example(1, gold), "task", 0) for gold in range(3)] == [0, 1, 2]
    assert shown_options("permuted", OPTIONS, "task", 0) == ("b", "c", "a")
    assert shown_options("abstract:x/y/z", (" a", "b", " c"), "task", 0) == (" x", "y", " z")
    assert shown_options("random", OPTIONS, "task", 0) is OPTIONS


def test_random_labels_are_uniform_and_the_same_for_a_demonstration_and_seed() -> None:
    found = [shown_label("random", example(number), "task", 0) for number in range(3000)]

    sd = math.sqrt(3000 * 1 / 3 * 2 / 3)
    assert all(abs(count - 1000) < 4 * sd for count in Counter(found).values())
    assert found == [shown_label("random", example(number), "task", 0) for number in range(3000)]
    others = [shown_label("random", example(number), "task", 1) for number in range(3000)]
    same = sum(one == other for one, other in zip(found, others, strict=True))
    assert abs(same - 1000) < 4 * sd  # another seed is independent


def test_corrupt_labels_are_wrong_at_their_rate_and_uniform_over_the_wrong_ones() -> None:
    counts = Counter(shown_label("corrupt:0.3", example(number, gold=1), "task", 0) for number in range(4000))

    sd = math.sqrt(4000 * 0.3 * 0.7)
    assert abs(counts[0] + counts[2] - 1200) < 4 * sd
    assert abs(counts[0] - counts[2]) < 4 * math.sqrt(1200)
    assert {shown_label("corrupt:0", example(number), "task", 0) for number in range(99)} == {0}
    assert {shown_label("corrupt:1", example(number), "task", 0) for number in range(99)} == {1, 2}


def test_abstract_words_differ_and_depend_on_the_seed() -> None:
    words = {seed: shown_options("abstract", OPTIONS, "task", seed) for seed in range(5)}

    assert all(len(set(each)) == 3 and all(map(str.isalpha, each)) for each in words.values())
    assert len(set(words.values())) == 5


def test_balanced_labels_alternate_in_the_order_of_their_first_demonstrations() -> None:
    assert positions("balanced", ["b", "b", "a", "a", "b"]) == (0, 2, 1, 3, 4)
