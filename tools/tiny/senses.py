"""One word, two sentences, the same meaning or not: the generator for WiC."""

from __future__ import annotations

from random import Random

from tools.tiny.lexicon import AMBIGUOUS
from tools.tiny.world import Record, World, pair_of


def wic_pair(rng: Random, world: World, label: bool) -> Record:
    """WiC: two sentences, character offsets of the word (`end` exclusive), and whether both use it in one sense."""
    entry = rng.choice(AMBIGUOUS)
    senses = rng.sample([entry.first, entry.second], 2)
    first, second = rng.sample(senses[0], 2)
    if not label:
        second = rng.choice(senses[1])
    people = pair_of(rng, world)
    record: Record = {"word": entry.word}
    marked = [
        text.format(a=who.name, t=rng.choice(world.towns).name)
        for text, who in zip((first, second), people, strict=True)
    ]
    for number, text in enumerate(marked, 1):
        record[f"sentence{number}"] = text.replace("[", "").replace("]", "")
    record["label"] = label
    for number, text in enumerate(marked, 1):
        record[f"start{number}"] = text.index("[")
        record[f"end{number}"] = text.index("]") - 1
    return record | {"version": 1.1}
