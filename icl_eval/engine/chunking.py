"""Chunk requests for models that plan their own work: sorted by tokens, the same however many processes share them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from icl_eval.engine.partition import WorkItem, chunks
from icl_eval.engine.prefixes import new_tokens
from icl_eval.models import CountingModel, GenerateRequest, LanguageModel, Request, ScoreRequest

CHUNK = 2**14  # tokens of a chunk, at least
CHUNKS = 32  # at most: enough to balance the processes of a run, few enough that each is worth a plan

Share = Callable[[Sequence[WorkItem]], Sequence[int]]  # the indices of this process's items


def all_items(work: Sequence[WorkItem]) -> Sequence[int]:
    """The share of a single process."""
    return range(len(work))


def chunked(
    requests: Sequence[Request], costs: Callable[[Sequence[Any]], list[int]], share: Share = all_items
) -> Iterator[list[int]]:
    """The indices of the requests of each of this process's chunks, sorted by tokens."""
    order = sorted(range(len(requests)), key=lambda index: requests[index].tokens)
    weights = costs([requests[index] for index in order])
    found = chunks(weights, CHUNK, CHUNKS)
    for index in share([WorkItem(sum(weights[each.start : each.stop])) for each in found]):
        yield order[found[index].start : found[index].stop]


def prefill_costs(requests: Sequence[ScoreRequest]) -> list[int]:
    """Input tokens of each request."""
    return [request.input_length for request in requests]


def generation_costs(requests: Sequence[GenerateRequest]) -> list[int]:
    """Tokens that each prompt does not share with the one before, plus the most that may be generated after it."""
    new = new_tokens([request.tokens for request in requests])
    return [tokens + request.most_tokens for tokens, request in zip(new, requests, strict=True)]


def computed_tokens(model: LanguageModel, requests: Sequence[ScoreRequest]) -> int:
    """Tokens that a model which plans its own work computes for these requests."""
    if isinstance(model, CountingModel):
        return model.computed_tokens(requests)
    return sum(request.input_length for request in requests)
