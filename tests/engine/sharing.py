"""A journal that ranks share, and a row model whose answers show how its prefix cache came about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from toy_rows import ToyRows

from icl_eval.engine import Journal, Ranks, SharedJournal, journal_path
from icl_eval.models import common_prefix
from icl_eval.models.causal.rows import Row, RowAnswer, RowSizes


@contextmanager
def shared(folder: Path, ranks: Ranks, **options: float) -> Iterator[SharedJournal]:
    with (
        Journal(journal_path(folder, ranks.rank)) as rank_journal,
        SharedJournal(rank_journal, folder, ranks, **options) as journal,
    ):
        yield journal


class Rounding(ToyRows):
    """A toy whose log-probabilities depend, by less than 1e-6, on their batch and on where its cached states came from.

    Its rows are small, and so are the prefixes that it caches.

    Attributes:
        computed_prefixes: tokens of prefixes that were computed, as often as they were.
    """

    def __init__(self, *, tree_attention: bool = True, row_budget: int = 256) -> None:
        sizes = RowSizes(min_prefix=3, small_row=16)
        super().__init__(tree_attention=tree_attention, row_budget=row_budget, row_sizes=sizes)
        self.computed_prefixes = 0
        self.clear_cache()

    def clear_cache(self) -> None:
        self._cached: list[tuple[int, bytes]] = []  # of every kept token, and of the computation that gave it

    def forward(self, rows: Sequence[Row]) -> list[RowAnswer]:
        answers = super().forward(rows)
        batch = b"".join(row.tokens.tobytes() for row in rows)
        return [self._rounded(row, answer, batch) for row, answer in zip(rows, answers, strict=True)]

    def _rounded(self, row: Row, answer: RowAnswer, batch: bytes) -> RowAnswer:
        history = b"".join(each for _, each in self._cache(row.tokens[: row.prefix_length]))
        noise = int.from_bytes(blake2b(history + row.tokens.tobytes() + batch, digest_size=2).digest()) / 2**16
        return RowAnswer(answer.logprobs - np.float32(1e-6) * np.float32(noise), answer.greedy)

    def _cache(self, prefix: NDArray[np.int32]) -> list[tuple[int, bytes]]:
        shared = common_prefix(np.array([token for token, _ in self._cached], np.int32), prefix)
        if shared < len(prefix):
            self.computed_prefixes += len(prefix) - shared
            before = b"".join(each for _, each in self._cached[:shared])
            name = blake2b(before + prefix[shared:].tobytes(), digest_size=8).digest()
            self._cached = self._cached[:shared] + [(int(token), name) for token in prefix[shared:]]
        return self._cached[: len(prefix)]
