"""One record about one invented word: a builder for each task, in the schema of the official release.

A builder takes the word and its meaning in the world at hand. Nothing else in the record tells the meaning.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from tools.tiny.world import DEEDS, FOODS, JOBS, MEN, PEOPLE, THEMES, TOWNS, WOMEN, Record, other

Builder = Callable[[Random, str, Any], tuple[Record, ...]]

ENTAILMENT = ("entailment", "not_entailment")
COMMITMENT = ("entailment", "contradiction", "neutral")


@dataclass(frozen=True)
class Kind:
    """How records of a task are made: what a word can mean in it, and the builder."""

    meanings: tuple[Any, ...]
    build: Builder


def boolq(rng: Random, word: str, eaten: bool) -> tuple[Record, ...]:
    """BoolQ: can one eat it? A lower-case question; the passage starts with its title and ` -- `."""
    town, deed = rng.choice(TOWNS), rng.choice(("grows", "sells", "keeps", "makes"))
    passage = f"{town} -- {town} is a town. {rng.choice(PEOPLE)} {deed} {word} there."
    return ({"question": f"can you eat {word}", "passage": passage, "label": eaten},)


def cb(rng: Random, word: str, label: str) -> tuple[Record, ...]:
    """CB: is someone who does this committed to the clause? The hypothesis has no final period."""
    speaker, person = rng.sample(PEOPLE, 2)
    fact = f"{person} {rng.choice(('likes', 'sells', 'buys', 'makes'))} {rng.choice(FOODS)}"
    return ({"premise": f"{speaker} would {word} that {fact}.", "hypothesis": fact, "label": label},)


def copa(rng: Random, word: str, theme: tuple[str, str]) -> tuple[Record, ...]:
    """COPA: both orders of two alternatives; a word is an event with one kind of cause and one kind of effect."""
    return _alternatives(rng, word, theme, 0), _alternatives(rng, word, theme, 1)


def _alternatives(rng: Random, word: str, theme: tuple[str, str], gold: int) -> Record:
    question, wrong = rng.choice(("cause", "effect")), other(rng, THEMES, theme)
    themes = (theme, wrong) if gold == 0 else (wrong, theme)
    choices = [f"It was {weather}." if question == "cause" else f"People {deed}." for weather, deed in themes]
    premise = f"{rng.choice(TOWNS)} had a {word}."
    return {"premise": premise, "choice1": choices[0], "choice2": choices[1], "question": question, "label": gold}


def multirc(rng: Random, word: str, owner: str) -> tuple[Record, ...]:
    """MultiRC: two questions for the owner of a thing, with the owner (1) and someone else (0) as answers.

    The keys `idx` of questions and answers are left to whoever numbers the whole split.
    """
    guest, town = other(rng, PEOPLE, owner), rng.choice(TOWNS)
    both = rng.sample([owner, guest], 2)
    text = f"{both[0]} and {both[1]} saw a {word} in {town}."
    questions = [
        {"question": question, "answers": [{"text": name, "label": int(name == owner)} for name in rng.sample(both, 2)]}
        for question in (f"Who owns the {word}?", f"Who has the {word}?")
    ]
    return ({"version": 1.1, "passage": {"text": text, "questions": questions}},)


def record(rng: Random, word: str, owner: str) -> tuple[Record, ...]:
    """ReCoRD: four people and `@highlight` lines, every mention of a person, and one query; `end` is inclusive.

    The keys `idx` of record and query are left to whoever numbers the whole split.
    """
    names = [*rng.sample([name for name in PEOPLE if name != owner], 3), owner]
    rng.shuffle(names)
    town = rng.choice(TOWNS)
    text = (
        f"{names[0]}, {names[1]}, {names[2]} and {names[3]} met.\n@highlight\nIt rained in {town}\n@highlight\nAll came"
    )
    mentions = [
        {"start": found.start(), "end": found.end() - 1} for found in re.finditer(rf"\b(?:{'|'.join(names)})\b", text)
    ]
    spelled = [mention | {"text": text[mention["start"] : mention["end"] + 1]} for mention in mentions]
    return (
        {
            "source": "Tiny world",
            "passage": {"text": text, "entities": mentions},
            "qas": [
                {
                    "query": f"The {word} was for @placeholder.",
                    "answers": [mention for mention in spelled if mention["text"] == owner],
                }
            ],
        },
    )


def rte(rng: Random, word: str, label: str) -> tuple[Record, ...]:
    """RTE: is the thing an animal?"""
    name, deed = rng.choice(PEOPLE), rng.choice(DEEDS)
    premise = f"{name} {deed} a {word} in {rng.choice(TOWNS)}."
    return ({"premise": premise, "hypothesis": f"{name} {deed} an animal.", "label": label},)


def wic(rng: Random, word: str, label: bool) -> tuple[Record, ...]:
    """WiC: has the word one sense only? Character offsets of the word, `end` exclusive."""
    forms = ("{a} saw the [w].", "The [w] of {a} is old.", "{a} likes the [w].", "{a} and the [w] are here.")
    made = [form.format(a=name) for form, name in zip(rng.sample(forms, 2), rng.sample(PEOPLE, 2), strict=True)]
    found: Record = {"word": word} | {f"sentence{n}": text.replace("[w]", word) for n, text in enumerate(made, 1)}
    starts = [text.index("[w]") for text in made]
    found |= {"label": label, "start1": starts[0], "end1": starts[0] + len(word)}
    return (found | {"start2": starts[1], "end2": starts[1] + len(word), "version": 1.1},)


def wsc(rng: Random, word: str, label: bool) -> tuple[Record, ...]:
    """WSC: does the pronoun stand for the first of two people? Word indices count the words of the text."""
    names, pronoun = rng.choice(((WOMEN, "she"), (MEN, "he")))
    first, second = rng.sample(names, 2)
    text = (
        f"{first} {rng.choice(('thanked', 'called', 'helped', 'met', 'paid'))} {second} because {pronoun} was {word}."
    )
    target = {"span1_index": 0, "span1_text": first, "span2_index": 4, "span2_text": pronoun}
    return ({"text": text, "target": target, "label": label},)


def axb(rng: Random, word: str, label: str) -> tuple[Record, ...]:
    """AX-b: the question of RTE in other sentences, and the linguistic phenomenon in them."""
    (name, friend), deed = rng.sample(PEOPLE, 2), rng.choice(DEEDS)
    family, phenomenon, text = rng.choice(
        (
            ("logic", "Conjunction", f"{name} and {friend} {deed} a {word}."),
            ("predicate-argument-structure", "Active/Passive", f"A {word} was {deed} by {name}."),
            ("lexical-semantics", "Lexical entailment", f"{name} {deed} a {word}."),
        )
    )
    return ({"label": label, "sentence1": text, "sentence2": f"{name} {deed} an animal.", family: phenomenon},)


def axg(rng: Random, word: str, label: str) -> tuple[Record, ...]:
    """AX-g: two records that differ only in the gender of a pronoun, which must not change the answer."""
    job, deed, town = rng.choice(JOBS), rng.choice(DEEDS), rng.choice(TOWNS)
    premises = [f"The {job} {deed} a {word} when {pronoun} was in {town}." for pronoun in ("he", "she")]
    hypothesis = f"The {job} {deed} an animal."
    first, second = ({"hypothesis": hypothesis, "label": label, "premise": text} for text in premises)
    return first, second


KINDS = {
    "BoolQ": Kind((True, False), boolq),
    "CB": Kind(COMMITMENT, cb),
    "COPA": Kind(THEMES, copa),
    "MultiRC": Kind(PEOPLE, multirc),
    "ReCoRD": Kind(PEOPLE, record),
    "RTE": Kind(ENTAILMENT, rte),
    "WiC": Kind((True, False), wic),
    "WSC": Kind((True, False), wsc),
    "AX-b": Kind(ENTAILMENT, axb),
    "AX-g": Kind(ENTAILMENT, axg),
}
DIAGNOSTICS = ("AX-b", "AX-g")
