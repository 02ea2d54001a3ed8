"""A confidence sequence: an interval for the mean of a finite population that is valid at every stopping time.

N numbers in [0, 1] are drawn one after the other without replacement. If their mean is m and the sum of the numbers
drawn so far is S, the expectation of the next number is m_t = (N m - S) / (N - t + 1). The capital of a gambler who
bets on the numbers at fair odds,

    K_t(m) = prod_i (1 ± λ_i (x_i - m_i)),

keeps the expectation 1. By Ville's inequality, the probability that it ever reaches 2 / α is at most α / 2. Once the
capital of either bet against a mean reaches 2 / α, this mean is rejected. This is the hedged-capital confidence
sequence without replacement of Waudby-Smith & Ramdas 2024 (JRSS B 86(1), arXiv 2010.09686, sections 4.4 and 5). A bet
can be any function of the past. The one used here maximises the growth of the capital against a mean at a distance of
the target half-width w: λ_t = w N / (N - t + 1) / σ², truncated at c / m_t and c / (1 - m_t) with c = 1/2, where σ² is
the paper's regularised variance of the numbers before x_t.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05
TRUNCATION = 0.5  # largest fraction of the capital that a bet can lose
STEPS = 20  # number of tested means per target half-width
ROUNDING = 1e-9


class MeanSequence:
    """The confidence sequence of the mean of a population.

    Args:
        population: number of all values, N.
        target: target half-width of the interval, for which the bets are optimal.
        level: probability that the mean is ever outside the interval, α.

    Attributes:
        low, high: the current interval, which never becomes wider. Its ends are the nearest rejected means of a grid,
            which adds at most a tenth of the target half-width. After the whole population, both are the mean.
    """

    def __init__(self, population: int, target: float, level: float = LEVEL) -> None:
        self.population, self.target, self._threshold = population, target, math.log(2 / level)
        self._means = np.linspace(0.0, 1.0, math.ceil(STEPS / target) + 1)[1:-1]  # means that are not rejected
        self._capital = np.zeros((2, len(self._means)))  # logarithms, for bets that the mean is higher and lower
        self._count, self._sum, self._squares = 0, 0.0, 0.0
        self.low, self.high = 0.0, 1.0

    @property
    def half_width(self) -> float:
        """Half of the width of the interval."""
        return (self.high - self.low) / 2

    def add(self, values: NDArray[np.float64]) -> None:
        """Add further values, in the order in which they were drawn.

        Raises:
            ValueError: there are more values than in the population, or a value is outside of [0, 1].
        """
        if self._count + len(values) > self.population or not ((values >= 0) & (values <= 1)).all():
            raise ValueError("more values than in the population, or a value outside of [0, 1]")
        rejected = np.zeros(self._capital.shape, dtype=bool)
        for value in values.tolist():
            self._bet(value)
            rejected |= self._capital >= self._threshold
        self.low = float(self._means[rejected[0]].max(initial=self.low))
        self.high = float(self._means[rejected[1]].min(initial=self.high))
        if self._count == self.population:
            self.low = self.high = self._sum / self.population
        kept = (self._means > self.low) & (self._means < self.high)
        self._means, self._capital = self._means[kept], self._capital[:, kept]

    def _bet(self, value: float) -> None:
        left = self.population - self._count
        expected = (self.population * self._means - self._sum) / left
        variance = (0.25 + self._squares) / (self._count + 1)
        bet = self.target * self.population / left / variance
        fair = np.clip(expected, 0.0, 1.0)
        with np.errstate(divide="ignore"):
            more, less = np.minimum(bet, TRUNCATION / fair), np.minimum(bet, TRUNCATION / (1 - fair))
        self._capital[0] += np.log1p(more * (value - fair))
        self._capital[1] += np.log1p(less * (fair - value))
        self._capital[0, expected < -ROUNDING] = np.inf  # the sum already exceeds N times this mean
        self._capital[1, expected > 1 + ROUNDING] = np.inf
        self._sum, self._count = self._sum + value, self._count + 1
        self._squares += (value - (0.5 + self._sum) / (self._count + 1)) ** 2
