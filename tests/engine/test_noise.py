from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from icl_eval.engine import measure_noise
from icl_eval.models import ScoreAnswer, ScoreRequest, Sink
from icl_eval.testing import FakeLM


class Batching(FakeLM):
    """A black box whose log-probabilities are lower by `moved` nats for each time that its batch doubles."""

    noise = None
    measures_noise = True

    def __init__(self, moved: float, window: int = 2**20) -> None:
        super().__init__(window=window)
        self.moved = moved

    def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
        self.answered += len(requests)
        lower = self.moved * math.log2(len(requests))
        for index, request in enumerate(requests):
            sink(index, ScoreAnswer(tuple(-1 - lower for _ in request.tokens[request.boundary :]), False))


class Elsewhere(Batching):
    measures_noise = False


@pytest.mark.parametrize(("moved", "noise"), [(0.0, 0.0), (1e-3, 0.002), (2e-6, 4e-6), (0.06, 0.1)])
def test_noise_is_what_batching_moves_a_token_by_rounded_up_to_one_digit(moved: float, noise: float) -> None:
    assert measure_noise(Batching(moved)) == pytest.approx(noise, rel=1e-12)  # 1.58 times `moved`, in a batch of three


def test_half_of_each_request_is_scored() -> None:
    lengths = set[tuple[int, int]]()

    class Lengths(Batching):
        def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
            lengths.update((each.boundary, len(each.tokens)) for each in requests)
            super().score(requests, sink)

    measure_noise(Lengths(1e-3))

    assert lengths == {(24, 48)}


def test_a_model_may_say_its_noise_itself() -> None:
    model = FakeLM()

    assert (measure_noise(model), model.answered) == (0.0, 0)


def test_of_a_model_that_is_computed_elsewhere_it_is_not_known() -> None:
    model = Elsewhere(1e-3)

    assert (measure_noise(model), model.answered) == (None, 0)


def test_of_a_model_that_gives_no_log_probabilities_it_is_not_known() -> None:
    assert measure_noise(Batching(math.nan)) is None


@pytest.mark.parametrize("window", [1, 4, 7, 30])
def test_requests_fit_any_window(window: int) -> None:
    assert measure_noise(Batching(1e-3, window)) == (0.002 if window >= 4 else None)
