"""A small consistent world drawn from a seed: people with a town, a trade, a pet, a possession and a favourite food.

Everything the sample data says is read off such a world or off fixed tables of knowledge, so that every label is right
by construction. All functions are pure in the `random.Random` they are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from tools.tiny.lexicon import COLOURS, FOODS, JOBS, LANDMARKS, MEN, PETS, THINGS, TOWNS, WOMEN, Job

Record = dict[str, Any]
"""One record in the schema of the official release of its task."""

T = TypeVar("T")


@dataclass(frozen=True)
class Person:
    """One inhabitant; every field is true of them, and nothing else is."""

    name: str
    female: bool
    town: str
    job: Job
    pet: str
    colour: str
    thing: str
    food: str

    @property
    def subject(self) -> str:
        """The pronoun that stands for this person as a subject."""
        return "she" if self.female else "he"


@dataclass(frozen=True)
class Town:
    """One town and the only landmarks it has."""

    name: str
    landmarks: tuple[str, str]


@dataclass(frozen=True)
class World:
    """People and towns of one draw."""

    people: tuple[Person, ...]
    towns: tuple[Town, ...]


def draw_world(rng: Random, size: int = 8) -> World:
    """A world of `size` people, half of them women."""
    towns = tuple(
        Town(name, (first, second)) for name in rng.sample(TOWNS, 6) for first, second in [rng.sample(LANDMARKS, 2)]
    )
    names = [(name, True) for name in rng.sample(WOMEN, size // 2)]
    names += [(name, False) for name in rng.sample(MEN, size - size // 2)]
    people = [
        Person(
            name,
            female,
            rng.choice(towns).name,
            rng.choice(JOBS),
            rng.choice(PETS),
            rng.choice(COLOURS),
            rng.choice(THINGS),
            rng.choice(FOODS),
        )
        for name, female in names
    ]
    return World(tuple(people), towns)


def facts(person: Person) -> dict[str, str]:
    """What is true of a person, as clauses without a final period, keyed by what they are about."""
    return {
        "town": f"{person.name} lives in {person.town}",
        "job": f"{person.name} is a {person.job.noun}",
        "pet": f"{person.name} has a {person.pet}",
        "thing": f"{person.name} owns a {person.colour} {person.thing}",
        "food": f"{person.name} likes {person.food}",
    }


def other(rng: Random, choices: Sequence[T], *taken: T) -> T:
    """A uniform draw from `choices` outside `taken`."""
    return rng.choice([choice for choice in choices if choice not in taken])


def pair_of(rng: Random, world: World, *, same_gender: bool = False) -> tuple[Person, Person]:
    """Two different people of the world; with `same_gender`, no pronoun tells them apart."""
    first = rng.choice(world.people)
    rest = [p for p in world.people if p is not first and (not same_gender or p.female == first.female)]
    return first, rng.choice(rest)


def sentence(clause: str) -> str:
    """The clause with a capital and a period."""
    return clause[0].upper() + clause[1:] + "."


def alternated(rng: Random, labels: Iterable[T], count: int) -> list[T]:
    """`count` labels, as equal in number as can be, in random order."""
    cycle = list(labels)
    drawn = [cycle[i % len(cycle)] for i in range(count)]
    rng.shuffle(drawn)
    return drawn
