"""An interval for the mean of a finite population that holds at every stopping time: a confidence sequence.

The population is N numbers in [0, 1], of which one after the other is drawn without replacement. If their mean is m,
the next one, given those drawn so far with the sum S, has the mean m_t = (N m - S) / (N - t + 1). So someone who bets
on it at fair odds has the capital

    K_t(m) = prod_i (1 ± λ_i (x_i - m_i)),

whose expectation stays 1, and by Ville's inequality it ever reaches 2 / α with a probability of at most α / 2. A mean
against which either bet has reached 2 / α is rejected for good. This is the hedged-capital confidence sequence without
replacement of Waudby-Smith & Ramdas 2024 (JRSS B 86(1), arXiv 2010.09686, sections 4.4 and 5). A bet may be any
function of the past. Here it is the one whose capital grows fastest against a mean that is the wanted half-width w
away, λ_t = w N / (N - t + 1) / σ², truncated at c / m_t and c / (1 - m_t) with c = 1/2; σ² is their regularised
variance of the numbers before x_t.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05
TRUNCATION = 0.5  # the part of the capital that a bet may lose
STEPS = 20  # means that are tested within the wanted half-width
ROUNDING = 1e-9


class MeanSequence:
    """The confidence sequence of the mean of a population.

    Args:
        population: the number of all values, N.
        target: the wanted half-width of the interval, for which the bets are the best.
        level: the probability that the mean is ever outside, α.

    Attributes:
        low, high: ends of the interval so far, which never becomes wider. They are the nearest rejected ones of a grid
            of means, so the interval is wider than it need be by at most a tenth of the wanted half-width; of a whole
            population it is the mean.
    """

    def __init__(self, population: int, target: float, level: float = LEVEL) -> None:
        self.population, self.target, self._threshold = population, target, math.log(2 / level)
        self._means = np.linspace(0.0, 1.0, math.ceil(STEPS / target) + 1)[1:-1]  # those that are not rejected
        self._capital = np.zeros((2, len(self._means)))  # logarithms, of the bets on more and on less
        self._count, self._sum, self._squares = 0, 0.0, 0.0
        self.low, self.high = 0.0, 1.0

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2

    def add(self, values: NDArray[np.float64]) -> None:
        """Take further values in the order of drawing.

        Raises:
            ValueError: they are more than the population, or not within [0, 1].
        """
        if self._count + len(values) > self.population or not ((values >= 0) & (values <= 1)).all():
            raise ValueError("more values than the population has, or a value outside of [0, 1]")
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
        self._capital[0, expected < -ROUNDING] = np.inf  # a mean so small that the sum exceeds it already
        self._capital[1, expected > 1 + ROUNDING] = np.inf
        self._sum, self._count = self._sum + value, self._count + 1
        self._squares += (value - (0.5 + self._sum) / (self._count + 1)) ** 2
