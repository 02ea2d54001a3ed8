"""A journal that ranks share, and a row model whose answers show how its kept states came about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from icl_eval.engine import Journal, Ranks, SharedJournal, journal_path
from icl_eval.models import Row, RowAnswer, common_prefix

from .toys import ToyRows


@contextmanager
def shared(folder: Path, ranks: Ranks) -> Iterator[SharedJournal]:
    with Journal(journal_path(folder, ranks.rank)) as own, SharedJournal(own, folder, ranks) as journal:
        yield journal


class Rounding(ToyRows):
    """A toy whose log-probabilities depend, by less than 1e-6, on which computations its kept states came from.

    Attributes:
        computed_prefixes: tokens of prefixes that were computed, as often as they were.
    """

    def __init__(self, *, skips: bool = True, row_budget: int = 256) -> None:
        super().__init__(skips=skips, row_budget=row_budget)
        self.computed_prefixes = 0
        self.forget()

    def forget(self) -> None:
        self._kept: list[tuple[int, bytes]] = []  # of every kept token, and of the computation that gave it

    def forward(self, rows: Sequence[Row]) -> list[RowAnswer]:
        answers = super().forward(rows)
        return [self._rounded(row, answer) for row, answer in zip(rows, answers, strict=True)]

    def _rounded(self, row: Row, answer: RowAnswer) -> RowAnswer:
        history = b"".join(each for _, each in self._keep(row.tokens[: row.stem]))
        noise = int.from_bytes(blake2b(history + row.tokens.tobytes(), digest_size=2).digest()) / 2**16
        return RowAnswer(answer.logprobs - np.float32(1e-6) * np.float32(noise), answer.greedy)

    def _keep(self, stem: NDArray[np.int32]) -> list[tuple[int, bytes]]:
        shared = common_prefix(np.array([token for token, _ in self._kept], np.int32), stem)
        if shared < len(stem):
            self.computed_prefixes += len(stem) - shared
            before = b"".join(each for _, each in self._kept[:shared])
            name = blake2b(before + stem[shared:].tobytes(), digest_size=8).digest()
            self._kept = self._kept[:shared] + [(int(token), name) for token in stem[shared:]]
        return self._kept[: len(stem)]
