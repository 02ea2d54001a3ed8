"""Synthetic records: arithmetic and word scrambling of the GPT-3 paper, named as its files, and words to copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from icl_eval.errors import DataError, UnknownName
from icl_eval.tasks.data import Data
from icl_eval.tasks.sources import Location
from icl_eval.tasks.synthetic.generators import (
    Draws,
    anagram,
    backwards,
    copied_words,
    cycled,
    repeated_words,
    scrambled,
    three_operands,
    two_operands,
    with_insertions,
)

GENERATORS: Mapping[str, Callable[[Draws], Iterator[dict[str, str]]]] = {
    "two_digit_addition": two_operands("plus", 2),
    "two_digit_subtraction": two_operands("minus", 2),
    "three_digit_addition": two_operands("plus", 3),
    "three_digit_subtraction": two_operands("minus", 3),
    "four_digit_addition": two_operands("plus", 4),
    "four_digit_subtraction": two_operands("minus", 4),
    "five_digit_addition": two_operands("plus", 5),
    "five_digit_subtraction": two_operands("minus", 5),
    "two_digit_multiplication": two_operands("times", 2),
    "single_digit_three_ops": three_operands,
    "mid_word_1_anagrams": scrambled(anagram(1), shortest=5),
    "mid_word_2_anagrams": scrambled(anagram(2), shortest=6),
    "cycle_letters_in_word": scrambled(cycled, shortest=6),
    "random_insertion_in_word": scrambled(with_insertions, shortest=6),
    "reversed_words": scrambled(backwards, shortest=6),
    "repeated_words": repeated_words,
    "copied_words": copied_words,
}


class SyntheticSource:
    """Records of a task's generator, which depend only on the generator and the name of the split."""

    label = "synthetic"

    def holds(self, data: Data) -> bool:
        """Whether the task has a generator."""
        return data.synthetic is not None

    def records(self, data: Data, split: str) -> Iterator[Mapping[str, Any]]:
        """Generate the records of a split.

        Raises:
            DataError: the task has no generator.
            UnknownName: the generator does not exist.
        """
        if data.synthetic is None:
            raise DataError("the task names no generator of records")
        if data.synthetic not in GENERATORS:
            raise UnknownName("generator of records", data.synthetic, GENERATORS)
        return GENERATORS[data.synthetic](Draws(f"{data.synthetic}/{split}"))

    def location(self, data: Data, split: str, number: int | None) -> Location:  # noqa: ARG002
        """An empty location."""
        return Location()
