"""Several threads load and run models at the same time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from icl_eval import evaluate
from icl_eval.models import load_model

THREADS = 3


def test_threads_load_whole_models() -> None:
    barrier = Barrier(THREADS)

    def load(_: int) -> str:
        barrier.wait()
        return [load_model("tiny").fingerprint for _ in range(3)][-1]

    with ThreadPoolExecutor(THREADS) as threads:
        assert len({*threads.map(load, range(THREADS))}) == 1


@pytest.mark.parametrize("model_of", [lambda: "tiny", lambda: load_model("tiny")], ids=["by name", "one object"])
def test_threads_get_the_scores_of_a_single_thread(model_of: Callable[[], Any]) -> None:
    model, barrier = model_of(), Barrier(THREADS)

    def scores(_: int) -> list[float]:
        barrier.wait()
        found = evaluate(model, "superglue/rte", data="sample", shots=(0, 1, 2), limit=10)
        return [each.value for each in found.scores]

    with ThreadPoolExecutor(THREADS) as threads:
        together = list(threads.map(scores, range(THREADS)))
    barrier = Barrier(1)
    assert together == [scores(0)] * THREADS
