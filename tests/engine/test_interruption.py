"""A run that is continued answers, bit for bit, what an uninterrupted one answers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_threads import together
from toy_rows import Crowd

from icl_eval.engine import Engine, Journal, Ranks
from icl_eval.errors import ModelError
from icl_eval.models import Decoding, GenerateRequest, LanguageModel, OutOfMemory, Request, ScoreRequest, Sink
from icl_eval.models.protocol import MIN_CHUNK_TOKENS, Plan
from icl_eval.testing import FakeLM

from .sharing import Rounding, shared

SCORED = [
    ScoreRequest.of([*prefix, *middle, end], [0])
    for prefix in ([1] * 9, [1] * 5 + [2] * 4, [3] * 8)
    for middle in product(range(5), repeat=2)
    for end in range(2)
]
WINDOWS: list[Sequence[Request]] = [SCORED[:90], [*SCORED[20:50], *SCORED[90:]]]  # the second repeats some of the first


def texts(tokens: int) -> list[Sequence[Request]]:
    """Requests to generate so many tokens each, and some to score."""
    return [
        [*(GenerateRequest.of([65 + n % 3, n], Decoding(tokens)) for n in range(12)), *SCORED[:6]],
        [GenerateRequest.of([70, n], Decoding(tokens)) for n in range(9)],
    ]


TEXTS = texts(MIN_CHUNK_TOKENS // 6)  # a few fill a chunk


def journal_of(
    path: Path, model: LanguageModel, windows: Sequence[Sequence[Request]], left: bytes = b""
) -> list[bytes]:
    """The lines of a journal, in any order, after a run that found some of them."""
    path.write_bytes(left)
    with Journal(path) as journal:
        before, engine = len(journal), Engine(model, journal)
        for window in windows:
            engine.answer(window)
    lines = path.read_bytes().splitlines(keepends=True)
    assert engine.computed == len(lines) - before
    return sorted(lines)


KINDS: dict[str, tuple[Callable[[], LanguageModel], list[Sequence[Request]]]] = {
    "rows": (lambda: Rounding(tree_attention=False, row_budget=16), WINDOWS),
    "trees": (lambda: Rounding(tree_attention=True, row_budget=16), WINDOWS),
    "chunks": (Crowd, TEXTS),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.01, 0.3, 0.5, 0.77, 0.99])
def test_a_run_that_was_killed_ends_in_the_answers_of_one_that_was_not(kind: str, part: float, tmp_path: Path) -> None:
    model, windows = KINDS[kind]
    whole = journal_of(tmp_path / "whole", model(), windows)
    left = (tmp_path / "whole").read_bytes()

    assert journal_of(tmp_path / "cut", model(), windows, left[: round(part * len(left))]) == whole


@settings(max_examples=10, deadline=None)
@given(kept=st.sets(st.integers(0, len(SCORED) - 1)), size=st.integers(1, 3))
def test_it_does_not_matter_which_answers_are_left_nor_how_many_processes_continue(kept: set[int], size: int) -> None:
    def work(ranks: Ranks) -> None:
        with shared(folder, ranks) as journal:
            for window in WINDOWS:
                Engine(Rounding(row_budget=16), journal).answer(window)
            journal.merge()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "answers.jsonl"
        lines = journal_of(path, Rounding(row_budget=16), WINDOWS)
        path.write_bytes(b"".join(line for index, line in enumerate(lines) if index in kept))
        together(size, work)

        assert sorted(path.read_bytes().splitlines(keepends=True)) == lines


def test_only_what_is_missing_is_computed_when_other_requests_are_added(tmp_path: Path) -> None:
    """A folder may get more shots, and what another grid has answered is not computed again."""
    path, more = tmp_path / "answers", [*SCORED[:40], *SCORED[100:120]]
    journal_of(path, Rounding(), [SCORED[:40]])
    with Journal(path) as journal:
        engine, alone = Engine(Rounding(), journal), Engine(Rounding())
        engine.answer(more)
    alone.answer(SCORED[100:120])

    assert engine.tokens == alone.tokens


def test_a_model_whose_answers_stand_alone_computes_only_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "answers"
    lines = journal_of(path, FakeLM(), texts(5))
    model = FakeLM()

    assert journal_of(path, model, texts(5), b"".join(lines[:10])) == lines
    assert model.answered == len(lines) - 10


def test_a_known_request_that_no_longer_fits_the_memory_is_an_error(tmp_path: Path) -> None:
    """It is computed again with the missing ones, which may be answered by then."""

    class Smaller(Crowd):
        def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
            sink(0, self._answer(requests[0]))
            raise OutOfMemory("full")

    requests = [ScoreRequest.of([1], [2]), ScoreRequest.of([3] * 9, [4])]
    journal_of(tmp_path / "whole", Crowd(), [requests])
    known = (tmp_path / "whole").read_bytes().splitlines(keepends=True)[1]

    with pytest.raises(ModelError, match=r"^one request of up to 10 tokens does not fit the device's memory: full$"):
        journal_of(tmp_path / "cut", Smaller(), [requests], known)


def test_a_plan_that_does_not_name_requests_is_computed_again(tmp_path: Path) -> None:
    class Silent(Crowd):
        def plan(self, requests: Sequence[Request]) -> Plan:
            found = super().plan(requests)
            return replace(found, items=[replace(item, requests=()) for item in found.items])

    whole = journal_of(tmp_path / "whole", Silent(), TEXTS)

    assert journal_of(tmp_path / "cut", Silent(), TEXTS, b"".join(whole[:10])) == whole
