"""The selection `mdl`: of several organisations of demonstrations, the one under which the model is surest.

Wu et al. 2023 (arXiv 2212.10375) call the demonstrations of a query and their order its organisation. They take the one
with the least description length of the answer, `-sum p(y|c,x) ln p(y|c,x)` for a query x after an organisation c: the
entropy of the model's probabilities of the options y. The right option is not used.

The model first answers each query under all organisations, for every number of shots and every seed, with the first
labels and order of the run and in the plain format. Variants that differ in these show the same demonstrations.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from icl_eval.config import Overflow
from icl_eval.demos import ORGANIZATIONS, Pool
from icl_eval.engine import Engine
from icl_eval.errors import IclEvalError
from icl_eval.results.examples import ChoiceResult
from icl_eval.runs.cells import Prepared
from icl_eval.runs.collect import Queries, result_of
from icl_eval.runs.model import ChatForm
from icl_eval.scoring import label_entropies, score
from icl_eval.tasks import Example, Normalization

Key = tuple[str, int, int]  # the id of an example, the number of its demonstrations, and the seed


class Organizer:
    """Chooses the organisations of a run.

    Args:
        prepared: every task with each of its prompts.
        engine: of the model.
        overflow: what happens to prompts that do not fit.
        chat: how prompts become conversations.

    Attributes:
        prepared: the same, with the organisations that are chosen.
    """

    def __init__(
        self, prepared: Sequence[Prepared], engine: Engine, overflow: Overflow, chat: ChatForm | None = None
    ) -> None:
        self._engine, self._overflow, self._chat = engine, overflow, chat
        self._chosen: dict[Pool, dict[Key, int]] = {each.pool: {} for each in prepared if each.pool}
        self._errors: dict[Pool, IclEvalError] = {}
        self.prepared = [
            replace(each, choose=partial(self._demonstrations, each.pool)) if each.pool and needs_model(each) else each
            for each in prepared
        ]

    def choose(self, prepared: Sequence[Prepared], examples: Sequence[Example] | None = None) -> None:
        """Choose the organisations of all examples (or some) of each pool, in the first prompt that draws from it."""
        first = {each.pool: each for each in reversed(prepared) if each.pool and needs_model(each)}
        for pool, each in first.items():
            candidates = [replace(one, examples=examples or one.examples) for one in organizations(each)]
            queries = Queries(candidates, self._engine.model, self._overflow, self._chat)
            seen, least, chosen = Counter[Key](), dict[Key, float](), dict[Key, int]()
            for key, entropy in self._entropies(queries, each.record.normalization):
                if entropy < least.get(key, math.inf):
                    least[key], chosen[key] = entropy, seen[key]
                seen[key] += 1
            self._chosen[pool] |= {key: index for key, index in chosen.items() if seen[key] == ORGANIZATIONS}
            for error in queries.failed.values():
                self._errors[pool] = error

    def _entropies(self, queries: Queries, normalization: Normalization) -> Iterator[tuple[Key, float]]:
        """The entropy of each query, those of an example in the order of its organisations."""
        for window in queries.windows():
            answers = iter(self._engine.answer([request for query in window for request in query.requests]))
            for query in window:
                result = result_of(query, [next(answers) for _ in query.requests])
                if isinstance(result, ChoiceResult):
                    (entropy,) = label_entropies([[score(each, normalization) for each in result.options]])
                    yield (result.id, query.cell.shots, query.cell.seed), float(entropy)

    def _demonstrations(self, pool: Pool, example: Example, shots: int, seed: int) -> list[Example]:
        """Those of an example, in the organisation that was chosen.

        Raises:
            IclEvalError: an example of the pool cannot be evaluated.
        """
        found = self._chosen[pool].get((example.id, shots, seed))
        if found is None:
            raise self._errors[pool]
        return pool.draw(example, shots, seed, found)


def needs_model(one: Prepared) -> bool:
    """Whether the model chooses the demonstrations of a prompt."""
    return one.pool is not None and one.task.definition.protocol.select == "mdl"


def organizations(one: Prepared) -> list[Prepared]:
    """A prompt under each organisation, in the cells with demonstrations, without what calibrations need."""
    record = one.record.model_copy(update={"shots": tuple(number for number in one.record.shots if number)})
    plain = replace(one, describe=lambda: record, content_free=(), domain_premise="", per_shot_loss=False)
    return [_organized(plain, index) for index in range(ORGANIZATIONS)]


def with_organizations(prepared: Sequence[Prepared]) -> list[Prepared]:
    """Prompts; the first of each pool from which the model chooses is preceded by itself under every organisation."""
    pools: set[Pool | None] = set()
    found: list[Prepared] = []
    for each in prepared:
        if needs_model(each):
            found += organizations(each) if each.pool not in pools else []
            pools.add(each.pool)
            each = _organized(each, 0)
        found.append(each)
    return found


def _organized(one: Prepared, organization: int) -> Prepared:
    """A prompt with one organisation of its demonstrations."""
    pool = one.pool
    return replace(one, choose=partial(pool.draw, organization=organization)) if pool else one
