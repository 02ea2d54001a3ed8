"""A news story, its highlights, and a sentence with one name missing: the generator for ReCoRD.

Each story gives fixed parts to its people and towns; each query fits exactly one of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from tools.tiny.world import Record, World


@dataclass(frozen=True)
class Query:
    """A sentence with `@placeholder` and the part that fills it."""

    text: str
    answer: str


@dataclass(frozen=True)
class Story:
    """Templates over the people `{a}`, `{b}`, `{c}`, the towns `{t}`, `{u}` and the thing `{x}`."""

    body: str
    highlights: tuple[str, str]
    queries: tuple[Query, ...]


STORIES = (
    Story(
        "{a} sold a {x} to {b} in {t}. {c} came from {u} to see it.",
        ("{a} no longer has the {x}", "{c} saw it too"),
        (
            Query("The new owner of the {x} is @placeholder.", "b"),
            Query("The money for the {x} went to @placeholder.", "a"),
            Query("The {x} was sold in the town of @placeholder.", "t"),
        ),
    ),
    Story(
        "{a} lost a {x} on the road to {t}. {b} found the {x} and told {c} of {u}.",
        ("{b} was lucky", "{a} got the {x} back"),
        (
            Query("The lost {x} was found by @placeholder.", "b"),
            Query("The owner of the lost {x} is @placeholder.", "a"),
            Query("The road leads to the town of @placeholder.", "t"),
        ),
    ),
    Story(
        "{a} beat {b} in the race at {t}. {c} of {u} was the judge.",
        ("{a} was fast", "{c} gave {a} a {x}"),
        (
            Query("The prize of the race went to @placeholder.", "a"),
            Query("The race was lost by @placeholder.", "b"),
            Query("The judge of the race was @placeholder.", "c"),
        ),
    ),
    Story(
        "{a} of {t} was ill. {b} came from {u} with medicine. {c} paid for it with a {x}.",
        ("{a} is well again", "{b} is a good doctor"),
        (
            Query("The patient was @placeholder.", "a"),
            Query("The doctor was @placeholder.", "b"),
            Query("The medicine was paid by @placeholder.", "c"),
        ),
    ),
    Story(
        "{a} taught {b} to make a {x} in {t}. {c} of {u} wants to buy it.",
        ("{b} learns well", "{c} will pay"),
        (
            Query("The teacher was @placeholder.", "a"),
            Query("The pupil was @placeholder.", "b"),
            Query("The buyer of the {x} is @placeholder.", "c"),
        ),
    ),
)


def record_story(rng: Random, world: World, things: tuple[str, ...]) -> Record:
    """ReCoRD: a passage with `@highlight` lines, every mention of an entity, and one query; `end` is inclusive.

    The keys `idx` of record and query are left to whoever numbers the whole split.
    """
    story = rng.choice(STORIES)
    people = rng.sample([person.name for person in world.people], 3)
    towns = rng.sample([town.name for town in world.towns], 2)
    parts = dict(zip("abctu", people + towns, strict=True))
    thing = rng.choice(things)
    text = "\n@highlight\n".join(each.format(**parts, x=thing) for each in (story.body, *story.highlights))
    query = rng.choice(story.queries)
    mentions = [
        {"start": found.start(), "end": found.end() - 1}
        for found in re.finditer(rf"\b(?:{'|'.join(parts.values())})\b", text)
    ]
    answer = parts[query.answer]
    answers = [
        mention | {"text": answer} for mention in mentions if text[mention["start"] : mention["end"] + 1] == answer
    ]
    return {
        "source": "Tiny world",
        "passage": {"text": text, "entities": mentions},
        "qas": [{"query": query.text.format(**parts, x=thing), "answers": answers}],
    }
