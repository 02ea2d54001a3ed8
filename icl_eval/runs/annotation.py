"""The selection `vote-k`: which candidates to annotate, so that demonstrations for every query are among them.

Su et al. 2022 (arXiv 2209.01975) select a tenth of the annotated candidates by votes. With these as demonstrations, the
model answers all other candidates. Its confidence is the mean log-probability of the tokens of its answer: of the
option that it chooses, or of the text that it generates by greedy search. The rest is selected by votes among
candidates of similar confidence. Only the labels of annotated candidates are used.

The model answers candidates with the first prompt, labels and order of the run, once for all numbers of shots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from icl_eval.config import Overflow
from icl_eval.demos import Annotation, Pool
from icl_eval.engine import Engine
from icl_eval.errors import IclEvalError
from icl_eval.models import Answer, GenerateAnswer
from icl_eval.results.examples import ChoiceResult
from icl_eval.runs.cells import Prepared
from icl_eval.runs.collect import Queries, result_of
from icl_eval.runs.model import ChatForm
from icl_eval.runs.requests import EncodedQuery
from icl_eval.scoring import rank, score
from icl_eval.tasks import Example, Normalization
from icl_eval.values import VOTE_K

GREEDY = {"beams": 1, "samples": 1, "temperature": 0, "top_p": 1}

Annotated = dict[int, NDArray[np.intp]]  # by seed, the numbers of the annotated candidates of a pool


def annotated(
    prepared: Sequence[Prepared], engine: Engine, overflow: Overflow, chat: ChatForm | None = None
) -> list[Prepared]:
    """Replace the demonstrations of prompts with `vote-k` by those that it selects, after the model has answered."""
    chosen: dict[Pool, Annotated | IclEvalError] = {}
    for each in prepared:
        if each.pool and needs_annotation(each) and each.pool not in chosen:
            chosen[each.pool] = _annotated(each, engine, overflow, chat)
    return [
        replace(each, choose=partial(_demonstrations, each.pool, chosen[each.pool]))
        if each.pool and each.pool in chosen
        else each
        for each in prepared
    ]


def with_predictions(prepared: Sequence[Prepared]) -> list[Prepared]:
    """Prompts; the first of each pool with `vote-k` is preceded by the candidates that the model answers."""
    pools: set[Pool | None] = set()
    found: list[Prepared] = []
    for each in prepared:
        if needs_annotation(each) and each.pool not in pools:
            pools.add(each.pool)
            found += [_predictions(each, annotation, seed) for seed, annotation in _annotations(each)]
        found.append(each)
    return found


def needs_annotation(one: Prepared) -> bool:
    """Whether `vote-k` selects the demonstrations of a prompt."""
    return one.pool is not None and one.pool.protocol.selection == VOTE_K


def _annotated(one: Prepared, engine: Engine, overflow: Overflow, chat: ChatForm | None) -> Annotated | IclEvalError:
    """The annotated candidates of each seed, or the error of a candidate that the model cannot answer."""
    found: Annotated = {}
    for seed, annotation in _annotations(one):
        queries = Queries([_predictions(one, annotation, seed)], engine.model, overflow, chat)
        confidence = {
            query.example.id: _confidence(query, answers, one.record.normalization)
            for window in queries.windows()
            for query, answers in _answered(window, engine)
        }
        for error in queries.failed.values():
            return error
        found[seed] = annotation.by_confidence(confidence)
    return found


def _annotations(one: Prepared) -> Iterator[tuple[int, Annotation]]:
    """The candidates of each seed; of the first one, if all have the same."""
    if one.pool is not None:
        seeds = one.record.seeds if one.pool.seeds_differ else one.record.seeds[:1]
        yield from ((seed, one.pool.annotation(seed)) for seed in seeds)


def _predictions(one: Prepared, annotation: Annotation, seed: int) -> Prepared:
    """The candidates that the model answers, as queries of a prompt after those that are annotated first."""
    first = annotation.by_votes[: annotation.first]
    record = one.record.model_copy(update={"shots": (len(first),), "seeds": (seed,)})

    def nearest(query: Example, _shots: int, seed: int) -> list[Example]:
        return one.pool.draw_most(query, seed, first) if one.pool else []

    return replace(
        one,
        task=one.task.with_decoding(GREEDY),
        examples=annotation.others,
        shots=record.shots,
        describe=lambda: record,
        per_shot_loss=False,
        domain_premise="",
        content_free=(),
        choose=nearest,
    )


def _answered(window: Sequence[EncodedQuery], engine: Engine) -> Iterator[tuple[EncodedQuery, list[Answer]]]:
    answers = iter(engine.answer([request for query in window for request in query.requests]))
    return ((query, [next(answers) for _ in query.requests]) for query in window)


def _confidence(query: EncodedQuery, answers: Sequence[Answer], normalization: Normalization) -> float:
    """The mean log-probability of the tokens that the model answers with, in nats."""
    result = result_of(query, answers)
    if isinstance(result, ChoiceResult):
        chosen = result.options[rank([score(each, normalization) for each in result.options]).chosen]
        return fmean(chosen.logprobs)
    (text,) = (each for each in answers if isinstance(each, GenerateAnswer))
    return text.scores[0] / max(text.tokens[0], 1)


def _demonstrations(
    pool: Pool, found: Annotated | IclEvalError, query: Example, shots: int, seed: int
) -> list[Example]:
    """The demonstrations of a query, drawn from the annotated candidates.

    Raises:
        IclEvalError: a candidate could not be answered.
    """
    if isinstance(found, IclEvalError):
        raise found
    annotated = found[seed] if pool.seeds_differ else next(iter(found.values()))
    return pool.draw(query, shots, seed, annotated=annotated)
