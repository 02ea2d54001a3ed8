"""Generated records: the paper's rules (section 3.9), and what a count over its released items shows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from bundled_tasks import LIBRARY, bundled_task
from scipy.stats import binomtest
from synthetic_items import arithmetic, p_value, scrambles, worth

from icl_eval.errors import DataError, UnknownName
from icl_eval.tasks import HubSource, LocalSource, MemorySource, SyntheticSource
from icl_eval.tasks.data import Data
from icl_eval.tasks.synthetic import GENERATORS
from icl_eval.tasks.synthetic.generators import Draws, words
from icl_eval.testing import check_task

DIGITS = {"two": 2, "three": 3, "four": 4, "five": 5}
TWO_OPERANDS = {
    "two_digit_addition": "plus",
    "two_digit_subtraction": "minus",
    "three_digit_addition": "plus",
    "three_digit_subtraction": "minus",
    "four_digit_addition": "plus",
    "four_digit_subtraction": "minus",
    "five_digit_addition": "plus",
    "five_digit_subtraction": "minus",
    "two_digit_multiplication": "times",
}
SCRAMBLED = {
    "mid_word_1_anagrams": 5,
    "mid_word_2_anagrams": 6,
    "cycle_letters_in_word": 6,
    "random_insertion_in_word": 6,
    "reversed_words": 6,
}
COMPOSITE = "single_digit_three_ops"
LEAST = 0.001  # p-value; what is generated never changes, so these tests pass always or never


def made(name: str, split: str = "validation") -> list[Mapping[str, Any]]:
    return list(SyntheticSource().records(Data(synthetic=name), split))


def test_seventeen_sets_are_generated() -> None:
    assert set(GENERATORS) == {*TWO_OPERANDS, COMPOSITE, *SCRAMBLED, "repeated_words", "copied_words"}


@pytest.mark.parametrize("name", [*TWO_OPERANDS, COMPOSITE])
def test_arithmetic_has_two_thousand_distinct_problems_with_right_answers(name: str) -> None:
    pairs = arithmetic(made(name))

    assert len({problem for problem, _ in pairs}) == len(pairs) == 2000
    assert [int(answer) for _, answer in pairs] == [worth(problem) for problem, _ in pairs]


@pytest.mark.parametrize(("name", "word"), TWO_OPERANDS.items())
def test_operands_are_uniform_below_a_power_of_ten(name: str, word: str) -> None:
    size = 10 ** DIGITS[name.split("_")[0]]
    pairs = [tuple(map(int, problem.split(f" {word} "))) for problem, _ in arithmetic(made(name))]

    for index in (0, 1):
        operands = [pair[index] for pair in pairs]
        assert 0 <= min(operands) < max(operands) < size
        assert p_value(Counter(operand * 20 // size for operand in operands), 20) > LEAST
        assert p_value(Counter(operand % 10 for operand in operands), 10) > LEAST


@pytest.mark.parametrize("name", [name for name in TWO_OPERANDS if name.endswith("subtraction")])
def test_half_of_the_differences_are_negative(name: str) -> None:
    answers = [int(answer) for _, answer in arithmetic(made(name))]
    equal = 1 / 10 ** DIGITS[name.split("_")[0]]

    assert binomtest(sum(answer < 0 for answer in answers), len(answers), (1 - equal) / 2).pvalue > LEAST


def test_composites_have_parentheses_first_digits_from_one_to_nine_and_nine_pairs_of_signs() -> None:
    found = [re.fullmatch(r"\((\d) ([-+*]) (\d)\) ([-+*]) (\d)", problem) for problem, _ in arithmetic(made(COMPOSITE))]
    matches = [match for match in found if match]

    assert len(matches) == 2000
    assert p_value(Counter((match[2], match[4]) for match in matches), 9) > LEAST
    for group in (1, 3, 5):
        digits = Counter(match[group] for match in matches)
        assert set(digits) == set("123456789")
        assert p_value(digits, 9) > LEAST


def test_words_are_distinct_english_looking_and_many() -> None:
    listed = words()

    assert list(listed) == sorted(set(listed))
    assert all(re.fullmatch(r"[a-z]{5,15}", word) for word in listed)
    assert sum(len(word) > 5 for word in listed) >= 2000
    assert {"breakfast", "listening", "through"} <= set(listed)


@pytest.mark.parametrize(("name", "shortest"), SCRAMBLED.items())
def test_two_thousand_words_that_are_long_enough_are_scrambled_once(name: str, shortest: int) -> None:
    answers = [answer for _, answer in scrambles(made(name))]

    assert len(answers) == len(set(answers)) == 2000
    assert set(answers) <= {word for word in words() if len(word) >= shortest}
    assert answers != sorted(answers)
    assert answers != [answer for _, answer in scrambles(made(name, "train"))]


@pytest.mark.parametrize(("name", "kept"), [("mid_word_1_anagrams", 1), ("mid_word_2_anagrams", 2)])
def test_anagrams_keep_their_ends_and_differ_if_they_can(name: str, kept: int) -> None:
    for anagram, word in scrambles(made(name)):
        assert (anagram[:kept], anagram[-kept:]) == (word[:kept], word[-kept:])
        assert sorted(anagram) == sorted(word)
        assert (anagram == word) == (len(set(word[kept:-kept])) == 1)


def test_both_halves_of_repeated_words_are_the_same_random_words() -> None:
    halves = made("repeated_words")
    first, second = halves[::2], halves[1::2]
    drawn = Counter(word for each in first for word in each["words"].split())

    assert [(each["half"], each["before"]) for each in first] == [("first", "")] * 200
    assert [(each["half"], each["before"], each["words"]) for each in second] == [
        ("second", each["words"], each["words"]) for each in first
    ]
    assert all(len({*each["words"].split()}) == 25 for each in first)
    assert {*drawn} <= {*words()}
    assert max(drawn.values()) < 10  # of 5000 words that are drawn about once each


def test_lists_to_copy_have_three_lengths_and_different_words() -> None:
    lists = made("copied_words")

    assert Counter(each["length"] for each in lists) == {"5 words": 200, "10 words": 200, "20 words": 200}
    assert all(len({*each["words"].split()}) == int(each["length"].split()[0]) for each in lists)


def test_inner_letters_take_every_order_equally_often() -> None:
    shuffled = [Draws(str(number)).shuffled("abc") for number in range(3000)]

    assert p_value(Counter(map("".join, shuffled)), 6) > LEAST


def test_letters_are_cycled_by_any_number_but_zero() -> None:
    shifts: dict[int, Counter[int]] = {6: Counter(), 8: Counter(), 10: Counter()}
    for cycled, word in scrambles(made("cycle_letters_in_word")):
        possible = [shift for shift in range(1, len(word)) if word[shift:] + word[:shift] == cycled]
        assert possible
        if len(word) in shifts:
            shifts[len(word)][possible[0]] += 1

    for length, counts in shifts.items():
        assert p_value(counts, length - 1) > LEAST


def test_one_of_four_characters_is_inserted_between_neighbours() -> None:
    inserted: Counter[str] = Counter()
    for spread, word in scrambles(made("random_insertion_in_word")):
        assert spread[::2] == word
        assert len(spread) == 2 * len(word) - 1
        inserted.update(spread[1::2])

    assert set(inserted) == set(" ./!")
    assert p_value(inserted, 4) > LEAST


def test_words_are_reversed() -> None:
    assert all(reversed_word == word[::-1] for reversed_word, word in scrambles(made("reversed_words")))


def test_splits_of_a_set_are_drawn_apart() -> None:
    assert made("five_digit_addition", "train") != made("five_digit_addition", "validation")
    assert made("five_digit_addition") == made("five_digit_addition")


def test_draws_are_the_bytes_of_blake2b() -> None:
    draws = Draws("x")
    first = int.from_bytes(
        bytes.fromhex("7d6871af17553dfbe85597be2f661bc4"), "little"
    )  # printf 'x\\0370' | b2sum -l 128
    second = int.from_bytes(bytes.fromhex("646d8c33f47f9eaa2bbe7514b625cfec"), "little")

    assert [draws.below(10**9), draws.below(10**9)] == [first % 10**9, second % 10**9]


SCRIPT = """
from icl_eval.tasks import SyntheticSource
from icl_eval.tasks.data import Data
from itertools import islice
for name in ("two_digit_subtraction", "single_digit_three_ops", "mid_word_2_anagrams", "random_insertion_in_word"):
    for record in islice(SyntheticSource().records(Data(synthetic=name), "validation"), 2):
        print(record["context"].strip().splitlines()[0] + record["completion"])
"""
# Drawn once and written down: a change of platform, library or code that moves an item changes every result.
DRAWN = """\
Q: What is 70 minus 3? 67
Q: What is 36 minus 23? 13
Q: What is (9 - 4) * 1? 5
Q: What is (6 * 4) + 8? 32
soidelrs = soldiers
stterch = stretch
r.u s/h/e.s = rushes
i.n/v/e.s!t!i/g!a/t/e d = investigated
"""


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_items_are_the_same_in_every_process_and_for_ever(hash_seed: str) -> None:
    output = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={"PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True
    ).stdout

    assert output == DRAWN


def test_unknown_generator_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean reversed_words"):
        SyntheticSource().records(Data(synthetic="reversed_word"), "validation")
    with pytest.raises(DataError, match="names no generator"):
        SyntheticSource().records(Data(), "validation")


TASKS = {
    "arithmetic": [
        *("2d-addition", "2d-subtraction", "3d-addition", "3d-subtraction", "4d-addition", "4d-subtraction"),
        *("5d-addition", "5d-subtraction", "2d-multiplication", "1d-composite"),
    ],
    "unscramble": ["anagrams1", "anagrams2", "cycle-letters", "random-insertion", "reversed-words"],
}
NAMES = [f"{suite}/{name}" for suite, names in TASKS.items() for name in names]
EMPTY = HubSource()  # what a run without --data-dir reads; asking it for anything would need the network


@pytest.mark.parametrize("suite", TASKS)
def test_suites_have_every_task_and_no_average(suite: str) -> None:
    definition = LIBRARY.suite(suite)

    assert definition.tasks == [name for name in NAMES if name.startswith(suite)]
    assert not definition.average


@pytest.mark.parametrize("name", NAMES)
def test_task_needs_no_data_and_no_network(name: str, tmp_path: Path) -> None:
    task = bundled_task(name)

    assert task.source_in(EMPTY).label == task.source_in(LocalSource(tmp_path)).label == "synthetic"
    assert task.evaluation(EMPTY) == task.evaluation(LocalSource(tmp_path))
    task.check_fields(EMPTY)


@pytest.mark.parametrize("name", NAMES)
def test_task_reads_the_released_items_where_they_are(name: str, tmp_path: Path) -> None:
    task = bundled_task(name)
    kind = task.definition.data.synthetic
    assert kind is not None
    released = made(kind, "another split")[:20]
    path = tmp_path / "gpt3_synthetic" / f"{kind}.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(record) + "\n" for record in released), encoding="utf-8")
    source = LocalSource(tmp_path)

    assert task.source_in(source).label == "local"
    assert [record.options[0] for record in task.evaluation(source)] == [each["completion"][1:] for each in released]


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("arithmetic/3d-subtraction", {"context": "\n\nQ: What is 509 minus 488?\n\nA:", "completion": " 21"}),
        ("arithmetic/1d-composite", {"context": "\n\nQ: What is (4 - 7) - 3?\n\nA:", "completion": " -6"}),
        ("unscramble/cycle-letters", {"context": "\nasinoc =", "completion": " casino"}),
        ("unscramble/random-insertion", {"context": "\nd.o m i!n a n.t =", "completion": " dominant"}),
    ],
)  # from the figures of the paper and the first lines of the released files
def test_prompt_is_the_released_item(name: str, record: dict[str, str]) -> None:
    task = bundled_task(name)
    (example,) = task.evaluation(MemorySource({"validation": [record]}))
    prompt = task.prompt()
    query = prompt.query(example.fields, example.options, 0)

    assert prompt.separator + query == record["context"]
    assert prompt.answer(example.fields, example.options, 0) == record["completion"]


@pytest.mark.parametrize(
    "name", ["arithmetic/5d-subtraction", "arithmetic/1d-composite", "unscramble/random-insertion"]
)
def test_generated_examples_keep_the_invariants(name: str) -> None:
    task = bundled_task(name)
    records = made(task.definition.data.synthetic or "")[:150]

    check_task(task, MemorySource({"validation": records}), [0, 50])
