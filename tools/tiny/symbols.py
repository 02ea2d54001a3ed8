"""The `symbols` task: an arbitrary symbol-to-label mapping for every query, learned only from demonstrations.

A symbol says nothing about its label, so zero-shot accuracy is chance and every point above it was learned in context.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tools.tiny.world import WORDS, Record, alternated

LABELS = ("north", "south", "east", "west")
DEMONSTRATIONS = 40
"""Solved records of every mapping in the sample, enough for a draw of 32 without replacement."""


@dataclass(frozen=True)
class Mapping:
    """Which label each of a few symbols has, for one prompt only."""

    pairs: tuple[tuple[str, str], ...]


def draw_mapping(rng: Random, size: int) -> Mapping:
    """`size` symbols, each with a label drawn independently, so elimination does not help."""
    return Mapping(tuple((symbol, rng.choice(LABELS)) for symbol in rng.sample(WORDS, size)))


def symbol_records(rng: Random, queries: int, size: int = 5) -> tuple[list[Record], list[Record]]:
    """(train, validation): one mapping and `DEMONSTRATIONS` solved records for each of `queries` validation records."""
    train: list[Record] = []
    validation: list[Record] = []
    for number, label in enumerate(alternated(rng, LABELS, queries)):
        pairs = list(draw_mapping(rng, size).pairs)
        query = pairs[0][0]
        pairs[0] = (query, label)
        for symbol, answer in alternated(rng, pairs, DEMONSTRATIONS):
            train.append(_record(len(train), number, symbol, answer))
        validation.append(_record(number, number, query, label))
    return train, validation


def _record(idx: int, mapping: int, symbol: str, label: str) -> Record:
    return {"idx": idx, "mapping": mapping, "symbol": symbol, "label": label}
