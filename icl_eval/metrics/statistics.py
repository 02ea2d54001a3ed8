"""What a metric is: statistics of each unit, and a value that is a function of their sum.

The split is what makes uncertainty cheap: resampling, clustering and the delta method all work on sums of rows and
never see an example again (the idea is sacreBLEU's). A metric that cannot be split in this way is a `CorpusMetric`.

A family is a metric with settings: `bleu:tokenize=zh` is `bleu` with its setting `tokenize` at `zh`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from icl_eval.errors import MetricError, UnknownName
from icl_eval.metrics.prediction import AnyPrediction, Kind, P_contra
from icl_eval.tasks.metric_names import metric_name


@dataclass(frozen=True)
class Statistics:
    """Sufficient statistics of each unit (example or group): the metric is a function of their sum."""

    units: tuple[str, ...]
    clusters: tuple[str, ...]
    """The cluster of each unit."""
    rows: NDArray[np.float64]
    """Shape (units, d)."""

    @classmethod
    def of_examples(cls, predictions: Sequence[AnyPrediction], rows: NDArray[np.float64]) -> Statistics:
        """One unit per example; `rows` has shape (examples, d)."""
        ids = tuple(prediction.id for prediction in predictions)
        return cls(ids, tuple(prediction.cluster for prediction in predictions), rows)

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


@dataclass(frozen=True, eq=False)
class ClusterSums:
    """A metric's statistics summed by cluster, of every draw: all that resampling of clusters needs."""

    metric: Metric[Any]
    rows: NDArray[np.float64]
    """Shape (draws, clusters, d), the clusters sorted by name."""

    def values(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean over draws of the metric at their totals; shape (draws, ..., d) -> (...)."""
        flat = self.metric.value(totals.reshape(-1, totals.shape[-1]))
        return np.asarray(flat.reshape(totals.shape[:-1]).mean(axis=0))


class MetricProperties(Protocol):
    """What every metric states."""

    @property
    def name(self) -> str:
        """The name in task files and score lines."""

    @property
    def of(self) -> Kind:
        """The kind of answers it measures."""

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest possible value: (0, 1), (-1, 1), (0, 100) for BLEU; infinite if there is no end."""


class Metric(MetricProperties, Protocol[P_contra]):
    """A function of summed statistics, of one kind of predictions."""

    @property
    def proportion(self) -> bool:
        """Whether it is a mean of per-unit values in [0, 1], for which Wilson's interval holds."""

    def statistics(self, predictions: Sequence[P_contra]) -> Statistics:
        """Rows of the units of these predictions; raises `MetricError` when they do not suit the metric."""

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """The metric at each vector of summed rows; shape (..., d) -> (...)."""


@runtime_checkable
class CorpusMetric(MetricProperties, Protocol[P_contra]):
    """A metric known only as a function of whole prediction lists; its uncertainty costs many calls of `score`."""

    def score(self, predictions: Sequence[P_contra]) -> float:
        """The metric of these predictions; the same prediction may occur several times."""


@runtime_checkable
class Checked(Protocol[P_contra]):
    """A metric with a cheaper check than its statistics of whether it can measure some answers."""

    def check(self, predictions: Sequence[P_contra]) -> None:
        """Raise `MetricError` where it cannot measure answers to these examples, whatever the answers are."""


@runtime_checkable
class Signed(Protocol[P_contra]):
    """A metric whose settings belong in the signature of a score."""

    def signature(self, predictions: Sequence[P_contra]) -> str:
        """The settings, words joined by `|`, such as `BLEU|nrefs:1|case:mixed|...`."""


AnyMetric = Metric[Any] | CorpusMetric[Any]
"""A metric of any kind of predictions; `check_kind` says which."""


SWITCH = ("false", "true")


@dataclass(frozen=True)
class MetricFamily:
    """A metric that takes settings."""

    name: str
    settings: Mapping[str, Sequence[str]]
    """The values that each setting may have, written as in a task file."""
    make: Callable[[str, Mapping[str, str]], Metric[Any]]
    """The metric of a full name and the settings in it."""
    required: str | None = None
    """A setting without a default."""
    of: Kind = "text"
    counts: Collection[str] = ()
    """The settings that may have any whole number of at least 1."""

    def configured(self, settings: Mapping[str, str], path: Path | None = None, line: int | None = None) -> Metric[Any]:
        """The metric with these settings, and its default for every other one.

        Raises, for the place if one is given:
            UnknownName: there is no such setting, or no such value of it.
            MetricError: a setting without a default is missing, or one is not a number.
        """
        for name, value in settings.items():
            if name not in (*self.settings, *self.counts):
                raise UnknownName(f"setting of {self.name}", name, (*self.settings, *self.counts), path, line)
            if name in self.counts:
                if not re.fullmatch("[1-9][0-9]{0,8}", value):
                    raise MetricError(f"{self.name}'s `{name}` is a whole number from 1, not {value!r}", path, line)
            elif value not in self.settings[name]:
                raise UnknownName(f"value of {self.name}'s `{name}`", value, self.settings[name], path, line)
        if self.required is not None and self.required not in settings:
            values = ", ".join(self.settings[self.required])
            example = f"`{self.name}: {{{self.required}: {self.settings[self.required][-1]}}}`"
            raise MetricError(f"{self.name} needs a {self.required}, as in {example}; choose from {values}", path, line)
        return self.make(metric_name(self.name, settings), settings)
