"""Scores with decisions that depend on the batch have a note."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from toy_tasks import knowing, parity, write, write_library

from icl_eval import Library, evaluate, rescore
from icl_eval.models import ScoreAnswer, ScoreRequest, Sink
from icl_eval.testing import FakeLM

ODD = [1, 3, 5, 7, 9, 11, 13, 15]


class Batching(FakeLM):
    """Prefers `odd` to `even` by a hair, and by less in larger batches."""

    noise = None
    measures_noise = True

    def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
        lower = 1e-3 * math.log2(len(requests))
        for index, request in enumerate(requests):
            continuation = request.tokens[request.boundary :]
            logprob = -1.0046 if bytes(continuation.tolist()).startswith(b" e") else -1.0 - lower
            sink(index, ScoreAnswer((logprob,) * len(continuation), False))


class Elsewhere(FakeLM):
    noise = None


def test_a_score_that_differs_in_a_curve_and_alone_says_that_it_could(tmp_path: Path) -> None:
    (alone,) = evaluate(Batching(), parity(ODD), shots=0)
    curve = evaluate(Batching(), parity(ODD), shots=[0, 1], out=tmp_path)
    inside = curve.scores[0]

    assert alone.signature == inside.signature
    assert (alone.value, inside.value) == (1.0, 0.0)
    assert [(each.close_calls, each.noise_low, each.noise_high) for each in (alone, inside)] == [(8, 0.0, 1.0)] * 2
    assert (
        "parity accuracy (0 shots): 8 of 8 decisions are within the arithmetic noise of exact (0.002 nats a token): "
        "the score could be 0.000 to 1.000\n"
    ) in str(curve)


def test_rescoring_counts_the_same_close_calls_without_the_model(tmp_path: Path) -> None:
    run = evaluate(Batching(), parity(ODD), shots=[0, 1], seeds=2, out=tmp_path)
    stored = json.loads((tmp_path / "scores.json").read_text("utf-8"))["scores"]

    assert rescore(tmp_path).scores == run.scores
    assert [each["close_calls"] for each in stored] == [8, 16]
    assert str(rescore(tmp_path)) == str(run)


def test_where_the_noise_is_not_known_the_table_says_so(tmp_path: Path) -> None:
    result = evaluate(Elsewhere(), parity(), shots=0, out=tmp_path)

    assert (result.scores[0].close_calls, result.manifest.noise) == (None, None)
    assert "close calls are not counted, because the arithmetic noise of this model is not known\n" in str(result)


def test_a_model_without_noise_has_no_close_calls() -> None:
    result = evaluate(knowing(0, 1, 2), parity(), shots=0)
    (score,) = result

    assert (score.close_calls, score.noise_low, score.noise_high) == (0, score.value, score.value)
    assert "noise" not in str(result)


@pytest.mark.parametrize(("normalization", "close"), [("sum", 0), ("token", 8), ("unconditional", 8)])
def test_close_calls_are_counted_in_the_unit_of_the_normalisation(normalization: str, close: int) -> None:
    # `even` has a token more than `odd`: by their sums they are a nat apart
    (score,) = evaluate(Batching(), parity(ODD), shots=0, normalizations=normalization)

    assert score.close_calls == close


def test_an_average_says_how_far_close_calls_could_move_it(tmp_path: Path) -> None:
    root = write_library(tmp_path)
    write(root, "tasks/toy.yaml", "suite: toy\nabout: Two.\ntasks: [toy/parity, toy/pairs]\naverage: macro\n")
    result = evaluate(Batching(), "toy", shots=0, library=Library([root]), data=root / "data")

    assert (
        "toy average (0 shots): 16 decisions of its tasks are within the arithmetic noise of exact "
        "(0.002 nats a token): the score could be 0.000 to 1.000\n"
    ) in str(result)
