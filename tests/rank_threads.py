"""The processes of a run as threads that meet in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from icl_eval.engine import Ranks

Made = TypeVar("Made")


def crew(size: int) -> list[Ranks]:
    """Ranks that exchange their words through a list."""
    words: list[object] = [None] * size
    barrier = threading.Barrier(size, timeout=60)

    def exchange(rank: int, word: object) -> list[object]:
        words[rank] = word
        barrier.wait()
        found = list(words)
        barrier.wait()
        return found

    return [Ranks(rank, size, lambda word, rank=rank: exchange(rank, word)) for rank in range(size)]  # type: ignore[misc]


def together(size: int, work: Callable[[Ranks], Made]) -> list[Made]:
    """What each of so many ranks makes, or the error of the first that fails."""
    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(work, ranks) for ranks in crew(size)]
    return [future.result() for future in futures]


def errors_of(size: int, work: Callable[[Ranks], object]) -> list[Exception]:
    """What each of so many ranks raises."""

    def failing(ranks: Ranks) -> Exception:
        try:
            work(ranks)
        except Exception as error:
            return error
        raise AssertionError("nothing was raised")

    return together(size, failing)
