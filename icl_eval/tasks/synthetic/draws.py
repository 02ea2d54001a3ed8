"""Pseudo-random numbers from a hash: the same for a name on every platform, in every version of every library."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import count
from typing import TypeVar

T = TypeVar("T")


class Draws:
    """An endless stream of independent draws: the n-th is the BLAKE2b hash of (name, n), 128 bits of it."""

    def __init__(self, name: str) -> None:
        self._name, self._number = name, count()

    def below(self, bound: int) -> int:
        """A whole number in [0, bound), uniform to within bound / 2**128."""
        text = f"{self._name}\x1f{next(self._number)}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little") % bound

    def one_of(self, choices: Sequence[T]) -> T:
        """A member, all equally likely."""
        return choices[self.below(len(choices))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The members in an order, all equally likely (Fisher and Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order
