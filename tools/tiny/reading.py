"""Questions about a short passage: generators for BoolQ and MultiRC.

A passage states facts of the world about one or two people; questions ask for those facts and nothing else.
"""

from __future__ import annotations

from random import Random

from tools.tiny.lexicon import COLOURS, FOODS, JOBS, LANDMARKS, PETS, THINGS, TOWNS
from tools.tiny.world import Person, Record, Town, World, facts, other, pair_of, sentence

ASKED = ("town", "job", "pet", "thing", "food")


def boolq_question(rng: Random, world: World, label: bool) -> Record:
    """BoolQ: a lower-case question without a question mark; the passage starts with its title and ` -- `."""
    person = rng.choice(world.people)
    town = next(place for place in world.towns if place.name == person.town)
    passage = f"{town.name} -- {_town_sentence(town)} {_portrait(person, ('job', 'thing', 'food'))}"
    question = _town_question(rng, town, label) if rng.random() < 0.4 else _person_question(rng, person, label)
    return {"question": question.lower(), "passage": passage, "label": label}


def multirc_passage(rng: Random, world: World) -> Record:
    """MultiRC: a passage, its questions and for each question several answers that are right (1) or wrong (0).

    The keys `idx` of questions and answers are left to whoever numbers the whole split.
    """
    people = pair_of(rng, world)
    kinds = rng.sample(ASKED, 3)
    text = " ".join(sentence(facts(person)[kind]) for person in people for kind in kinds)
    questions = [_who(rng, world, people, rng.choice(kinds))]
    questions += [_what(rng, people, person, kind) for person, kind in zip(people, rng.sample(kinds, 2), strict=True)]
    rng.shuffle(questions)
    return {"version": 1.1, "passage": {"text": text, "questions": questions}}


def _town_sentence(town: Town) -> str:
    return f"{town.name} is a town with a {town.landmarks[0]} and a {town.landmarks[1]}."


def _portrait(person: Person, kinds: tuple[str, ...]) -> str:
    told = facts(person) | {"job": f"{person.name} is a {person.job.noun} in {person.town}"}
    return " ".join(sentence(told[kind]) for kind in kinds)


def _town_question(rng: Random, town: Town, label: bool) -> str:
    landmark = rng.choice(town.landmarks) if label else other(rng, LANDMARKS, *town.landmarks)
    return f"is there a {landmark} in {town.name}"


def _person_question(rng: Random, person: Person, label: bool) -> str:
    kind = rng.choice(("job", "thing", "colour", "food"))
    job = person.job if label else other(rng, JOBS, person.job)
    thing = person.thing if label else other(rng, THINGS, person.thing)
    colour = person.colour if label else other(rng, COLOURS, person.colour)
    food = person.food if label else other(rng, FOODS, person.food)
    return {
        "job": f"is {person.name} a {job.noun}",
        "thing": f"does {person.name} own a {thing}",
        "colour": f"is the {person.thing} of {person.name} {colour}",
        "food": f"does {person.name} like {food}",
    }[kind]


def _who(rng: Random, world: World, people: tuple[Person, Person], kind: str) -> Record:
    asked = rng.choice(people)
    predicate = facts(asked)[kind].removeprefix(f"{asked.name} ")
    true_of = [p.name for p in people if facts(p)[kind].removeprefix(f"{p.name} ") == predicate]
    rest = [p.name for p in world.people if p not in people]
    wrong = [p.name for p in people if p.name not in true_of] or [rng.choice(rest)]
    wrong.append(other(rng, rest, *wrong))
    return _answers(rng, f"Who {predicate}?", true_of, wrong)


def _what(rng: Random, people: tuple[Person, Person], person: Person, kind: str) -> Record:
    rival = people[1] if person is people[0] else people[0]
    wording = {
        "town": (f"Where does {person.name} live?", person.town, rival.town, TOWNS),
        "job": (f"What is the job of {person.name}?", person.job.noun, rival.job.noun, tuple(j.noun for j in JOBS)),
        "pet": (f"Which animal does {person.name} have?", f"a {person.pet}", f"a {rival.pet}", _indefinite(PETS)),
        "thing": (f"What does {person.name} own?", f"a {person.thing}", f"a {rival.thing}", _indefinite(THINGS)),
        "food": (f"What does {person.name} like?", person.food, rival.food, FOODS),
    }
    question, right, nearby, choices = wording[kind]
    true = [right] + ([f"a {person.colour} {person.thing}"] if kind == "thing" else [])
    wrong = [nearby] if nearby != right else []
    wrong.append(other(rng, choices, right, nearby))
    return _answers(rng, question, true, wrong)


def _indefinite(nouns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"a {noun}" for noun in nouns)


def _answers(rng: Random, question: str, right: list[str], wrong: list[str]) -> Record:
    answers: list[Record] = [{"text": text, "label": 1} for text in right]
    answers += [{"text": text, "label": 0} for text in wrong]
    rng.shuffle(answers)
    return {"question": question, "answers": answers}
