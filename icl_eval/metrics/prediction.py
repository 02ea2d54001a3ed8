"""Predictions, which metrics take: answered examples of three kinds, choice, text and likelihood."""

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
    """Which option the model ranked first, and which are right; raises `MetricError` when an index names no option."""

    kind: ClassVar[Kind] = "choice"

    id: str
    options: tuple[str, ...]
    gold: tuple[int, ...]
    """Indices of the right options, at least one (ReCoRD has several)."""
    chosen: int
    """Index of the option the model ranked first."""
    cluster: str
    """Examples of one cluster are not independent (passage, schema pair); the id where there is none."""
    group: str
    """The unit that grouped metrics count (MultiRC question, AX-g pair); the id where there is none."""
    scores: tuple[float, ...] = ()
    """Of the options, in nats (per unit of length); none for a model that is certain of the chosen one."""
    grades: tuple[float, ...] = ()
    """Of the options, from 0 to 1; none where they are just right (1) or wrong (0)."""

    def __post_init__(self) -> None:
        if not self.gold:
            raise MetricError(f"example {self.id!r} has no right option; a metric needs at least one")
        for index in (self.chosen, *self.gold):
            if not 0 <= index < len(self.options):
                raise MetricError(f"example {self.id!r} has {len(self.options)} options and none of index {index}")

    def choosing(self, option: int) -> Prediction:
        """This prediction with another option ranked first; `dataclasses.replace` takes several times as long."""
        units = self.cluster, self.group
        return Prediction(self.id, self.options, self.gold, option, *units, self.scores, self.grades)

    def certain(self, option: int) -> Prediction:
        """This prediction with all probability on one option."""
        return Prediction(self.id, self.options, self.gold, option, self.cluster, self.group, (), self.grades)

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Of the options, which sum to 1: the softmax of the scores."""
        if not self.scores:
            return tuple(float(index == self.chosen) for index in range(len(self.options)))
        best = max(self.scores)
        masses = [math.exp(score - best) for score in self.scores]
        return tuple(mass / math.fsum(masses) for mass in masses)

    def grade(self, option: int) -> float:
        """How right an option is, from 0 to 1."""
        return self.grades[option] if self.grades else float(option in self.gold)

    @property
    def question(self) -> Hashable:
        """What is the same for every answer to this example; options may be written in other words."""
        return len(self.options)


@dataclass(frozen=True, slots=True)
class TextPrediction:
    """A generated text and its references; raises `MetricError` if there are none."""

    kind: ClassVar[Kind] = "text"

    id: str
    text: str
    """As generated, cut at its stop; may be empty, which is an answer like any other."""
    references: tuple[str, ...]
    """Acceptable texts, at least one. The empty text is one where no answer is the right answer."""
    cluster: str
    group: str
    right: bool = True
    """Whether the references are right answers. If not, they are wrong ones, which few metrics can judge."""
    samples: tuple[str, ...] = ()
    """Of several samples of the prompt, the texts in the order in which they were drawn, `text` among them."""

    def __post_init__(self) -> None:
        if not self.references:
            raise MetricError(f"example {self.id!r} has no reference; a metric of text needs at least one")

    @property
    def question(self) -> Hashable:
        """What is the same for every answer to this example."""
        return self.references

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of all samples; the only text where nothing was sampled."""
        return self.samples or (self.text,)


@dataclass(frozen=True, slots=True)
class LikelihoodPrediction:
    """The log-likelihood of a text; raises `MetricError` if it is positive or not finite, or if a count is 0."""

    kind: ClassVar[Kind] = "likelihood"

    id: str
    logprob: float
    """Of the whole text, in nats."""
    greedy: bool
    """Whether every token was the most likely one."""
    tokens: int
    words: int
    bytes: int
    cluster: str
    group: str
    unspaced: bool = False
    """Whether most letters of the text are of scripts that write no spaces between words, so `words` says little."""
    windows: tuple[tuple[float, ...], ...] = ()
    """The log-probabilities of the tokens in each window of the text, in nats; none if they are not known."""
    means: tuple[tuple[float, ...], ...] = ()
    """The expectation of each, under the model's distribution of the token; none if they are not known."""
    sds: tuple[tuple[float, ...], ...] = ()
    """The standard deviation of each, likewise."""
    zlib_bytes: int = 0
    """Bytes of the text compressed by zlib; 0 if this is not known."""

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
        """What is the same for every answer to this example; its tokens may depend on the text before it."""
        return self.words, self.bytes


AnyPrediction = Prediction | TextPrediction | LikelihoodPrediction

P = TypeVar("P", bound=AnyPrediction)
P_contra = TypeVar("P_contra", contravariant=True)
