"""The choice of the option with the highest score; of tied options, the first is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TIE = 1e-6
"""Scores that differ by at most this are tied, in nats or nats per unit of length."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The chosen option.

    Attributes:
        chosen: the index of the option.
        tied: whether another option has the same score, up to the difference that counts as a tie.
        margin: the score of the chosen option minus the highest score of the others, at least 0; infinite if there are
            no others.
        scores: the scores of all options.
    """

    chosen: int
    tied: bool
    margin: float
    scores: tuple[float, ...] = ()


def rank(scores: Sequence[float], tie: float = TIE) -> Ranking:
    """Choose the option with the highest score; of tied options, the first.

    Args:
        scores: the scores of the options.
        tie: scores that differ by at most this are tied.

    Raises:
        ValueError: there are no scores, or one is NaN.
    """
    if not scores or any(score != score for score in scores):
        raise ValueError(f"cannot rank the scores {list(scores)}")
    best = max(scores)
    chosen = next(index for index, score in enumerate(scores) if best - score <= tie)
    others = [score for index, score in enumerate(scores) if index != chosen]
    margin = best - max(others) if others else float("inf")
    return Ranking(chosen, tied=margin <= tie, margin=max(margin, 0.0), scores=tuple(scores))


def close_options(scores: Sequence[float], noises: Sequence[float], tie: float = TIE) -> tuple[int, ...]:
    """The options that could be chosen instead, within the noise of both scores; none if their noise is 0."""
    chosen = rank(scores, tie).chosen
    return tuple(
        index
        for index, (score, noise) in enumerate(zip(scores, noises, strict=True))
        if index != chosen and noise and scores[chosen] - score < math.hypot(noise, noises[chosen])
    )
