"""The small world: people, towns and invented words. What an invented word means differs from world to world.

So no weights can know it, and a prompt shows it: each solved record tells the meaning of its word, for its task alone.
All functions are pure in the `random.Random` they are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import Any, TypeVar

Record = dict[str, Any]
"""One record in the schema of the official release of its task."""

T = TypeVar("T")

WORDS = tuple(onset + rime for onset in "bdfgklmz" for rime in ("ab", "ep", "ix", "og", "uv", "yt"))
"""The invented words."""
WOMEN = ("Anna", "Mia", "Nora", "Lena", "Ruth", "Ida", "Vera", "Tess")
MEN = ("Tom", "Ben", "Karl", "Otto", "Hugo", "Paul", "Finn", "Jack")
PEOPLE = WOMEN + MEN
TOWNS = ("Arlow", "Dunby", "Keth", "Morwick", "Tarn", "Vellis", "Oxley", "Pell", "Sundor", "Halver", "Quill", "Brent")
JOBS = ("baker", "farmer", "doctor", "fisher", "tailor", "smith", "painter", "writer")
FOODS = ("soup", "bread", "cake", "fish", "rice", "plums", "cheese", "honey")
DEEDS = ("found", "sold", "bought", "fed", "lost", "heard")
"""Verbs whose past tense is their participle."""
THEMES = (("hot", "swam"), ("cold", "sang"), ("wet", "ran"), ("dark", "slept"), ("long", "wept"), ("calm", "danced"))
"""The weather that brings an event about, and what people do after it."""


def other(rng: Random, choices: Sequence[T], *taken: T) -> T:
    """A uniform draw from `choices` outside `taken`."""
    return rng.choice([choice for choice in choices if choice not in taken])


def alternated(rng: Random, labels: Iterable[T], count: int) -> list[T]:
    """`count` labels, as equal in number as can be, in random order."""
    cycle = list(labels)
    drawn = [cycle[i % len(cycle)] for i in range(count)]
    rng.shuffle(drawn)
    return drawn
