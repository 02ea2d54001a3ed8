"""Demonstrations that depend on the model's answers: the selections `mdl` and `vote-k`.

`mdl` (Wu et al. 2023, arXiv 2212.10375) chooses one of several organisations of a query's demonstrations, which are
a set of demonstrations and their order. It takes the one that minimises the description length of the answer,
`-sum p(y|c,x) ln p(y|c,x)` for a query x after an organisation c. This is the entropy of the model's probabilities of
the options y, so the right option is not used. The model first answers each query under all organisations, for every
number of shots and every seed, with the first labels and order of the run and in the plain format. Variants of these
use the same demonstrations.

`vote-k` (Su et al. 2022, arXiv 2209.01975) chooses which candidates to annotate. A tenth of them is selected by votes.
With these as demonstrations, the model answers all other candidates. Its confidence is the mean log-probability of the
tokens of its answer, which is the option it chooses or the text it generates by greedy search. The other candidates
are selected by votes among candidates of similar confidence. Only the labels of annotated candidates are used. The
model answers with the first prompt, labels and order of the run, once for all numbers of shots.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from icl_eval.config import Overflow
from icl_eval.demos import ORGANIZATIONS, Annotation, Pool
from icl_eval.engine import Engine
from icl_eval.errors import IclEvalError
from icl_eval.models import Answer, GenerateAnswer
from icl_eval.results.examples import ChoiceResult
from icl_eval.runs.cells import PreparedTask
from icl_eval.runs.collect import Queries, requests_of, result_of, with_answers
from icl_eval.runs.model import ChatForm
from icl_eval.runs.requests import EncodedQuery
from icl_eval.scoring import label_entropies, rank, score
from icl_eval.tasks import Example, Normalization
from icl_eval.values import VOTE_K

GREEDY = {"beams": 1, "samples": 1, "temperature": 0, "top_p": 1}

Key = tuple[str, int, int]  # the id of an example, the number of its demonstrations, and the seed
Annotated = dict[int, NDArray[np.intp]]  # by seed, the indices of the annotated candidates of a pool


def with_model_answers(prepared: Sequence[PreparedTask]) -> list[PreparedTask]:
    """The tasks of a run, preceded by those that the model answers in order to select demonstrations.

    These are counted as work of the run before the model has chosen anything.
    """
    pools: set[Pool] = set()
    tasks: list[PreparedTask] = []
    for each in prepared:
        is_first = each.pool is not None and each.pool not in pools
        if each.pool is not None and (uses_mdl(each) or uses_vote_k(each)):
            pools.add(each.pool)
        if uses_vote_k(each) and is_first:
            tasks += [_candidates(each, annotation, seed) for seed, annotation in _annotations(each)]
        if uses_mdl(each):
            tasks += _organizations(each) if is_first else []
            each = _organized(each, 0)
        tasks.append(each)
    return tasks


class Organizer:
    """Chooses organisations of demonstrations for `mdl`.

    Args:
        prepared: every task with each of its prompts.
        engine: computes the model's answers.
        overflow: what happens to prompts that do not fit.
        chat: how prompts become conversations; None for plain text.

    Attributes:
        prepared: the same tasks; those with `mdl` use the organisations that `choose` has chosen.
    """

    def __init__(
        self, prepared: Sequence[PreparedTask], engine: Engine, overflow: Overflow, chat: ChatForm | None = None
    ) -> None:
        self._engine, self._overflow, self._chat = engine, overflow, chat
        self._chosen: dict[Pool, dict[Key, int]] = {each.pool: {} for each in prepared if each.pool}
        self._errors: dict[Pool, IclEvalError] = {}
        self.prepared = [
            replace(each, choose=partial(self._demonstrations, each.pool)) if each.pool and uses_mdl(each) else each
            for each in prepared
        ]

    def choose(self, prepared: Sequence[PreparedTask], examples: Sequence[Example] | None = None) -> None:
        """Choose an organisation for every example and cell, using the first prompt of each pool.

        Args:
            prepared: the tasks, with each of their prompts.
            examples: the examples to choose for; all by default.
        """
        first = {each.pool: each for each in reversed(prepared) if each.pool and uses_mdl(each)}
        for pool, task in first.items():
            candidates = [replace(each, examples=examples or each.examples) for each in _organizations(task)]
            queries = Queries(candidates, self._engine.model, self._overflow, self._chat)
            seen, least, chosen = Counter[Key](), dict[Key, float](), dict[Key, int]()
            for key, entropy in self._entropies(queries, task.record.normalization):
                if entropy < least.get(key, math.inf):
                    least[key], chosen[key] = entropy, seen[key]
                seen[key] += 1
            self._chosen[pool] |= {key: index for key, index in chosen.items() if seen[key] == ORGANIZATIONS}
            for error in queries.failed.values():
                self._errors[pool] = error

    def _entropies(self, queries: Queries, normalization: Normalization) -> Iterator[tuple[Key, float]]:
        """The entropy of each query in nats; the queries of an example are in the order of its organisations."""
        for window in queries.windows():
            for query, answers in with_answers(window, self._engine.answer(requests_of(window))):
                result = result_of(query, answers)
                if isinstance(result, ChoiceResult):
                    (entropy,) = label_entropies([[score(each, normalization) for each in result.options]])
                    yield (result.id, query.cell.shots, query.cell.seed), float(entropy)

    def _demonstrations(self, pool: Pool, example: Example, shots: int, seed: int) -> list[Example]:
        """The demonstrations of an example in the chosen organisation.

        Raises:
            IclEvalError: an example of the pool cannot be evaluated.
        """
        index = self._chosen[pool].get((example.id, shots, seed))
        if index is None:
            raise self._errors[pool]
        return pool.draw(example, shots, seed, index)


def uses_mdl(prepared: PreparedTask) -> bool:
    """Whether `mdl` selects the demonstrations."""
    return prepared.pool is not None and prepared.task.definition.protocol.select == "mdl"


def _organizations(prepared: PreparedTask) -> list[PreparedTask]:
    """The task under each organisation, in its cells with demonstrations and without requests for calibrations."""
    few_shot = prepared.with_record(shots=tuple(number for number in prepared.record.shots if number))
    plain = replace(few_shot, content_free=(), domain_premise="", per_shot_loss=False)
    return [_organized(plain, index) for index in range(ORGANIZATIONS)]


def _organized(prepared: PreparedTask, organization: int) -> PreparedTask:
    """The task with one organisation, by index, of the demonstrations of each query."""
    pool = prepared.pool
    return replace(prepared, choose=partial(pool.draw, organization=organization)) if pool else prepared


def with_annotation(
    prepared: Sequence[PreparedTask], engine: Engine, overflow: Overflow, chat: ChatForm | None = None
) -> list[PreparedTask]:
    """The tasks of a run; those with `vote-k` draw from the candidates that it selects, using the model's answers."""
    annotated: dict[Pool, Annotated | IclEvalError] = {}
    for each in prepared:
        if each.pool and uses_vote_k(each) and each.pool not in annotated:
            annotated[each.pool] = _annotated(each, engine, overflow, chat)
    return [
        replace(each, choose=partial(_demonstrations, each.pool, annotated[each.pool]))
        if each.pool and each.pool in annotated
        else each
        for each in prepared
    ]


def uses_vote_k(prepared: PreparedTask) -> bool:
    """Whether `vote-k` selects the demonstrations."""
    return prepared.pool is not None and prepared.pool.protocol.selection == VOTE_K


def _annotated(
    prepared: PreparedTask, engine: Engine, overflow: Overflow, chat: ChatForm | None
) -> Annotated | IclEvalError:
    """The annotated candidates for each seed, or the error if the model cannot answer a candidate."""
    annotated: Annotated = {}
    for seed, annotation in _annotations(prepared):
        queries = Queries([_candidates(prepared, annotation, seed)], engine.model, overflow, chat)
        confidence = {
            query.example.id: _confidence(query, answers, prepared.record.normalization)
            for window in queries.windows()
            for query, answers in with_answers(window, engine.answer(requests_of(window)))
        }
        for error in queries.failed.values():
            return error
        annotated[seed] = annotation.by_confidence(confidence)
    return annotated


def _annotations(prepared: PreparedTask) -> Iterator[tuple[int, Annotation]]:
    """Each seed and its candidates; only the first seed if all seeds have the same candidates."""
    if prepared.pool is not None:
        seeds = prepared.record.seeds if prepared.pool.seeds_differ else prepared.record.seeds[:1]
        yield from ((seed, prepared.pool.annotation(seed)) for seed in seeds)


def _candidates(prepared: PreparedTask, annotation: Annotation, seed: int) -> PreparedTask:
    """The candidates that the model answers, as queries whose demonstrations are those selected by votes."""
    first = annotation.by_votes[: annotation.first]
    shots = (len(first),)

    def nearest(query: Example, _shots: int, seed: int) -> list[Example]:
        return prepared.pool.draw_most(query, seed, first) if prepared.pool else []

    return replace(
        prepared.with_record(shots=shots, seeds=(seed,)),
        task=prepared.task.with_decoding(GREEDY),
        examples=annotation.others,
        shots=shots,
        per_shot_loss=False,
        domain_premise="",
        content_free=(),
        choose=nearest,
    )


def _confidence(query: EncodedQuery, answers: Sequence[Answer], normalization: Normalization) -> float:
    """The mean log-probability, in nats, of the tokens of the model's answer."""
    result = result_of(query, answers)
    if isinstance(result, ChoiceResult):
        chosen = result.options[rank([score(each, normalization) for each in result.options]).chosen]
        return fmean(chosen.logprobs)
    (text,) = (each for each in answers if isinstance(each, GenerateAnswer))
    return text.scores[0] / max(text.tokens[0], 1)


def _demonstrations(
    pool: Pool, annotated: Annotated | IclEvalError, query: Example, shots: int, seed: int
) -> list[Example]:
    """The demonstrations of a query, drawn from the annotated candidates.

    Raises:
        IclEvalError: the model could not answer a candidate.
    """
    if isinstance(annotated, IclEvalError):
        raise annotated
    candidates = annotated[seed] if pool.seeds_differ else next(iter(annotated.values()))
    return pool.draw(query, shots, seed, annotated=candidates)
