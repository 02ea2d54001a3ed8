"""Metrics of the likelihood of texts: perplexities, losses, the in-context score and Min-K% Prob."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from icl_eval.errors import MetricError
from icl_eval.metrics.prediction import Kind, LikelihoodPrediction
from icl_eval.metrics.statistics import Statistics


@dataclass(frozen=True)
class Perplexity:
    """exp of the negative log-likelihood of all texts per unit, such as a token; a row is (nats, units).

    It is a ratio of sums over texts, so long texts have more weight than short ones.
    """

    name: str
    units_of: Callable[[LikelihoodPrediction], int]
    """The number of units of a text: its words, tokens or bytes, or 1."""
    bounds: tuple[float, float] = (1.0, math.inf)
    proportion: bool = False
    of: Kind = "likelihood"
    refuse: Callable[[Sequence[LikelihoodPrediction]], None] = lambda _: None
    """Raises `MetricError` for texts whose units cannot be counted."""

    def check(self, predictions: Sequence[LikelihoodPrediction]) -> None:
        """Raise `MetricError` if the units of the texts cannot be counted."""
        self.refuse(predictions)

    def statistics(self, predictions: Sequence[LikelihoodPrediction]) -> Statistics:
        """A row per text; raises `MetricError` like `check`."""
        self.check(predictions)
        return _nats_and_units(predictions, self.units_of)

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (..., 2) -> (...); infinite if it is too large for a float."""
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(totals[..., 0] / totals[..., 1]))


@dataclass(frozen=True)
class Loss:
    """Negative log-likelihood of all texts per unit; a row is (nats, units)."""

    name: str
    units_of: Callable[[LikelihoodPrediction], int]
    """The number of units of a text: its tokens or bytes, or 1."""
    nats: float = 1.0
    """The number of nats in the unit of the loss: ln 2 for bits."""
    bounds: tuple[float, float] = (0.0, math.inf)
    proportion: bool = False
    of: Kind = "likelihood"

    def statistics(self, predictions: Sequence[LikelihoodPrediction]) -> Statistics:
        """A row per text."""
        return _nats_and_units(predictions, self.units_of)

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (..., 2) -> (...)."""
        return np.asarray(totals[..., 0] / totals[..., 1] / self.nats)


@dataclass(frozen=True)
class InContextScore:
    """Mean over texts of the loss of a late token minus that of an early token, in nats; a row is (difference, 1).

    This is the in-context learning score of Olsson et al. 2022 (arXiv 2209.11895), with the 500th and the 50th token.
    More negative values mean that the model uses the earlier text more. Tokens are counted from 1 in the first window
    of a text. Texts without a late token in this window are left out.
    """

    name: str
    early: int = 50
    late: int = 500
    bounds: tuple[float, float] = (-math.inf, math.inf)
    proportion: bool = False
    of: Kind = "likelihood"

    @classmethod
    def configured(cls, name: str, settings: Mapping[str, str]) -> InContextScore:
        """Make the metric, given its full name and its settings."""
        return cls(name, int(settings.get("early", cls.early)), int(settings.get("late", cls.late)))

    def check(self, predictions: Sequence[LikelihoodPrediction]) -> None:
        """Do nothing, because the number of tokens is unknown before a run."""

    def statistics(self, predictions: Sequence[LikelihoodPrediction]) -> Statistics:
        """A row per text; raises `MetricError` if all texts are too short."""
        rows = [self._row(_first_window(prediction)) for prediction in predictions]
        if not any(count for _, count in rows):
            longest = max(len(_first_window(prediction)) for prediction in predictions)
            raise MetricError(
                f"no text has {max(self.early, self.late)} tokens in its first window; the longest has {longest}; set "
                "`early` and `late`"
            )
        return Statistics.of_examples(predictions, np.array(rows, dtype=np.float64))

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (..., 2) -> (...)."""
        return np.asarray(totals[..., 0] / totals[..., 1])

    def _row(self, logprobs: Sequence[float]) -> tuple[float, int]:
        if len(logprobs) < max(self.early, self.late):
            return 0.0, 0
        return logprobs[self.early - 1] - logprobs[self.late - 1], 1


def token_logprobs(prediction: LikelihoodPrediction) -> Iterable[float]:
    """The log-probability of each token of a text, in nats."""
    return chain.from_iterable(prediction.windows)


def standardized_logprobs(prediction: LikelihoodPrediction) -> Iterable[float]:
    """(log p - mean) / sd of each token, where mean and sd are moments of log p under p; 0 if sd is 0.

    Raises:
        MetricError: the moments were not stored.
    """
    if not prediction.means:
        raise MetricError(
            "the mean and standard deviation of each token's log-probability are stored only if a metric of the run "
            "needs them: evaluate the task again with min_k_plus_plus among its metrics"
        )
    moments = (chain.from_iterable(each) for each in (prediction.means, prediction.sds))
    tokens = zip(token_logprobs(prediction), *moments, strict=True)
    return ((logprob - mean) / sd if sd else 0.0 for logprob, mean, sd in tokens)


@dataclass(frozen=True)
class MinK:
    """Mean over texts of the mean score of the k % of tokens with the lowest scores; a row is (mean, 1).

    With log-probabilities in nats as scores, this is Min-K% Prob (Shi et al. 2023, arXiv 2310.16789, who negate it).
    With standardised log-probabilities it is Min-K%++ (Zhang et al. 2024, arXiv 2404.02936). Both are higher for texts
    that a model was trained on. The number of tokens is rounded down, and texts with 0 tokens are left out.
    """

    name: str
    percent: int = 20
    scores_of: Callable[[LikelihoodPrediction], Iterable[float]] = token_logprobs
    """The scores of the tokens of a text."""
    bounds: tuple[float, float] = (-math.inf, 0.0)
    proportion: bool = False
    of: Kind = "likelihood"

    @classmethod
    def configured(cls, name: str, settings: Mapping[str, str]) -> MinK:
        """Make Min-K% Prob, given its full name and its settings."""
        return cls(name, int(settings.get("k", cls.percent)))

    @classmethod
    def standardized(cls, name: str, settings: Mapping[str, str]) -> MinK:
        """Make Min-K%++, given its full name and its settings."""
        return cls(name, int(settings.get("k", cls.percent)), standardized_logprobs, (-math.inf, math.inf))

    def check(self, predictions: Sequence[LikelihoodPrediction]) -> None:
        """Do nothing, because the number of tokens is unknown before a run."""

    def statistics(self, predictions: Sequence[LikelihoodPrediction]) -> Statistics:
        """A row per text; raises `MetricError` if all texts are too short."""
        rows = [self._row(prediction) for prediction in predictions]
        if not any(count for _, count in rows):
            least = -(-100 // self.percent)
            raise MetricError(
                f"all texts are too short: {self.percent} % of a text must be at least one token, so it needs {least} "
                "tokens"
            )
        return Statistics.of_examples(predictions, np.array(rows, dtype=np.float64))

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (..., 2) -> (...)."""
        return np.asarray(totals[..., 0] / totals[..., 1])

    def _row(self, prediction: LikelihoodPrediction) -> tuple[float, int]:
        scores = sorted(self.scores_of(prediction))
        count = len(scores) * self.percent // 100
        return (math.fsum(scores[:count]) / count, 1) if count else (0.0, 0)


def _first_window(prediction: LikelihoodPrediction) -> tuple[float, ...]:
    return prediction.windows[0] if prediction.windows else ()


def zlib_ratio(prediction: LikelihoodPrediction) -> float:
    """The log-likelihood of a text in nats, divided by its size in bytes after compression by zlib.

    Carlini et al. 2021 (arXiv 2012.07805, "zlib") divide the log-perplexity, which is the negative log-likelihood per
    token. With the log-likelihood of the whole text, both numbers grow with the length, so texts of different lengths
    are comparable.

    Raises:
        MetricError: the compressed size was not stored.
    """
    if not prediction.zlib_bytes:
        raise MetricError("the compressed size of the texts is not stored: evaluate the run again in another folder")
    return prediction.logprob / prediction.zlib_bytes


def is_greedy(prediction: LikelihoodPrediction) -> float:
    """1 if every token of the text is the most likely one, else 0: accuracy of LAMBADA (Radford et al. 2019, 3.3)."""
    return float(prediction.greedy)


def _nats_and_units(
    predictions: Sequence[LikelihoodPrediction], units_of: Callable[[LikelihoodPrediction], int]
) -> Statistics:
    rows = np.array([(-prediction.logprob, units_of(prediction)) for prediction in predictions], dtype=np.float64)
    return Statistics.of_examples(predictions, rows)
