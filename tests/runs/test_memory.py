from __future__ import annotations

import tracemalloc

import pytest

from icl_eval import Task, evaluate
from icl_eval.runs import collect
from icl_eval.runs.evaluate import planned
from icl_eval.testing import FakeLM

PROMPT = "{{ filler }}Q: {{ n }}\nA:"
LENGTH = 2000  # bytes, and so tokens, of a prompt


def peak(examples: int) -> int:
    """The most memory that a run takes at once."""
    records = [{"n": n, "label": n % 2} for n in range(examples)]
    task = Task.from_records(
        "long", evaluation=records, prompt=PROMPT.replace("{{ filler }}", "x" * LENGTH), options=["even", "odd"], id="n"
    )
    tracemalloc.start()
    try:
        evaluate(FakeLM(), task, shots=0)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_run_holds_neither_all_prompts_nor_all_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "WINDOW_TOKENS", 2**16)
    peak(50)

    more = peak(600) - peak(200)

    assert more < 400 * LENGTH  # the tokens of 400 examples alone would take 400 x 2 options x 4 bytes x LENGTH


def test_queries_are_taken_up_to_a_million_tokens_at_a_time() -> None:
    records = [{"n": n, "label": 0} for n in range(5)]
    task = Task.from_records("long", evaluation=records, prompt="x" * 2**17 + "{{ n }}", options=["a", "b"], id="n")
    run = planned(FakeLM(), task, None, shots=0)

    windows = list(collect.Queries(run.prepared, FakeLM(), run.config.overflow).windows())

    assert [[query.example.id for query in window] for window in windows] == [["0", "1", "2"], ["3", "4"]]
