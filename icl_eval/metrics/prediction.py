"""Predictions, the inputs of metrics: answers to examples, of the kinds choice, text and likelihood."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

from icl_eval.errors import MetricError

Kind = Literal["choice", "text", "likelihood"]
"""The kind of answer; the key `answer` of a task file."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The option that the model chose, and the right ones.

    Raises:
        MetricError: there is no right option, or an index is out of range.
    """

    kind: ClassVar[Kind] = "choice"

    id: str
    options: tuple[str, ...]
    gold: tuple[int, ...]
    """Indices of the right options, at least one; ReCoRD has several."""
    chosen: int
    """Index of the option with the highest score."""
    cluster: str
    """Examples of a cluster, such as a passage, are not independent. The id of the example if it has no cluster."""
    group: str
    """The unit of grouped metrics, such as a question of MultiRC. The id of the example if it has no group."""
    scores: tuple[float, ...] = ()
    """Scores of the options in nats (per unit of length); empty if the chosen option has probability 1."""
    grades: tuple[float, ...] = ()
    """Grades of the options between 0 and 1; empty if they are just right (1) or wrong (0)."""

    def __post_init__(self) -> None:
        if not self.gold:
            raise MetricError(f"example {self.id!r} has no right option; a metric needs at least one")
        for index in (self.chosen, *self.gold):
            if not 0 <= index < len(self.options):
                raise MetricError(f"example {self.id!r} has {len(self.options)} options, but none with index {index}")

    def choosing(self, option: int) -> Prediction:
        """This prediction with another chosen option. Much faster than `dataclasses.replace`."""
        units = self.cluster, self.group
        return Prediction(self.id, self.options, self.gold, option, *units, self.scores, self.grades)

    def certain(self, option: int) -> Prediction:
        """This prediction with probability 1 for one option."""
        return Prediction(self.id, self.options, self.gold, option, self.cluster, self.group, (), self.grades)

    @property
    def probabilities(self) -> tuple[float, ...]:
        """The probabilities of the options: the softmax of the scores."""
        if not self.scores:
            return tuple(float(index == self.chosen) for index in range(len(self.options)))
        best = max(self.scores)
        masses = [math.exp(score - best) for score in self.scores]
        return tuple(mass / math.fsum(masses) for mass in masses)

    def grade(self, option: int) -> float:
        """The grade of an option between 0 and 1."""
        return self.grades[option] if self.grades else float(option in self.gold)

    @property
    def question(self) -> Hashable:
        """A value that is equal for all answers to this example; only the number of options, whose texts can vary."""
        return len(self.options)


@dataclass(frozen=True, slots=True)
class TextPrediction:
    """A generated text and its references.

    Raises:
        MetricError: there is no reference.
    """

    kind: ClassVar[Kind] = "text"

    id: str
    text: str
    """The generated text up to its stop string; an empty text is also an answer."""
    references: tuple[str, ...]
    """Acceptable texts, at least one. The empty text means that giving no answer is right."""
    cluster: str
    group: str
    right: bool = True
    """Whether the references are right answers; otherwise they are wrong ones, which few metrics can use."""
    samples: tuple[str, ...] = ()
    """All sampled texts, in the order of sampling, if there are several; they include `text`."""

    def __post_init__(self) -> None:
        if not self.references:
            raise MetricError(f"example {self.id!r} has no reference; a metric of text needs at least one")

    @property
    def question(self) -> Hashable:
        """A value that is equal for all answers to this example."""
        return self.references

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of all samples; a single text without sampling."""
        return self.samples or (self.text,)


@dataclass(frozen=True, slots=True)
class LikelihoodPrediction:
    """The log-likelihood of a given text.

    Raises:
        MetricError: the log-likelihood is positive or not finite, or a count is 0.
    """

    kind: ClassVar[Kind] = "likelihood"

    id: str
    logprob: float
    """Log-probability of the whole text, in nats."""
    greedy: bool
    """Whether every token is the most likely one."""
    tokens: int
    words: int
    bytes: int
    cluster: str
    group: str
    unspaced: bool = False
    """Whether most letters are of scripts without spaces between words, so that `words` is not meaningful."""
    windows: tuple[tuple[float, ...], ...] = ()
    """Log-probabilities of the tokens in each window of the text, in nats; empty if unknown."""
    means: tuple[tuple[float, ...], ...] = ()
    """Expectation of each log-probability under the model's distribution; empty if unknown."""
    sds: tuple[tuple[float, ...], ...] = ()
    """Standard deviation of each log-probability, likewise."""
    zlib_bytes: int = 0
    """Size of the text in bytes after compression by zlib; 0 if unknown."""

    def __post_init__(self) -> None:
        if not -math.inf < self.logprob <= 0:
            raise MetricError(
                f"example {self.id!r} has the log-probability {self.logprob}; it must be finite and at most 0"
            )
        for name, count in (("tokens", self.tokens), ("words", self.words), ("bytes", self.bytes)):
            if count < 1:
                raise MetricError(f"example {self.id!r} has {count} {name}; a likelihood needs at least one")

    @property
    def question(self) -> Hashable:
        """A value that is equal for all answers to this example; tokens can depend on the text before it."""
        return self.words, self.bytes


AnyPrediction = Prediction | TextPrediction | LikelihoodPrediction

P = TypeVar("P", bound=AnyPrediction)
P_contra = TypeVar("P_contra", contravariant=True)
