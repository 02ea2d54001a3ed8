"""The protocols of metrics: statistics of each unit, and a value that is a function of their sum.

This makes uncertainty cheap, as in sacreBLEU: resampling, clustering and the delta method work on sums of rows and do
not need the examples again. A metric that cannot be divided in this way is a `CorpusMetric`.

A family is a metric with settings. `bleu:tokenize=zh` is `bleu` with the value `zh` of its setting `tokenize`.
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
    """The statistics of each unit (example or group); the value of the metric is a function of their sum."""

    units: tuple[str, ...]
    clusters: tuple[str, ...]
    """The cluster of each unit."""
    rows: NDArray[np.float64]
    """Shape (units, d)."""

    @classmethod
    def of_examples(cls, predictions: Sequence[AnyPrediction], rows: NDArray[np.float64]) -> Statistics:
        """Statistics with one unit per example; `rows` has shape (examples, d)."""
        ids = tuple(prediction.id for prediction in predictions)
        return cls(ids, tuple(prediction.cluster for prediction in predictions), rows)

    @cached_property
    def cluster_names(self) -> tuple[str, ...]:
        """The distinct clusters, sorted so that nothing depends on the order of examples."""
        return tuple(sorted(set(self.clusters)))

    @cached_property
    def cluster_sums(self) -> NDArray[np.float64]:
        """The sums of the rows of each cluster, in the order of `cluster_names`; shape (clusters, d)."""
        position = {name: index for index, name in enumerate(self.cluster_names)}
        sums = np.zeros((len(position), self.rows.shape[1]))
        np.add.at(sums, [position[name] for name in self.clusters], self.rows)
        return sums


@dataclass(frozen=True, eq=False)
class ClusterSums:
    """The statistics of a metric, summed by cluster for each draw."""

    metric: Metric[Any]
    rows: NDArray[np.float64]
    """Shape (draws, clusters, d), with clusters sorted by name."""

    def values(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """The value of the metric, averaged over draws; shape (draws, ..., d) -> (...)."""
        flat = self.metric.value(totals.reshape(-1, totals.shape[-1]))
        return np.asarray(flat.reshape(totals.shape[:-1]).mean(axis=0))


class MetricProperties(Protocol):
    """The properties of every metric."""

    @property
    def name(self) -> str:
        """The name in task files and tables."""

    @property
    def of(self) -> Kind:
        """The kind of answers that the metric scores."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest possible value, such as (0, 1), or (0, 100) for BLEU; may be infinite."""


class Metric(MetricProperties, Protocol[P_contra]):
    """A metric that is a function of summed statistics."""

    @property
    def proportion(self) -> bool:
        """Whether the metric is a mean of values between 0 and 1, one per unit."""

    def statistics(self, predictions: Sequence[P_contra]) -> Statistics:
        """The statistics of predictions; raises `MetricError` if the metric cannot score them."""

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """The value for each vector of summed rows; shape (..., d) -> (...)."""


@runtime_checkable
class CorpusMetric(MetricProperties, Protocol[P_contra]):
    """A metric that is only a function of all predictions; its uncertainty takes many calls of `score`."""

    def score(self, predictions: Sequence[P_contra]) -> float:
        """The value for these predictions, in which a prediction may occur several times."""


@runtime_checkable
class Checked(Protocol[P_contra]):
    """A metric that can check examples without computing its statistics."""

    def check(self, predictions: Sequence[P_contra]) -> None:
        """Raise `MetricError` if the metric cannot score any answers to these examples."""


@runtime_checkable
class Signed(Protocol[P_contra]):
    """A metric with settings that belong to the signature of a score."""

    def signature(self, predictions: Sequence[P_contra]) -> str:
        """The settings as words joined by `|`, such as `BLEU|nrefs:1|case:mixed|...`."""


AnyMetric = Metric[Any] | CorpusMetric[Any]
"""A metric of any kind of answers."""


SWITCH = ("false", "true")


@dataclass(frozen=True)
class MetricFamily:
    """A metric that takes settings."""

    name: str
    settings: Mapping[str, Sequence[str]]
    """The allowed values of each setting, as written in a task file."""
    make: Callable[[str, Mapping[str, str]], Metric[Any]]
    """Makes the metric, given its full name and its settings."""
    required: str | None = None
    """A setting without a default."""
    of: Kind = "text"
    counts: Collection[str] = ()
    """Settings whose values are whole numbers of at least 1."""

    def configured(self, settings: Mapping[str, str], path: Path | None = None, line: int | None = None) -> Metric[Any]:
        """The metric with these settings; other settings have their defaults.

        Args:
            settings: by name.
            path, line: position in a task file, for errors.

        Raises:
            UnknownName: a setting or its value does not exist.
            MetricError: a required setting is missing, or a value is not a whole number.
        """
        for name, value in settings.items():
            if name not in (*self.settings, *self.counts):
                raise UnknownName(f"setting of {self.name}", name, (*self.settings, *self.counts), path, line)
            if name in self.counts:
                if not re.fullmatch("[1-9][0-9]{0,8}", value):
                    raise MetricError(
                        f"{self.name}'s `{name}` must be a whole number of at least 1, not {value!r}", path, line
                    )
            elif value not in self.settings[name]:
                raise UnknownName(f"value of {self.name}'s `{name}`", value, self.settings[name], path, line)
        if self.required is not None and self.required not in settings:
            values = ", ".join(self.settings[self.required])
            example = f"`{self.name}: {{{self.required}: {self.settings[self.required][-1]}}}`"
            raise MetricError(f"{self.name} needs a {self.required}, as in {example}; choose from {values}", path, line)
        return self.make(metric_name(self.name, settings), settings)
