"""Group rows into batches by token budget, longest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from icl_eval.engine.packing import PackedRow
from icl_eval.engine.prefixes import attended_pairs
from icl_eval.models import common_prefix
from icl_eval.models.networks.ancestry import depths


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are computed together."""

    rows: tuple[PackedRow, ...]
    new_prefix: int = 0  # tokens of their cached prefix that the batch before has not cached

    @property
    def tokens(self) -> int:
        """Tokens of the rows, including padding, without their cached prefix."""
        return len(self.rows) * max(len(packed.row.tokens) - packed.row.prefix_length for packed in self.rows)

    @property
    def computed(self) -> int:
        """Tokens that the model computes."""
        return self.tokens + self.new_prefix

    @property
    def targets(self) -> int:
        """Tokens to score."""
        return sum(len(packed.row.targets) for packed in self.rows)

    @property
    def attended(self) -> int:
        """Pairs of a computed token and one that it attends to, itself included."""
        rows = [packed.row for packed in self.rows]
        pairs = sum(int((depths(row.parents)[row.prefix_length :] + 1).sum()) for row in rows)
        return pairs + attended_pairs(rows[0].prefix_length - self.new_prefix, rows[0].prefix_length)


def plan(rows: Sequence[PackedRow], *, budget: int, targets: int, one_by_one: bool = False) -> list[Batch]:
    """Batches of at most `budget` tokens, including padding, and `targets` scored tokens, unless a row alone has more.

    Plain and branching rows go into separate batches, since one branching row would put a mask on all. Rows with a
    cached prefix come one by one, in the order of the trie, in which a prefix differs least from the one before; with
    `one_by_one`, all rows do.
    """
    if one_by_one:
        return _one_by_one(rows)
    after_prefixes = _one_by_one([packed for packed in rows if packed.row.prefix_length])
    others = [packed for packed in rows if not packed.row.prefix_length]
    ordered = sorted(others, key=lambda packed: (packed.row.is_linear, -len(packed.row.tokens)))
    batches: list[Batch] = []
    for _, alike in groupby(ordered, key=lambda packed: packed.row.is_linear):
        batches += _fill(list(alike), budget, targets)
    return batches + after_prefixes


def _one_by_one(rows: Sequence[PackedRow]) -> list[Batch]:
    batches: list[Batch] = []
    cached = np.empty(0, np.int32)
    for packed in rows:
        prefix = packed.row.tokens[: packed.row.prefix_length]
        batches.append(Batch((packed,), len(prefix) - common_prefix(cached, prefix)))
        cached = prefix if len(prefix) else cached
    return batches


def _fill(rows: list[PackedRow], budget: int, most_targets: int) -> list[Batch]:
    batches: list[Batch] = []
    current: list[PackedRow] = []
    targets = 0
    for packed in rows:  # longest first, so the first row of a batch sets its length
        longest = len(current[0].row.tokens) if current else len(packed.row.tokens)
        targets += len(packed.row.targets)
        if current and ((len(current) + 1) * longest > budget or targets > most_targets):
            batches.append(Batch(tuple(current)))
            current, targets = [], len(packed.row.targets)
        current.append(packed)
    return [*batches, Batch(tuple(current))] if current else batches
