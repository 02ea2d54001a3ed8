"""Which noun does the pronoun stand for? The generator for WSC.

Both candidates have the same gender and number; only the reason after the conjunction decides. Each sentence comes in
two forms whose reasons point to different nouns.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tools.tiny.world import Record, World, pair_of


@dataclass(frozen=True)
class Schema:
    """A sentence with two nouns, a reason that speaks of the first and one that speaks of the second."""

    clause: str
    of_first: tuple[str, ...]
    of_second: tuple[str, ...]
    things: tuple[str, str] | None = None


SCHEMAS = (
    Schema("{a} thanked {b}", ("had been helped", "had got a present"), ("had given help", "had brought a present")),
    Schema("{a} carried {b} home", ("was strong", "had strong arms"), ("was hurt", "had a broken leg")),
    Schema("{a} won the race with {b}", ("was fast", "ran without a stop"), ("was slow", "fell on the way")),
    Schema("{a} paid {b}", ("had bought a horse", "needed a horse"), ("had sold a horse", "could sell a horse")),
    Schema("{a} asked {b} for food", ("was hungry", "had nothing to eat"), ("was a cook", "had baked a cake")),
    Schema("{a} said sorry to {b}", ("had told a lie", "had come late"), ("was angry", "had waited for hours")),
    Schema("{a} learned to sing from {b}", ("was a pupil", "wanted to learn"), ("was a teacher", "liked to teach")),
    Schema("{a} followed {b}", ("did not know the way", "was lost"), ("knew the way", "had a map")),
    Schema("{a} called doctor {b}", ("was ill", "had a fever"), ("had medicine", "could cure a fever")),
    Schema(
        "{a} broke {b}",
        ("was heavy", "was hard"),
        ("was thin", "was made of glass"),
        ("the stone", "the window"),
    ),
    Schema(
        "{a} does not go into {b}",
        ("is too big", "is too long"),
        ("is too small", "is full"),
        ("the hat", "the box"),
    ),
    Schema(
        "{a} could not pull {b}",
        ("was weak", "was a tired animal"),
        ("was loaded with iron", "had no wheels"),
        ("the horse", "the cart"),
    ),
)


def wsc_text(rng: Random, world: World, label: bool) -> Record:
    """WSC: does span 2, a pronoun, refer to span 1? Word indices count whitespace-separated words of the text."""
    schema = rng.choice(SCHEMAS)
    people = pair_of(rng, world, same_gender=True)
    first, second = schema.things or (people[0].name, people[1].name)
    pronoun = "it" if schema.things else people[0].subject
    points_to_first = rng.random() < 0.5
    reason = rng.choice(schema.of_first if points_to_first else schema.of_second)
    clause = schema.clause.format(a=first, b=second)
    text = f"{clause} because {pronoun} {reason}."
    text = text[0].upper() + text[1:]
    named_first = points_to_first == label
    noun = first if named_first else second
    start = clause.index(first) if named_first else clause.rindex(second)
    target = {
        "span1_index": len(clause[:start].split()),
        "span1_text": text[start : start + len(noun)],
        "span2_index": len(clause.split()) + 1,
        "span2_text": pronoun,
    }
    return {"text": text, "target": target, "label": label}
