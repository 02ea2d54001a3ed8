"""The work of answering requests, determined from a plan before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from icl_eval.models import GenerateRequest, LanguageModel, Request, ScoreRequest

FLOAT = 4  # bytes of a logit
PLANNED = ("computed", "batches", "longest", "targets", "prefix_length", "attended")  # fields that a `Plan` has, too
LARGEST = ("longest", "targets", "prefix_length", "context")  # fields that are maxima; all others are sums


@dataclass(frozen=True, slots=True)
class Workload:
    """Counts of requests, tokens and batches.

    Attributes:
        requests: all requests.
        known: requests whose answer is in the journal.
        repeated: duplicates of other requests.
        one_by_one: input tokens of all requests without a known answer, including duplicates, if each were computed
            separately.
        computed: tokens to compute by the plan, including padding and cached prefixes.
        generated: maximum number of generated tokens, of all samples together; beams count once.
        batches: forward passes that score tokens, without those that only fill the cache.
        longest: tokens of the largest batch.
        targets: the largest number of scored tokens in a batch.
        prefix_length: tokens of the longest cached prefix.
        context: tokens of the longest request, including those that it may generate.
        scored: tokens to score.
        attended: pairs of a computed token and a token that it attends to, including itself, without padding.
    """

    requests: int = 0
    known: int = 0
    repeated: int = 0
    one_by_one: int = 0
    computed: int = 0
    generated: int = 0
    batches: int = 0
    longest: int = 0
    targets: int = 0
    prefix_length: int = 0
    context: int = 0
    scored: int = 0
    attended: int = 0

    def __add__(self, other: Workload) -> Workload:
        pairs = {each.name: (getattr(self, each.name), getattr(other, each.name)) for each in fields(self)}
        return Workload(**{name: max(pair) if name in LARGEST else sum(pair) for name, pair in pairs.items()})

    def scaled(self, factor: float) -> Workload:
        """The work for `factor` times as many queries; maxima do not change."""
        pairs = {each.name: getattr(self, each.name) for each in fields(self)}
        return Workload(**{name: n if name in LARGEST else round(n * factor) for name, n in pairs.items()})

    @property
    def sharing(self) -> float:
        """The number of tokens if each request were computed separately, divided by the number to compute."""
        return self.one_by_one / self.computed if self.computed else 1.0

    def memory(self, token_bytes: int, state_bytes: int, vocabulary: int) -> dict[str, int]:
        """Expected memory of the largest batch in bytes, by use, without the weights.

        Args:
            token_bytes: memory of each token of a batch in bytes.
            state_bytes: memory of each token of a cached prefix in bytes.
            vocabulary: number of tokens in the vocabulary.
        """
        return {
            "activations": self.longest * token_bytes,
            "logits": self.targets * vocabulary * FLOAT,
            "cached prefix": self.prefix_length * state_bytes,
        }


def expected(model: LanguageModel, requests: Sequence[Request]) -> Workload:
    """The work of a model for distinct requests that fit the context length, by the plan of a run.

    The requests themselves are not counted.
    """
    scored = [request for request in requests if isinstance(request, ScoreRequest)]
    generated = [request for request in requests if isinstance(request, GenerateRequest)]
    work = Workload(
        scored=sum(len(request.tokens) - request.boundary for request in scored),
        generated=sum(request.most_tokens for request in generated),
        context=max((request.context for request in requests), default=0),
    )
    plans = [model.plan(each) for each in (scored, generated) if each]
    return sum((Workload(**{name: getattr(plan, name) for name in PLANNED}) for plan in plans), start=work)
