"""Uncertainty by recomputing: a metric as a function of how often each cluster counts, bootstrapped or jackknifed.

Clusters are drawn whole, with replacement; all seeds see the same draws, because they answer the same examples. The
spread of the resampled values is the standard error itself: it is never divided by the number of resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from icl_eval.metrics.prediction import P
from icl_eval.metrics.statistics import CorpusMetric

# Counts of each cluster in each resample -> value of each resample; shape (resamples, clusters) -> (resamples,).
Resampled = Callable[[NDArray[np.int64]], NDArray[np.float64]]


def of_predictions(metric: CorpusMetric[P], seeds: Sequence[Sequence[P]]) -> Resampled:
    """Mean over seeds of the metric of resampled predictions; one call of `score` per resample and seed."""
    clusters = [_members(predictions) for predictions in seeds]

    def values(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([np.mean([metric.score(_repeat(members, row)) for members in clusters]) for row in counts])

    return values


def bootstrap(resampled: Resampled, clusters: int, resamples: int) -> NDArray[np.float64]:
    """Values of `resamples` draws of as many clusters as there are; the same draws at each call."""
    generator = np.random.Generator(np.random.PCG64(0))
    return resampled(generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples))


def jackknife(resampled: Resampled, clusters: int) -> NDArray[np.float64]:
    """Influence of each cluster: how far the value falls when it is left out (Efron & Stein 1981); shape (clusters,).

    Scaled so that sqrt(C / (C - 1) * sum of squares) is the jackknife standard error, as for every other influence.
    """
    without = resampled(1 - np.eye(clusters, dtype=np.int64))
    return np.asarray((clusters - 1) / clusters * (without.mean() - without))


def _members(predictions: Sequence[P]) -> list[list[P]]:
    """The predictions of each cluster, clusters sorted by name."""
    members: dict[str, list[P]] = {}
    for prediction in predictions:
        members.setdefault(prediction.cluster, []).append(prediction)
    return [members[name] for name in sorted(members)]


def _repeat(members: Sequence[Sequence[P]], counts: NDArray[np.int64]) -> list[P]:
    return [prediction for each, count in zip(members, counts, strict=True) for prediction in [*each] * int(count)]
