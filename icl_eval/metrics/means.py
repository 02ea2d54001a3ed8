"""Metrics that are means over examples or groups of examples, such as accuracy, exact match and gender parity."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from icl_eval.errors import MetricError
from icl_eval.metrics.prediction import AnyPrediction, Kind, P, Prediction
from icl_eval.metrics.statistics import Statistics


@dataclass(frozen=True)
class ExampleMean(Generic[P]):
    """The mean over examples of a score within `bounds`; a row is (score, 1)."""

    name: str
    of: Kind
    of_example: Callable[[P], float]
    bounds: tuple[float, float] = (0.0, 1.0)
    proportion: bool = True
    rule: str = ""
    """Word of the signature for the rule of the score, if it depends on settings."""
    refuse: Callable[[Sequence[P]], None] | None = None
    """Raises `MetricError` for examples that the metric cannot score."""
    form: Callable[[str], Hashable] = str.strip
    """The normal form of a text. In a vote, texts with the same form are the same answer."""
    of_samples: bool = False
    """Whether the metric scores all samples of an example together."""
    is_tied: Callable[[P], bool] | None = None
    """Whether an example has several best answers, of which the first is scored; None if this is impossible."""

    def check(self, predictions: Sequence[P]) -> None:
        """Raise `MetricError` if the metric cannot score answers to these examples."""
        if self.refuse is not None:
            self.refuse(predictions)

    def ties(self, predictions: Sequence[P]) -> int:
        """The number of tied examples."""
        return 0 if self.is_tied is None else sum(map(self.is_tied, predictions))

    def statistics(self, predictions: Sequence[P]) -> Statistics:
        """A row per example; raises `MetricError` like `check`."""
        self.check(predictions)
        return Statistics.of_examples(predictions, _rows([self.of_example(each) for each in predictions]))

    def signature(self, predictions: Sequence[P]) -> str:  # noqa: ARG002
        """The word for the rule."""
        return self.rule

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum of scores divided by the number of examples; shape (..., 2) -> (...)."""
        return _ratio(totals)


@dataclass(frozen=True)
class GroupMean(Generic[P]):
    """The mean over groups of a score between 0 and 1 of all examples of a group; a row is (score, 1)."""

    name: str
    of: Kind
    of_group: Callable[[Sequence[P]], float]
    bounds: tuple[float, float] = (0.0, 1.0)
    proportion: bool = True

    def statistics(self, predictions: Sequence[P]) -> Statistics:
        """A row per group; raises `MetricError` if a group is in several clusters."""
        groups: dict[str, list[P]] = {}
        for prediction in predictions:
            groups.setdefault(prediction.group, []).append(prediction)
        return Statistics(
            units=tuple(groups),
            clusters=tuple(_cluster_of(name, members) for name, members in groups.items()),
            rows=_rows([self.of_group(members) for members in groups.values()]),
        )

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum of scores divided by the number of groups; shape (..., 2) -> (...)."""
        return _ratio(totals)


def is_right(prediction: Prediction) -> float:
    """1 if the chosen option is right, else 0: accuracy (Brown et al. 2020, section 2.4)."""
    return float(prediction.chosen in prediction.gold)


def chosen_grade(prediction: Prediction) -> float:
    """The grade of the chosen option, as in BIG-bench (Srivastava et al. 2022, arXiv 2206.04615)."""
    return prediction.grade(prediction.chosen)


def expected_grade(prediction: Prediction) -> float:
    """The expected grade of an option that is drawn with the model's probabilities."""
    return math.fsum(mass * prediction.grade(option) for option, mass in enumerate(prediction.probabilities))


def probability_mass(prediction: Prediction) -> float:
    """The total probability of the right options: MC2 of TruthfulQA (Lin et al. 2022, arXiv 2109.07958)."""
    return math.fsum(mass for option, mass in enumerate(prediction.probabilities) if option in prediction.gold)


def answer_loss(prediction: Prediction) -> float:
    """The negative log-probability of the most likely right option, in nats per unit of the normalisation.

    It is infinite if the model is certain of a wrong option.
    """
    if not prediction.scores:
        return 0.0 if prediction.chosen in prediction.gold else math.inf
    return -max(prediction.scores[option] for option in prediction.gold)


def all_right(group: Sequence[Prediction]) -> float:
    """1 if every example of the group is right, else 0: exact match of MultiRC (Wang et al. 2019, section 3.2)."""
    return float(all(is_right(prediction) for prediction in group))


def all_alike(group: Sequence[Prediction]) -> float:
    """1 if the model gives the same answer to all examples of a pair, right or wrong, else 0: gender parity of AX-g.

    Source: Wang et al. 2019 (SuperGLUE), section 3.4.

    Raises:
        MetricError: the group has a single example.
    """
    if len(group) < 2:
        raise MetricError(f"group {group[0].group!r} has one example; gender parity compares the examples of a pair")
    return float(len({prediction.chosen for prediction in group}) == 1)


def _rows(scores: Sequence[float]) -> NDArray[np.float64]:
    return np.column_stack([np.asarray(scores, dtype=np.float64), np.ones(len(scores))])


def _ratio(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(totals[..., 0] / totals[..., 1])


def _cluster_of(group: str, members: Sequence[AnyPrediction]) -> str:
    clusters = {prediction.cluster for prediction in members}
    if len(clusters) > 1:
        raise MetricError(f"group {group!r} is in several clusters ({', '.join(sorted(clusters))}), but must be in one")
    return clusters.pop()
