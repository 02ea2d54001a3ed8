"""The lines of a comparison of two runs: a paired difference, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from icl_eval.results.score import Score

FIGURES = (
    *("difference", "standard_error", "low", "high", "interval", "method", "seed_sd"),
    *("p_value", "p_holm", "test", "detectable", "wins", "losses", "equal"),
)
Which = Literal["one", "other"]


@dataclass(frozen=True)
class Pair:
    """The paired difference between the scores of two runs.

    Attributes:
        one, other: the scores of the two runs.
        value: the second score minus the first, in the unit of the metric.
        standard_error: of the difference, over examples (clustered), given the drawn demonstrations.
        low, high: 95 % interval by Student's t, or all possible differences if `interval` is `bounds`.
        method: method of the standard error: `delta`, or `jackknife` for corpus metrics.
        seed_sd: sample standard deviation of the difference over draws of demonstrations, if both runs have the same
            seeds and more than one.
        p_value: two-sided p-value of the hypothesis that the difference is 0; None if the spread is unknown.
        p_holm: the p-value, adjusted by Holm's method for all differences of the comparison or comparisons.
        test: method of the p-value: `exact` over all exchanges of the models' answers (McNemar's test for answers that
            are right or wrong), `permutation` over random exchanges, or a clustered `t` test.
        detectable: smallest true difference that such a comparison detects with a probability of 80 %.
        wins, losses, equal: number of units on which the second run scores higher, lower and the same; None unless the
            metric is a mean over independent units.
    """

    one: Score
    other: Score
    value: float
    standard_error: float
    low: float
    high: float
    interval: str
    method: str
    seed_sd: float | None
    p_value: float | None = None
    p_holm: float | None = None
    test: str = ""
    detectable: float | None = None
    wins: int | None = None
    losses: int | None = None
    equal: int | None = None

    def stored(self) -> dict[str, Any]:
        """The entry in JSON, CSV and a data frame; numbers that are not finite are None."""
        figures = (
            *(self.value, self.standard_error, self.low, self.high, self.interval, self.method, self.seed_sd),
            *(self.p_value, self.p_holm, self.test, self.detectable, self.wins, self.losses, self.equal),
        )
        return _entry(self.one, self.one, self.other, figures, "")


@dataclass(frozen=True)
class Unpaired:
    """A score that was not compared.

    Attributes:
        run: the run that has the score; `one` if both have it.
        line: the score.
        why: a sentence with the reason.
    """

    run: Which
    line: Score
    why: str

    def stored(self) -> dict[str, Any]:
        """The entry in JSON, CSV and a data frame, with the keys of a pair."""
        one, other = (self.line, None) if self.run == "one" else (None, self.line)
        return _entry(self.line, one, other, (None,) * len(FIGURES), self.why)


def entries(lines: Sequence[Pair | Unpaired], one: str, other: str) -> list[dict[str, Any]]:
    """The entries of lines in CSV and a data frame, with the names of the compared models."""
    return [{"model_one": one, "model_other": other, **line.stored()} for line in lines]


def _entry(
    either: Score, one: Score | None, other: Score | None, figures: Sequence[float | str | None], why: str
) -> dict[str, Any]:
    finite = [None if isinstance(each, float) and not math.isfinite(each) else each for each in figures]
    return {
        "task": either.task,
        "metric": either.metric,
        "average": either.average,
        "category": either.category,
        "normalization": either.normalization,
        "split": either.split,
        "shots": either.shots,
        "prompt_one": one and one.prompt,
        "prompt_other": other and other.prompt,
        "one": one and one.value,
        "other": other and other.value,
        **dict(zip(FIGURES, finite, strict=True)),
        "units": either.units,
        "clusters": either.clusters,
        "signature_one": one and one.signature,
        "signature_other": other and other.signature,
        "not_compared": why,
    }
