"""Normalisation: scores that make options of different lengths comparable."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from icl_eval.tasks.definition import Normalization


@dataclass(frozen=True, slots=True)
class OptionResult:
    """The log-probabilities of one option, from which all scores are computed.

    Attributes:
        text: the continuation that was scored.
        logprobs: log-probabilities of its tokens after the context, in nats.
        unconditional: log-probabilities after the answer context alone, in nats.
        domain: log-probabilities after the domain premise alone, in nats; empty without this calibration.
        content_free: log-probabilities after the prompt with each content-free input, in nats; empty without contextual
            calibration.
    """

    text: str
    logprobs: tuple[float, ...]
    unconditional: tuple[float, ...]
    domain: tuple[float, ...] = ()
    content_free: tuple[tuple[float, ...], ...] = ()


NORMALIZATIONS: Mapping[Normalization, Callable[[OptionResult], int]] = {
    "sum": lambda _: 1,
    "token": lambda option: len(option.logprobs),
    "char": lambda option: len(option.text.strip()),  # characters and bytes are counted without surrounding space
    "byte": lambda option: len(option.text.strip().encode()),
    "unconditional": lambda _: 1,
}
"""The divisor of the sum of an option's log-probabilities. `sum` is ln P(a|C); `token`, `char` and `byte` divide it by
a length (OLMES, section 3.3); `unconditional` is ln P(a|C) - ln P(a|answer context) (GPT-3, section 2.4)."""


def score(option: OptionResult, normalization: Normalization) -> float:
    """The score of an option, in nats or nats per unit of length."""
    value = sum(option.logprobs) / NORMALIZATIONS[normalization](option)
    return value - sum(option.unconditional) if normalization == "unconditional" else value


def score_noise(option: OptionResult, normalization: Normalization, noise: float) -> float:
    """How much arithmetic noise may change the score of an option, in the unit of the score.

    Args:
        option: the option.
        normalization: the normalisation of the score.
        noise: noise of the log-probability of a token in nats; the errors of tokens are taken as independent.
    """
    tokens = len(option.logprobs) + (len(option.unconditional) if normalization == "unconditional" else 0)
    return noise * math.sqrt(tokens) / NORMALIZATIONS[normalization](option)
