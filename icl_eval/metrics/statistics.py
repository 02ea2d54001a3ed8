"""What a metric is: statistics of each unit, and a value that is a function of their sum.

The split is what makes uncertainty cheap: resampling, clustering and the delta method all work on sums of rows and
never see an example again (the idea is sacreBLEU's). A metric that cannot be split so is a `CorpusMetric`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from icl_eval.metrics.prediction import Prediction


@dataclass(frozen=True)
class Statistics:
    """Sufficient statistics of each unit (example or group): the metric is a function of their sum."""

    units: tuple[str, ...]
    clusters: tuple[str, ...]
    """The cluster of each unit."""
    rows: NDArray[np.float64]
    """Shape (units, d)."""

    @cached_property
    def cluster_names(self) -> tuple[str, ...]:
        """The distinct clusters, sorted, so that nothing depends on the order of the examples."""
        return tuple(sorted(set(self.clusters)))

    @cached_property
    def cluster_sums(self) -> NDArray[np.float64]:
        """Sum of the rows of each cluster, in the order of `cluster_names`; shape (clusters, d)."""
        position = {name: index for index, name in enumerate(self.cluster_names)}
        sums = np.zeros((len(position), self.rows.shape[1]))
        np.add.at(sums, [position[name] for name in self.clusters], self.rows)
        return sums


class Metric(Protocol):
    """A function of summed statistics that does not change when they are all multiplied by one number."""

    @property
    def name(self) -> str:
        """The name in task files and score lines."""

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest possible value: (0, 1) or (-1, 1)."""

    @property
    def proportion(self) -> bool:
        """Whether it is a mean of per-unit values in [0, 1], for which Wilson's interval holds."""

    def statistics(self, predictions: Sequence[Prediction]) -> Statistics:
        """Rows of the units of these predictions; raises `MetricError` when they do not suit the metric."""

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """The metric at each vector of summed rows; shape (..., d) -> (...)."""


@runtime_checkable
class CorpusMetric(Protocol):
    """A metric known only as a function of whole prediction lists; its uncertainty costs many calls of `score`."""

    @property
    def name(self) -> str:
        """The name in task files and score lines."""

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest possible value; infinite where unknown."""

    def score(self, predictions: Sequence[Prediction]) -> float:
        """The metric of these predictions; the same prediction may occur several times."""
