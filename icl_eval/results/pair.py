"""One line of a comparison of two runs: a paired difference, or the reason why there is none."""

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
    """One line of a comparison.

    Attributes:
        one, other: the scores of the two runs.
        value: the second less the first, in the metric's own unit.
        standard_error: of that difference, over examples (clustered) for the demonstrations that were drawn.
        low, high: ends of its 95 % interval by Student's t; all possible differences where `interval` is `bounds`.
        method: how the standard error was taken: `delta`, or `jackknife` for a metric of whole lists of answers.
        seed_sd: sample standard deviation of the difference over demonstration draws, where both runs have the same
            seeds and more than one.
        p_value: two-sided, that the difference is 0; None where nothing is known of the spread.
        p_holm: the same, adjusted by Holm's method for all differences of the comparison or comparisons.
        test: how it was taken: `exact` over all exchanges of the models' answers (McNemar's for examples that are right
            or wrong), `permutation` over random ones, or `t`, clustered.
        detectable: the least true difference that such a comparison finds with a probability of 80 %.
        wins, losses, equal: units on which the second run scores higher, lower and the same; None unless the metric is
            a mean over independent units.
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
        """The entry in JSON, CSV and a data frame; a figure that is not finite is None."""
        figures = (
            *(self.value, self.standard_error, self.low, self.high, self.interval, self.method, self.seed_sd),
            *(self.p_value, self.p_holm, self.test, self.detectable, self.wins, self.losses, self.equal),
        )
        return _entry(self.one, self.one, self.other, figures, "")


@dataclass(frozen=True)
class Unpaired:
    """A line that was not compared, and why.

    Attributes:
        run: whose line it is; the first one's where both have it.
        line: the score.
        why: a sentence on the task, which says why.
    """

    run: Which
    line: Score
    why: str

    def stored(self) -> dict[str, Any]:
        """The entry in JSON, CSV and a data frame, by the names of a pair's."""
        one, other = (self.line, None) if self.run == "one" else (None, self.line)
        return _entry(self.line, one, other, (None,) * len(FIGURES), self.why)


def entries(lines: Sequence[Pair | Unpaired], one: str, other: str) -> list[dict[str, Any]]:
    """Lines in CSV and a data frame, with the names of the models that they compare."""
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
