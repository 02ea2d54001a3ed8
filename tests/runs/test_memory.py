from __future__ import annotations

import tracemalloc

import pytest

from icl_eval import Task, evaluate
from icl_eval.runs import collect
from icl_eval.runs.evaluate import planned
from icl_eval.runs.requests import RequestBuilder
from icl_eval.testing import FakeLM

PROMPT = "{{ filler }}Q: {{ n }}\nA:"
LENGTH = 4000  # bytes, and so tokens, of a prompt


def long_task(examples: int) -> Task:
    records = [{"n": n, "label": n % 2} for n in range(examples)]
    prompt = PROMPT.replace("{{ filler }}", "x" * LENGTH)
    return Task.from_records("long", evaluation=records, prompt=prompt, options=["even", "odd"], id="n")


def peak(examples: int) -> int:
    """The most memory that a run takes at once."""
    task = long_task(examples)
    tracemalloc.start()
    try:
        evaluate(FakeLM(), task, shots=0)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_run_holds_neither_all_prompts_nor_all_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "WINDOW_TOKENS", 2**14)
    peak(60)  # Python keeps what it frees of some types for the next of them, which is not of a run

    few, many = peak(20), peak(60)

    assert many - few < 40 * LENGTH  # the tokens of 40 examples alone would take 40 x 2 options x 4 bytes x LENGTH


def test_a_query_holds_its_tokens_once_in_each_of_its_requests() -> None:
    run = planned(FakeLM(), long_task(9), None, shots=0)
    builder = RequestBuilder(run.prepared[0], FakeLM(), run.config.overflow)
    first = next(queries := builder.queries())
    tracemalloc.start()
    try:
        others = list(queries)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    tokens = sum(4 * len(request.tokens) for query in others for request in query.conditional)
    assert first.input_length > LENGTH
    assert tokens < held < 1.3 * tokens  # and the text, in a byte each


def test_queries_are_taken_up_to_a_million_tokens_at_a_time() -> None:
    records = [{"n": n, "label": 0} for n in range(5)]
    task = Task.from_records("long", evaluation=records, prompt="x" * 2**18 + "{{ n }}", options=["a", "b"], id="n")
    run = planned(FakeLM(), task, None, shots=0)

    windows = list(collect.Queries(run.prepared, FakeLM(), run.config.overflow).windows())

    assert [[query.example.id for query in window] for window in windows] == [["0", "1", "2"], ["3", "4"]]


def window_tries(shots: list[int], draw: str) -> int:
    """Tokens of the tries of all windows of a grid with two seeds, counted prefix by prefix."""
    queries, demonstrations = (
        [{"n": f"{n} of {name}", "label": n % 2} for n in range(count)] for name, count in (("a", 6), ("b", 70))
    )
    task = Task.from_records(
        "toy", evaluation=queries, demonstrations=demonstrations, prompt="{{ n }}", options=["x", "y"], draw=draw
    )
    run = planned(FakeLM(), task, None, shots=shots, seeds=2)
    total = 0
    for window in collect.Queries(run.prepared, FakeLM(), run.config.overflow, window_tokens=2000).windows():
        whole = {(query.example.id, query.cell.seed) for query in window}
        assert len(window) == len(whole) * len(shots)  # no example is divided
        prompts = [tuple(request.tokens[:-1]) for query in window for request in query.conditional]
        total += len({prompt[:end] for prompt in prompts for end in range(1, len(prompt) + 1)})
    return total


@pytest.mark.parametrize("draw", ["per_example", "fixed"])
def test_a_curve_takes_at_most_a_third_more_than_its_largest_point(draw: str) -> None:
    assert window_tries([1, 2, 4, 8, 16, 32, 64], draw) < 1.3 * window_tries([64], draw)
