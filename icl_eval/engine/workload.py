"""The work of answering requests, counted before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from icl_eval.models import GenerateRequest, LanguageModel, Request, ScoreRequest

FLOAT = 4  # bytes of a logit
PLANNED = ("computed", "batches", "longest", "targets", "prefix_length", "attended")  # what a plan counts
LARGEST = ("longest", "targets", "prefix_length", "context")  # of several parts, the greatest counts


@dataclass(frozen=True, slots=True)
class Workload:
    """Counts of requests, tokens and batches, and the memory of the largest batch.

    Attributes:
        requests: all of them.
        known: those whose answer is in the journal.
        repeated: duplicates of other requests.
        one_by_one: input tokens of all but the known requests, each answered by itself, duplicates included.
        computed: tokens it computes by the plan: batches with padding, and what each cached prefix adds to the last.
        generated: most tokens that it may generate, for all samples together, each beam counted once.
        batches: calls of the model to score, without those that compute cached prefixes.
        longest: tokens of the largest batch.
        targets: scored tokens of the batch that has most.
        prefix_length: tokens of the longest cached prefix.
        context: tokens of the longest request to answer, including those it may generate.
        scored: tokens to score.
        attended: pairs of a computed token and one that it attends to, itself included, without padding.
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
        """The work of so many times as many queries: what is a largest value is as it was."""
        pairs = {each.name: getattr(self, each.name) for each in fields(self)}
        return Workload(**{name: n if name in LARGEST else round(n * factor) for name, n in pairs.items()})

    @property
    def sharing(self) -> float:
        """How many times fewer tokens are computed than one by one."""
        return self.one_by_one / self.computed if self.computed else 1.0

    def memory(self, token_bytes: int, state_bytes: int, vocabulary: int) -> dict[str, int]:
        """Bytes that the largest batch is expected to take, besides the weights."""
        return {
            "activations": self.longest * token_bytes,
            "logits": self.targets * vocabulary * FLOAT,
            "cached prefix": self.prefix_length * state_bytes,
        }


def expected(model: LanguageModel, requests: Sequence[Request]) -> Workload:
    """The work of a model for distinct requests that fit its window, planned as they will be run.

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
