import numpy as np

from icl_eval.metrics import METRICS, CorpusMetric, Statistics


def test_rows_of_a_cluster_are_summed_in_the_order_of_its_name() -> None:
    rows = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    statistics = Statistics(units=("p", "q", "r"), clusters=("late", "early", "late"), rows=rows)

    assert statistics.cluster_names == ("early", "late")
    assert statistics.cluster_sums.tolist() == [[0.0, 1.0], [2.0, 2.0]]


def test_no_built_in_metric_needs_whole_prediction_lists() -> None:
    assert not [name for name, metric in METRICS.items() if isinstance(metric, CorpusMetric)]
