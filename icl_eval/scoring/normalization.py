"""Making log-likelihoods of options of different lengths comparable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from icl_eval.tasks.definition import Normalization


@dataclass(frozen=True, slots=True)
class OptionEvidence:
    """All that is known of one option after one pass; every normalisation is a function of it.

    Attributes:
        text: the continuation that was scored.
        logprobs: of its tokens after the context, in nats.
        unconditional: of its tokens after the answer context alone, in nats.
    """

    text: str
    logprobs: tuple[float, ...]
    unconditional: tuple[float, ...]


def _per_character(option: OptionEvidence) -> float:
    return sum(option.logprobs) / len(option.text.strip())


def _per_byte(option: OptionEvidence) -> float:
    return sum(option.logprobs) / len(option.text.strip().encode())


NORMALIZATIONS: Mapping[Normalization, Callable[[OptionEvidence], float]] = {
    "sum": lambda option: sum(option.logprobs),
    "token": lambda option: sum(option.logprobs) / len(option.logprobs),
    "char": _per_character,  # characters and bytes are the option's own, without the space before it
    "byte": _per_byte,
    "unconditional": lambda option: sum(option.logprobs) - sum(option.unconditional),
}
"""`sum` ln P(a|C); `token`, `char`, `byte` divide it by a length (OLMES section 3.3); `unconditional` is
ln P(a|C) - ln P(a|answer context) (GPT-3 section 2.4)."""


def score(option: OptionEvidence, normalization: Normalization) -> float:
    """The option's score in nats (per unit of length); the highest wins."""
    return NORMALIZATIONS[normalization](option)
