"""What answering requests will take, before anything is computed."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from icl_eval.models import common_prefix

FLOAT = 4  # bytes of a logit


@dataclass(frozen=True, slots=True)
class Workload:
    """Counts of requests, tokens and batches, and the memory of the largest batch.

    Attributes:
        requests: all of them.
        known: those whose answer stands in the journal.
        repeated: those that ask what another one asks.
        asked: tokens that a model reads which answers the rest one by one, the repeated ones too.
        computed: tokens that it reads by the plan: batches with their padding, and what each stem adds to the last.
        written: tokens that it writes at most, for all samples together, each beam counted once.
        batches: calls of the model to score, stems not counted.
        longest: tokens of the largest batch.
        targets: scored places of the batch that has most.
        stem: tokens of the longest stem.
        context: tokens of the longest request to answer, those that it may write included.
        scored: places whose next token is asked for.
        attended: pairs of a token that the model reads and one that it attends to, itself included, padding aside.
    """

    requests: int = 0
    known: int = 0
    repeated: int = 0
    asked: int = 0
    computed: int = 0
    written: int = 0
    batches: int = 0
    longest: int = 0
    targets: int = 0
    stem: int = 0
    context: int = 0
    scored: int = 0
    attended: int = 0

    def __add__(self, other: Workload) -> Workload:
        largest = ("longest", "targets", "stem", "context")
        pairs = {each.name: (getattr(self, each.name), getattr(other, each.name)) for each in fields(self)}
        return Workload(**{name: max(pair) if name in largest else sum(pair) for name, pair in pairs.items()})

    @property
    def sharing(self) -> float:
        """Tokens asked for every token computed."""
        return self.asked / self.computed if self.computed else 1.0

    def memory(self, token_bytes: int, state_bytes: int, vocabulary: int) -> dict[str, int]:
        """Bytes that the largest batch is expected to take, besides the weights."""
        return {
            "activations": self.longest * token_bytes,
            "logits": self.targets * vocabulary * FLOAT,
            "kept states": self.stem * state_bytes,
        }


def trie_parts(sequences: Sequence[array[int]]) -> list[tuple[int, int]]:
    """The places of each sequence, in sorted order, that it does not share with the one before: first, and last + 1."""
    ordered = sorted(sequences)
    return [(len(tokens) - new, len(tokens)) for tokens, new in zip(ordered, new_tokens(ordered), strict=True)]


def attended_pairs(first: int, last: int) -> int:
    """Pairs of a token and one it attends to, itself included, of the tokens `first:last` of a sequence."""
    return (last * (last + 1) - first * (first + 1)) // 2


def new_tokens(sequences: Sequence[array[int]]) -> list[int]:
    """Tokens of each of sorted sequences that it does not share with the one before."""
    new, last = [], np.empty(0, np.int32)
    for tokens in sequences:
        current = np.frombuffer(tokens, dtype=np.int32)
        new.append(len(current) - common_prefix(last, current))
        last = current
    return new
