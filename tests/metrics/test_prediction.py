import math

import pytest

from icl_eval.errors import MetricError
from icl_eval.metrics import LikelihoodPrediction, Prediction, TextPrediction


def test_prediction_without_right_option_is_refused() -> None:
    with pytest.raises(MetricError, match="'a' has no right option"):
        Prediction("a", ("x", "y"), (), 0, "a", "a")


@pytest.mark.parametrize(("gold", "chosen"), [((2,), 0), ((0,), 2), ((0, -1), 0), ((0,), -1)])
def test_index_that_names_no_option_is_refused(gold: tuple[int, ...], chosen: int) -> None:
    with pytest.raises(MetricError, match="'a' has 2 options, but none with index"):
        Prediction("a", ("x", "y"), gold, chosen, "a", "a")


def test_text_without_reference_is_refused() -> None:
    with pytest.raises(MetricError, match="'a' has no reference"):
        TextPrediction("a", "Rome", (), "a", "a")


@pytest.mark.parametrize("logprob", [0.5, -math.inf, math.nan])
def test_what_is_no_log_probability_is_refused(logprob: float) -> None:
    with pytest.raises(MetricError, match="'a' has the log-probability"):
        LikelihoodPrediction("a", logprob, True, 1, 1, 1, "a", "a")


@pytest.mark.parametrize(("counts", "name"), [((0, 1, 1), "tokens"), ((1, 0, 1), "words"), ((1, 1, 0), "bytes")])
def test_likelihood_of_nothing_is_refused(counts: tuple[int, int, int], name: str) -> None:
    with pytest.raises(MetricError, match=f"'a' has 0 {name}"):
        LikelihoodPrediction("a", -1.0, True, *counts, "a", "a")
