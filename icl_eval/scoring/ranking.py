"""Choosing the highest score, with ties resolved by a stated rule and counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TIE = 1e-6
"""Scores that differ by at most this (nats, or nats per unit of length) are tied."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The chosen option, and whether others scored the same."""

    chosen: int
    tied: bool
    margin: float  # nats from the chosen option to the best other one; infinite for a single option
    scores: tuple[float, ...] = ()  # of all options, in nats (per unit of length)


def rank(scores: Sequence[float]) -> Ranking:
    """The option with the highest score; of tied ones the first.

    Raises:
        ValueError: there are no scores, or one is not a number.
    """
    if not scores or any(score != score for score in scores):
        raise ValueError(f"cannot rank the scores {list(scores)}")
    best = max(scores)
    chosen = next(index for index, score in enumerate(scores) if best - score <= TIE)
    others = [score for index, score in enumerate(scores) if index != chosen]
    margin = best - max(others) if others else float("inf")
    return Ranking(chosen, tied=margin <= TIE, margin=max(margin, 0.0), scores=tuple(scores))


def close_options(scores: Sequence[float], noises: Sequence[float]) -> tuple[int, ...]:
    """The options that could win in place of the chosen one if both scores moved by their noise; none if it is 0."""
    chosen = rank(scores).chosen
    return tuple(
        index
        for index, (score, noise) in enumerate(zip(scores, noises, strict=True))
        if index != chosen and noise and scores[chosen] - score < math.hypot(noise, noises[chosen])
    )
