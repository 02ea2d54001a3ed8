import pytest

from icl_eval.errors import MetricError
from icl_eval.metrics import Prediction


def test_prediction_without_right_option_is_refused() -> None:
    with pytest.raises(MetricError, match="'a' has no right option"):
        Prediction("a", ("x", "y"), (), 0, "a", "a")


@pytest.mark.parametrize(("gold", "chosen"), [((2,), 0), ((0,), 2), ((0, -1), 0), ((0,), -1)])
def test_index_that_names_no_option_is_refused(gold: tuple[int, ...], chosen: int) -> None:
    with pytest.raises(MetricError, match="'a' has 2 options and none of index"):
        Prediction("a", ("x", "y"), gold, chosen, "a", "a")
