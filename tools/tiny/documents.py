"""Training documents: few-shot prompts of the small world, symbol episodes, and plain facts.

A document is a list of turns. Bundled validation records never become part of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import islice
from random import Random

from tools.tiny.formats import TASKS, Turn, prompt_of, solved
from tools.tiny.sample import DIAGNOSTICS, draw_records, draw_sample, identity, number
from tools.tiny.symbols import SYMBOLS, draw_mapping
from tools.tiny.world import draw_world, facts, sentence

Document = list[Turn]

LENGTHS = dict.fromkeys(TASKS, 32) | {"BoolQ": 45, "COPA": 15, "MultiRC": 75, "ReCoRD": 45, "WSC": 45, "WiC": 50}
"""About how many tokens a solved record has."""


class Episodes:
    """Endless training documents; those of the tasks draw on `pool` solved records of each, from other worlds."""

    def __init__(self, seed: int, pool: int) -> None:
        held_out = validation_identities()
        self.turns: dict[str, list[Turn]] = {}
        for task in TASKS:
            records = list(islice(draw_records(task, Random(f"{seed}/pool/{task}"), held_out), pool))
            if not held_out.isdisjoint(map(identity, records)):
                raise ValueError("a bundled validation record is in the training pool")
            number(task, records)
            self.turns[task] = list(solved(task, records))

    def prompts(self, rng: Random, length: int) -> Iterator[Document]:
        """Few-shot prompts of one task each, up to about `length` tokens, and now and then plain facts."""
        while True:
            if rng.random() < 0.05:
                yield portrait(rng)
                continue
            task = rng.choice(list(TASKS))
            turns = rng.sample(self.turns[task], rng.randint(1, max(1, length // LENGTHS[task])))
            if task in DIAGNOSTICS:  # the diagnostics are asked after demonstrations of RTE
                turns[: len(turns) // 2] = rng.sample(self.turns["RTE"], len(turns) // 2)
                rng.shuffle(turns)
            yield few_shot(task, turns)

    def texts(self, rng: Random, count: int) -> Iterator[str]:
        """Texts to train a tokenizer on."""
        sources = (self.prompts(rng, 200), symbol_episodes(rng, 25, 0.5, 6))
        for _ in range(count):
            yield text_of(next(rng.choice(sources)))


def few_shot(task: str, turns: list[Turn]) -> Document:
    """The turns as solved demonstrations of one prompt, after the instruction where the task has one."""
    prompt = prompt_of(task)
    instruction = prompt.instruction({})
    document = [Turn(instruction, "")] if instruction else []
    for turn in turns:
        document.append(Turn(prompt.separator + turn.given, turn.answer) if document else turn)
    return document


def text_of(document: Document) -> str:
    """The document as plain text."""
    return "".join(turn.given + turn.answer for turn in document)


def symbol_episodes(rng: Random, longest: int, plain_labels: float, most_symbols: int) -> Iterator[Document]:
    """Endless symbol episodes of 12 to `longest` turns, at most 64; a share `plain_labels` uses the label words.

    In the rest the labels are symbols themselves, written without a space so that they are the same tokens.
    """
    while True:
        mapping = draw_mapping(rng, rng.randint(3, most_symbols))
        if rng.random() < plain_labels:
            pairs = [(symbol, f" {label}") for symbol, label in mapping.pairs]
        else:
            pairs = [(symbol, rng.choice(SYMBOLS)) for symbol, _ in mapping.pairs]
        yield symbol_episode(rng, pairs, rng.randint(12, max(12, min(64, longest))))


def symbol_episode(rng: Random, pairs: list[tuple[str, str]], turns: int) -> Document:
    """Solved symbols under a mapping for this document alone.

    Only the label of a symbol that stood there before is an answer: the first one is a coin toss that teaches nothing.
    """
    document: Document = []
    seen: set[str] = set()
    for symbol, answer in rng.choices(pairs, k=turns):
        given = f"\n{symbol} ->" if document else f"{symbol} ->"
        document.append(Turn(given, answer) if symbol in seen else Turn(given + answer, ""))
        seen.add(symbol)
    return document


def portrait(rng: Random) -> Document:
    """Facts about one person in plain sentences."""
    person = rng.choice(draw_world(rng).people)
    clauses = list(facts(person).values())
    rng.shuffle(clauses)
    return [Turn(" ".join(map(sentence, clauses)), "")]


@cache
def validation_identities() -> frozenset[str]:
    """Identities of all bundled validation and diagnostic records."""
    files = draw_sample()
    kept = [records for name, records in files.items() if not name.endswith("train.jsonl")]
    return frozenset(identity(record) for records in kept for record in records)
