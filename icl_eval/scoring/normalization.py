"""Making log-likelihoods of options of different lengths comparable."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from icl_eval.tasks.definition import Normalization


@dataclass(frozen=True, slots=True)
class OptionResult:
    """All that is known of one option after one pass; every normalisation is a function of it.

    The last two are empty unless the run collects them for a calibration.

    Attributes:
        text: the continuation that was scored.
        logprobs: of its tokens after the context, in nats.
        unconditional: of its tokens after the answer context alone, in nats.
        domain: of its tokens after the domain premise alone, in nats.
        content_free: of its tokens after the prompt with each content-free input, in nats.
    """

    text: str
    logprobs: tuple[float, ...]
    unconditional: tuple[float, ...]
    domain: tuple[float, ...] = ()
    content_free: tuple[tuple[float, ...], ...] = ()


NORMALIZATIONS: Mapping[Normalization, Callable[[OptionResult], int]] = {
    "sum": lambda _: 1,
    "token": lambda option: len(option.logprobs),
    "char": lambda option: len(option.text.strip()),  # characters and bytes are the option's own, without the space
    "byte": lambda option: len(option.text.strip().encode()),
    "unconditional": lambda _: 1,
}
"""By what the sum of an option's log-probabilities is divided. `sum` is ln P(a|C); `token`, `char`, `byte` divide it by
a length (OLMES section 3.3); `unconditional` is ln P(a|C) - ln P(a|answer context) (GPT-3 section 2.4)."""


def score(option: OptionResult, normalization: Normalization) -> float:
    """The option's score in nats (per unit of length); the highest wins."""
    value = sum(option.logprobs) / NORMALIZATIONS[normalization](option)
    return value - sum(option.unconditional) if normalization == "unconditional" else value


def score_noise(option: OptionResult, normalization: Normalization, noise: float) -> float:
    """How far arithmetic noise may move the option's score, in its unit.

    Args:
        option: what was measured.
        normalization: how it is scored.
        noise: nats by which the log-probability of one token may move; those of several add up as independent errors.
    """
    tokens = len(option.logprobs) + (len(option.unconditional) if normalization == "unconditional" else 0)
    return noise * math.sqrt(tokens) / NORMALIZATIONS[normalization](option)
