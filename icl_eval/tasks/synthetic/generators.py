"""Generators of records: arithmetic and scrambled words of section 3.9 of the GPT-3 paper, and random words to copy.

Operands are uniform on [0, 10^digits), so differences are often negative. Problems with three operands follow the
released items, not the text: the first two operands are in parentheses, and digits are from 1 to 9.

Words are from the bundled list, without repetition. If the text does not define a rule, the released items do: letters
are cycled by at least one place, an anagram differs from its word if possible, and there is exactly one character
between two letters.

A model cannot predict random words before it reads them, so its predictions of a second copy depend on the first copy.
These are the repeated random tokens of Olsson et al. 2022 (arXiv 2209.11895), as words, which every tokenizer supports.

Draws are pseudo-random numbers from a hash. They depend only on a name, not on the platform or versions of libraries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import resources
from itertools import count
from typing import TypeVar

T = TypeVar("T")


class Draws:
    """An endless sequence of independent draws; the n-th is a 128-bit BLAKE2b hash of (name, n)."""

    def __init__(self, name: str) -> None:
        self._name, self._number = name, count()

    def below(self, bound: int) -> int:
        """A whole number in [0, bound), uniform to within bound / 2**128."""
        text = f"{self._name}\x1f{next(self._number)}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little") % bound

    def one_of(self, choices: Sequence[T]) -> T:
        """A uniformly random member of a sequence."""
        return choices[self.below(len(choices))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The members in a uniformly random order (Fisher and Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order


ITEMS = 2000  # distinct problems in every released file; also the number of words used
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "plus": lambda a, b: a + b,
    "minus": lambda a, b: a - b,
    "times": lambda a, b: a * b,
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}
SIGNS = ("+", "-", "*")


def two_operands(word: str, digits: int) -> Callable[[Draws], Iterator[dict[str, str]]]:
    """A generator of `What is a word b?` with operands of at most `digits` digits."""

    def problem(draws: Draws) -> tuple[str, int]:
        a, b = draws.below(10**digits), draws.below(10**digits)
        return f"{a} {word} {b}", OPERATIONS[word](a, b)

    return lambda draws: _distinct(problem, draws)


def three_operands(draws: Draws) -> Iterator[dict[str, str]]:
    """`What is (a sign b) sign c?` with digits from 1 to 9."""
    return _distinct(_composite, draws)


def _composite(draws: Draws) -> tuple[str, int]:
    a, b, c = (1 + draws.below(9) for _ in range(3))
    inner, outer = draws.one_of(SIGNS), draws.one_of(SIGNS)
    return f"({a} {inner} {b}) {outer} {c}", OPERATIONS[outer](OPERATIONS[inner](a, b), c)


def _distinct(problem: Callable[[Draws], tuple[str, int]], draws: Draws) -> Iterator[dict[str, str]]:
    seen: set[str] = set()
    while len(seen) < ITEMS:
        text, answer = problem(draws)
        if text not in seen:
            seen.add(text)
            yield {"context": f"\n\nQ: What is {text}?\n\nA:", "completion": f" {answer}"}


INSERTED = (" ", ".", "/", "!")
LONGEST = 15
Scramble = Callable[[str, Draws], str]


def scrambled(scramble: Scramble, shortest: int) -> Callable[[Draws], Iterator[dict[str, str]]]:
    """A generator of words of `shortest` to 15 letters."""

    def records(draws: Draws) -> Iterator[dict[str, str]]:
        for word in draws.shuffled([word for word in words() if shortest <= len(word) <= LONGEST])[:ITEMS]:
            yield {"context": f"\n{scramble(word, draws)} =", "completion": f" {word}"}

    return records


@cache
def words() -> tuple[str, ...]:
    """The distinct bundled English words in lower case, sorted."""
    return tuple(resources.files(__package__).joinpath("words.txt").read_text(encoding="ascii").split())


def cycled(word: str, draws: Draws) -> str:
    """The word with its first letters moved to the end."""
    places = 1 + draws.below(len(word) - 1)
    return word[places:] + word[:places]


def anagram(kept: int) -> Scramble:
    """A function that shuffles all letters of a word except the first and last `kept` ones."""

    def scramble(word: str, draws: Draws) -> str:
        inner = word[kept:-kept]
        order = inner
        while order == inner and len(set(inner)) > 1:
            order = "".join(draws.shuffled(inner))
        return word[:kept] + order + word[-kept:]

    return scramble


def with_insertions(word: str, draws: Draws) -> str:
    """The word with a space or punctuation mark after each letter except the last."""
    return "".join(letter + draws.one_of(INSERTED) for letter in word[:-1]) + word[-1]


def backwards(word: str, draws: Draws) -> str:  # noqa: ARG001
    """The reversed word."""
    return word[::-1]


REPEATED, REPEATED_WORDS = 200, 25  # number of sequences, and of words in each
COPIED, COPIED_WORDS = 200, (5, 10, 20)  # number of lists for each length, and the lengths


def repeated_words(draws: Draws) -> Iterator[dict[str, str]]:
    """Both halves of repeated random words: the first half without context, the second after the first."""
    for number in range(REPEATED):
        text = "".join(f" {word}" for word in _random_words(draws, REPEATED_WORDS))
        for half, before in (("first", ""), ("second", text)):
            yield {"id": f"{number}-{half}", "sequence": str(number), "half": half, "before": before, "words": text}


def copied_words(draws: Draws) -> Iterator[dict[str, str]]:
    """Lists of random words of several lengths."""
    for number in range(COPIED):
        for length in COPIED_WORDS:
            words_of_list = " ".join(_random_words(draws, length))
            yield {"id": f"{number}-{length}", "length": f"{length} words", "words": words_of_list}


def _random_words(draws: Draws, count: int) -> list[str]:
    """Distinct random words, all equally likely."""
    listed = words()
    found: dict[str, None] = {}
    while len(found) < count:
        found[draws.one_of(listed)] = None
    return list(found)
