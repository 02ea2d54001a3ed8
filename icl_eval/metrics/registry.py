"""The metrics that a task file can name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from icl_eval.errors import UnknownName
from icl_eval.metrics import answer_text, evaluate_library, means
from icl_eval.metrics.confusion import MacroF1, MatthewsCorrelation, PositiveF1
from icl_eval.metrics.means import ExampleMean, GroupMean
from icl_eval.metrics.statistics import CorpusMetric, Metric

_BUILT_IN: tuple[Metric, ...] = (
    ExampleMean("accuracy", means.is_right),
    MacroF1(),
    MatthewsCorrelation(),
    PositiveF1(),
    GroupMean("group_exact_match", means.all_right),
    GroupMean("gender_parity", means.all_alike),
    ExampleMean("record_em", answer_text.best_exact_match),
    ExampleMean("record_f1", answer_text.best_token_f1),
)

METRICS: Mapping[str, Metric] = MappingProxyType({each.name: each for each in _BUILT_IN})


def metric(name: str, *, trust_remote_code: bool = False) -> Metric | CorpusMetric:
    """The metric of this name; `evaluate:NAME` loads one from the `evaluate` library, which runs its code.

    Raises `UnknownName`, or `MetricError` where the code of an `evaluate` metric is not trusted or cannot be loaded.
    """
    if name.startswith(evaluate_library.PREFIX):
        return evaluate_library.load(name, trust_remote_code=trust_remote_code)
    if name not in METRICS:
        raise UnknownName("metric", name, METRICS)
    return METRICS[name]
