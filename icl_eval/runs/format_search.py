"""The best and the worst of many formats of a prompt within a budget, by Thompson sampling.

The algorithm is that of FormatSpread (Sclar et al. 2024, arXiv 2310.11324, section 3.2): the score of a format has a
Beta distribution, and the next batch of examples goes to the format with the highest score in a draw from these, for
half of the budget; then to the one with the lowest. The prior is that of the authors' code, from the plain prompt.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Unpack

from icl_eval.config import RunOptions, takes_options
from icl_eval.engine import Engine
from icl_eval.errors import RunError
from icl_eval.results.folder import open_folder
from icl_eval.results.outcomes import Judge
from icl_eval.runs.collect import result_of
from icl_eval.runs.evaluate import planned
from icl_eval.runs.model import Model, chat_of
from icl_eval.runs.requests import RequestBuilder
from icl_eval.tasks import Library, Task

FORMATS, BATCH = 320, 20  # of the authors' runs
PRIOR = 5.0  # wrong answers that the prior is worth
LEAST_RIGHT = 1.1  # right answers that it is worth at least, so that its density has a single peak

Evaluate = Callable[[int, int, int], int]  # format, first example, end -> how many of the examples are right


@dataclass(frozen=True)
class FormatScore:
    """How many examples are right in a format, as far as it was evaluated."""

    name: str
    words: str
    right: int
    examples: int

    @property
    def value(self) -> float:
        """The share of right examples; nan if none was evaluated."""
        return self.right / self.examples if self.examples else math.nan


@dataclass(frozen=True)
class FormatSearch:
    """What a search found.

    Attributes:
        plain, best, worst: the prompt itself, and the best and the worst format found, on all examples.
        formats: all of them, by what was known of each when the search ended.
        spent: examples that the search evaluated, without these three.
    """

    plain: FormatScore
    best: FormatScore
    worst: FormatScore
    formats: tuple[FormatScore, ...]
    spent: int

    @property
    def spread(self) -> float:
        """The difference of the best and the worst format."""
        return self.best.value - self.worst.value

    def __str__(self) -> str:
        named = {"plain": self.plain, "best": self.best, "worst": self.worst}
        lines = [f"{word:6} {each.name:16} {each.value:.3f}  {each.words}".rstrip() for word, each in named.items()]
        tried = sum(each.examples > 0 for each in self.formats)
        spent = f"{tried} of {len(self.formats)} formats tried with {self.spent:,} examples"
        return "\n".join([*lines, f"spread {self.spread:.3f}; {spent}"])


@takes_options
def search_formats(
    model: Model,
    task: str | Task,
    budget: int,
    *,
    batch: int = BATCH,
    search_seed: int = 0,
    library: Library | None = None,
    **options: Unpack[RunOptions],
) -> FormatSearch:
    """Search the best and the worst format of a prompt, and evaluate these and the prompt itself on all examples.

    Args:
        model: as for `evaluate`.
        task: whose answers are right or wrong.
        budget: examples that the search may evaluate, half of them for the best format.
        batch: examples that are evaluated in one step.
        search_seed: of the draws.
        library: where the name of the task is looked up.
        options: of the run: one prompt, number of shots and seed, and `formats`, 320 by default. With a folder, `out`,
            its answers are kept and reused, by `evaluate` too.

    Raises:
        RunError: the run has several cells, or answers are not right or wrong.
        IclEvalError: as for `evaluate`.
    """
    options.setdefault("formats", FORMATS)
    run = planned(model, task, library, **options)
    if batch < 1 or budget < 2 * batch:
        raise RunError(
            f"the budget is {budget} examples, but a search takes at least two batches of {batch}, at least 1"
        )
    records = [each.record for each in run.prepared]
    if any(len(record.cells) > 1 for record in records) or sum(not record.format for record in records) > 1:
        raise RunError("a search takes one task, one prompt, one number of shots and one seed")
    model, examples = run.load(), len(run.prepared[0].examples)
    with open_folder(run.folder) as folder:
        engine, chat = Engine(model, folder.journal), chat_of(model, run.config)
        builders = [RequestBuilder(each, model, run.config.overflow, chat) for each in run.prepared]

        def evaluate(index: int, start: int, end: int) -> int:
            return _right(builders[index], engine, start, end)

        search = ThompsonSearch(len(records), examples, evaluate, search_seed)
        best, worst = search.best_and_worst(budget, batch)
    found = [
        FormatScore(record.prompt, record.format, *counts)
        for record, counts in zip(records, zip(search.right, search.seen, strict=True), strict=True)
    ]
    return FormatSearch(found[0], found[best], found[worst], tuple(found), search.spent)


class ThompsonSearch:
    """A search among formats that are evaluated on the same examples in the same order; the first is evaluated on all.

    Args:
        formats: how many there are.
        examples: how many each can be evaluated on.
        evaluate: how many examples are right, by format, first example and end.
        seed: of the draws.

    Attributes:
        right, seen: by format, right and evaluated examples.
        spent: examples that draws have led to.
    """

    def __init__(self, formats: int, examples: int, evaluate: Evaluate, seed: int) -> None:
        self.right, self.seen, self.spent = [0] * formats, [0] * formats, 0
        self._examples, self._evaluate, self._random = examples, evaluate, random.Random(seed)
        self._advance(0, examples)
        wrong = max(examples - self.right[0], 1)
        self._prior = max(self.right[0] / wrong * PRIOR, LEAST_RIGHT)

    def best_and_worst(self, budget: int, batch: int) -> tuple[int, int]:
        """Search with a number of examples, half of them for each, and evaluate the two that are found on all."""
        for sign in (1, -1):
            for _ in range(budget // 2 // batch):
                waiting = [index for index, seen in enumerate(self.seen) if seen < self._examples]
                draws = {index: sign * self._draw(index) for index in waiting}
                if draws:
                    self.spent += self._advance(max(draws, key=draws.__getitem__), batch)
        tried = [index for index, seen in enumerate(self.seen) if seen]
        value = {index: self.right[index] / self.seen[index] for index in tried}
        found = max(tried, key=value.__getitem__), min(tried, key=value.__getitem__)
        for index in found:
            self._advance(index, self._examples)
        return found

    def _draw(self, index: int) -> float:
        """A score of a format, from what is known of it."""
        right, wrong = self.right[index], self.seen[index] - self.right[index]
        return self._random.betavariate(self._prior + right, PRIOR + wrong)

    def _advance(self, index: int, count: int) -> int:
        """Evaluate a format on its next examples; returns how many there were."""
        start, end = self.seen[index], min(self.seen[index] + count, self._examples)
        self.right[index] += self._evaluate(index, start, end) if start < end else 0
        self.seen[index] = end
        return end - start


def _right(builder: RequestBuilder, engine: Engine, start: int, end: int) -> int:
    """How many of some examples of a format are right.

    Raises:
        RunError: an answer is neither right nor wrong.
    """
    prepared, (cell,) = builder.prepared, builder.prepared.record.cells
    pool, judge = prepared.pool, Judge(prepared.record)
    queries = [
        builder.build(cell, each, pool.draw(each, cell.shots, cell.seed) if pool else [])
        for each in prepared.examples[start:end]
    ]
    answers = iter(engine.answer([request for query in queries for request in query.requests]))
    outcomes = [judge.outcome(result_of(query, [next(answers) for _ in query.requests])) for query in queries]
    if any(each.correct is None for each in outcomes):
        raise RunError(f"{prepared.record.task}: its answers are not right or wrong, so formats cannot be compared")
    return sum(bool(each.correct) for each in outcomes)
