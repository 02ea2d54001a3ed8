"""Training documents: few-shot prompts of the small world, each in a separate world, and symbol episodes.

A document is a list of turns. Bundled validation records never become part of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import islice
from random import Random
from typing import Any

from tools.tiny.formats import TASKS, Turn, prompt_of, solved
from tools.tiny.records import DIAGNOSTICS
from tools.tiny.sample import draw_law, draw_records, draw_sample, identity, number
from tools.tiny.symbols import draw_mapping
from tools.tiny.world import WORDS

Document = list[Turn]

LENGTHS = dict.fromkeys(TASKS, 25) | {"COPA": 11, "MultiRC": 34, "ReCoRD": 29, "WSC": 39, "WiC": 38}
"""About how many tokens a solved record has."""


class Episodes:
    """Endless training documents; those of the tasks draw on `pool` solved records of each word and meaning."""

    def __init__(self, seed: int, pool: int) -> None:
        self._seed, self._pool = seed, pool
        self._held_out = validation_identities()
        self._solved: dict[tuple[str, str, Any], list[Turn]] = {}

    def turns(self, task: str, word: str, meaning: Any) -> list[Turn]:
        """The solved records of the pool in which `word` has this meaning."""
        if (task, word, meaning) not in self._solved:
            rng = Random(f"{self._seed}/pool/{task}/{word}/{meaning}")
            records = list(islice(draw_records(task, {word: meaning}, rng, self._held_out), self._pool))
            if not self._held_out.isdisjoint(map(identity, records)):
                raise ValueError("a bundled validation record is in the training pool")
            number(task, records)
            self._solved[task, word, meaning] = list(solved(task, records))
        return self._solved[task, word, meaning]

    def prompts(self, rng: Random, length: int, most_words: int) -> Iterator[Document]:
        """Few-shot prompts of about `length` tokens, each of one task and in a separate world.

        Only the answer about a word that stood there before is an answer: nothing tells the first one.
        """
        while True:
            task = rng.choice(list(TASKS))
            taught = "RTE" if task in DIAGNOSTICS else task
            law = draw_law(rng, taught, rng.randint(3, most_words))
            turns, seen = [], set[str]()
            for word in rng.choices(list(law), k=max(1, length // LENGTHS[task])):
                turn = rng.choice(self.turns(rng.choice((task, taught)), word, law[word]))
                turns.append(turn if word in seen else Turn(turn.given + turn.answer, ""))
                seen.add(word)
            yield few_shot(task, turns)

    def texts(self, rng: Random, count: int) -> Iterator[str]:
        """Texts to train a tokenizer on."""
        sources = (self.prompts(rng, 200, 6), symbol_episodes(rng, 25, 0.5, 6))
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
            pairs = [(symbol, rng.choice(WORDS)) for symbol, _ in mapping.pairs]
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


@cache
def validation_identities() -> frozenset[str]:
    """Identities of all bundled validation and diagnostic records."""
    files = draw_sample()
    kept = [records for name, records in files.items() if not name.endswith("train.jsonl")]
    return frozenset(identity(record) for records in kept for record in records)
