"""Cause and effect in the small world: the generator for COPA.

An event and its consequence are fixed knowledge. The wrong alternative comes from another theme, so that it is never
the more plausible one.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tools.tiny.world import Record, World, other, pair_of


@dataclass(frozen=True)
class Event:
    """A cause and its effect; `{a}` is a person, `{t}` a town."""

    theme: str
    cause: str
    effect: str


EVENTS = (
    Event("cup", "{a} dropped the cup.", "The cup broke."),
    Event("cup", "{a} hit the cup with a stone.", "The cup fell apart."),
    Event("rain", "It rained all day.", "The road to {t} got wet."),
    Event("rain", "A storm came over {t}.", "The boats stayed in the port."),
    Event("food", "{a} did not eat all day.", "{a} was hungry."),
    Event("food", "{a} ate the whole cake.", "{a} felt full."),
    Event("rest", "{a} ran to {t} and back.", "{a} was out of breath."),
    Event("rest", "{a} worked all night.", "{a} slept until noon."),
    Event("gate", "{a} left the gate open.", "The goat ran away."),
    Event("gate", "{a} shut the gate.", "The goat stayed in the yard."),
    Event("money", "{a} sold the house.", "{a} had a lot of money."),
    Event("money", "{a} lost the purse in {t}.", "{a} could not pay."),
    Event("fire", "{a} lit the stove.", "The stove became warm."),
    Event("fire", "{a} let the fire go out.", "The stove became cold."),
    Event("lamp", "{a} put out the lamp.", "The lamp gave no light."),
    Event("lamp", "{a} lit the lamp.", "The lamp shone."),
    Event("school", "{a} learned the song by heart.", "{a} sang without the book."),
    Event("school", "{a} read every book in the school.", "{a} passed the test."),
    Event("plant", "{a} forgot to water the flowers.", "The flowers died."),
    Event("plant", "{a} put seeds in the ground.", "Corn grew in the field."),
    Event("ill", "{a} caught a fever.", "{a} called the doctor."),
    Event("ill", "{a} took the medicine.", "The pain went away."),
    Event("clock", "The clock of {a} stopped.", "{a} came too late."),
    Event("clock", "{a} rang the bell.", "Everybody in {t} heard it."),
)


def copa_choice(rng: Random, world: World, label: int) -> Record:
    """COPA: the alternative at index `label` is the more plausible cause or effect of the premise."""
    person, _ = pair_of(rng, world)
    town = rng.choice(world.towns).name
    event = rng.choice(EVENTS)
    foreign = other(rng, EVENTS, *(each for each in EVENTS if each.theme == event.theme))
    question = rng.choice(("cause", "effect"))
    given, right, wrong = event.effect, event.cause, foreign.cause
    if question == "effect":
        given, right, wrong = event.cause, event.effect, foreign.effect
    choices = [right, wrong] if label == 0 else [wrong, right]
    premise, choice1, choice2 = (text.format(a=person.name, t=town) for text in (given, *choices))
    return {"premise": premise, "choice1": choice1, "choice2": choice2, "question": question, "label": label}
