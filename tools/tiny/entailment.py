"""Does one sentence follow from another? Generators for RTE, CB and the two diagnostics AX-b and AX-g.

Each takes the label it shall have and builds a pair that has it; a false hypothesis is always wrong about a fact that
the world fixes, or about a person of whom the premise says nothing.
"""

from __future__ import annotations

from random import Random

from tools.tiny.lexicon import COLOURS, FOODS, JOBS, PETS, THINGS, TOWNS
from tools.tiny.world import Person, Record, World, facts, other, pair_of, sentence

ENTAILMENT = ("entailment", "not_entailment")
COMMITMENT = ("entailment", "contradiction", "neutral")

_FRAMES = {
    "entailment": (
        "{a} knows that {fact}.",
        "{a} remembers that {fact}.",
        "{a} is glad that {fact}.",
        "{a} found out that {fact}.",
        "{a} forgot that {fact}.",
        "It is true that {fact}.",
    ),
    "contradiction": (
        "It is not true that {fact}.",
        "{a} wrongly believes that {fact}.",
        "{a} told the lie that {fact}.",
        "{a} made up the story that {fact}.",
        "It is false that {fact}.",
        "{a} is wrong to say that {fact}.",
    ),
    "neutral": (
        "{a} hopes that {fact}.",
        "{a} asks whether {fact}.",
        "Perhaps {fact}.",
        "{a} wants to know if {fact}.",
        "{a} dreams that {fact}.",
        "{a} cannot say whether {fact}.",
    ),
}
_OPENINGS = ("", "", "", "{a} is in {t} today. ", "{a} came to {t}. ", "It is market day in {t}. ")


def rte_pair(rng: Random, world: World, label: str) -> Record:
    """RTE: a premise with the trade and two facts of a person, a hypothesis with one."""
    person, stranger = pair_of(rng, world)
    kept = rng.sample(["town", "pet", "thing", "food"], 2)
    clauses = facts(person)
    verbs = " and ".join(clauses[kind].removeprefix(f"{person.name} ") for kind in kept)
    premise = f"{person.name} the {person.job.noun} {verbs}."
    told = rng.choice([*kept, "job"])
    hypothesis = true_hypothesis(rng, person, told)
    if label == "not_entailment":
        hypothesis = false_hypothesis(rng, person, told)
        if rng.random() < 0.3:
            hypothesis = hypothesis_about(stranger, told)
    return {"premise": premise, "hypothesis": hypothesis, "label": label}


def true_hypothesis(rng: Random, person: Person, kind: str) -> str:
    """A sentence that follows from one fact about the person."""
    name, noun = person.name, person.job.noun
    variants = {
        "town": (f"{name} lives in {person.town}.", f"The {noun} lives in {person.town}."),
        "pet": (f"{name} has a {person.pet}.", f"{name} has an animal."),
        "thing": (f"{name} owns a {person.thing}.", f"The {person.thing} of {name} is {person.colour}."),
        "food": (f"{name} likes {person.food}.", f"The {noun} likes {person.food}."),
        "job": (f"{name} is a {noun}.", f"{name} {person.job.work}."),
    }
    return rng.choice(variants[kind])


def false_hypothesis(rng: Random, person: Person, kind: str) -> str:
    """A sentence that contradicts one fact about the person."""
    name, noun = person.name, person.job.noun
    job = other(rng, JOBS, person.job)
    town, colour = other(rng, TOWNS, person.town), other(rng, COLOURS, person.colour)
    variants = {
        "town": (f"{name} lives in {town}.", f"The {noun} lives in {town}."),
        "pet": (f"{name} has a {other(rng, PETS, person.pet)}.", f"{name} has no animal."),
        "thing": (
            f"{name} owns a {other(rng, THINGS, person.thing)}.",
            f"The {person.thing} of {name} is {colour}.",
        ),
        "food": (f"{name} likes {other(rng, FOODS, person.food)}.", f"{name} does not like {person.food}."),
        "job": (f"{name} is a {job.noun}.", f"{name} {job.work}."),
    }
    return rng.choice(variants[kind])


def hypothesis_about(person: Person, kind: str) -> str:
    """The plain fact about a person whom the premise does not mention."""
    return sentence(facts(person)[kind])


def cb_pair(rng: Random, world: World, label: str) -> Record:
    """CB: is the speaker committed to the clause inside the premise? The hypothesis has no final period."""
    speaker, person = pair_of(rng, world)
    fact = facts(person)[rng.choice(["town", "job", "pet", "thing", "food"])]
    opening = rng.choice(_OPENINGS).format(a=speaker.name, t=rng.choice(world.towns).name)
    premise = opening + rng.choice(_FRAMES[label]).format(a=speaker.name, fact=fact)
    return {"premise": premise, "hypothesis": fact, "label": label}


def axb_pair(rng: Random, world: World, label: str) -> Record:
    """AX-b: two sentences and the linguistic phenomenon that decides between them."""
    person, friend = pair_of(rng, world)
    follows = label == "entailment"
    (family, phenomenon), pair = rng.choice(list(_phenomena(rng, person, friend, follows).items()))
    return {"label": label, "sentence1": pair[0], "sentence2": pair[1], family: phenomenon}


def _phenomena(rng: Random, person: Person, friend: Person, follows: bool) -> dict[tuple[str, str], tuple[str, str]]:
    """One pair of sentences for each (family, phenomenon)."""
    name, noun, likes = person.name, person.job.noun, f"likes {person.food}"
    verb = rng.choice(("helped", "called", "thanked"))
    doer, receiver = (person, friend) if follows else (friend, person)
    town = person.town if follows else other(rng, TOWNS, person.town)
    job = person.job if follows else other(rng, JOBS, person.job)
    special, general = f"{name} has a {person.pet}.", f"{name} has an animal."
    return {
        ("logic", "Negation"): (
            f"{name} the {noun} {likes}.",
            f"{name} {likes}." if follows else f"{name} does not like {person.food}.",
        ),
        ("logic", "Conjunction"): (
            f"{name} and {friend.name} live in {person.town}.",
            f"{rng.choice((person, friend)).name} lives in {town}.",
        ),
        ("predicate-argument-structure", "Active/Passive"): (
            f"{name} {verb} {friend.name}.",
            f"{receiver.name} was {verb} by {doer.name}.",
        ),
        ("lexical-semantics", "Lexical entailment"): (special, general) if follows else (general, special),
        ("knowledge", "World knowledge"): (f"{name} is a {noun}.", f"{name} {job.work}."),
    }


def axg_twins(rng: Random, world: World, label: str) -> tuple[Record, Record]:
    """AX-g: two records that differ only in the gender of a pronoun, which must not change the answer."""
    guest, host = rng.sample(sorted({person.job for person in world.people}, key=lambda job: job.noun), 2)
    premise, of_guest = rng.choice(
        (
            ("The {guest} went to the {host} because {p} needed {remedy}.", True),
            ("The {guest} paid the {host} because {p} wanted {remedy}.", True),
            ("The {guest} went to the {host} because {p} could offer {remedy}.", False),
            ("The {guest} paid the {host} because {p} sold {remedy}.", False),
        )
    )
    clause = premise.split("{p} ")[1]
    follows = label == "entailment"
    noun = guest.noun if of_guest == follows else host.noun
    hypothesis = f"The {noun} {clause}".format(remedy=host.remedy)
    premises = [premise.format(guest=guest.noun, host=host.noun, p=p, remedy=host.remedy) for p in ("he", "she")]
    first, second = ({"hypothesis": hypothesis, "label": label, "premise": text} for text in premises)
    return first, second
