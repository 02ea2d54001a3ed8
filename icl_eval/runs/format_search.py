"""The best and the worst of many formats of a prompt within a budget of examples, by Thompson sampling.

The algorithm is that of FormatSpread (Sclar et al. 2024, arXiv 2310.11324, section 3.2): the score of a format has a
Beta distribution, and the next batch of examples goes to the format with the highest score in a draw from these, for
half of the budget; then to the one with the lowest. The prior is that of the authors' code, from the plain prompt.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

from icl_eval.engine import Engine
from icl_eval.errors import RunError, counted
from icl_eval.models import LanguageModel
from icl_eval.results.outcomes import Judge
from icl_eval.results.run_config import RunConfig
from icl_eval.runs.annotation import with_predictions
from icl_eval.runs.cells import Prepared
from icl_eval.runs.collect import result_of
from icl_eval.runs.model import ChatForm
from icl_eval.runs.organization import with_organizations
from icl_eval.runs.requests import RequestBuilder
from icl_eval.tasks import Example

BATCH = 20  # examples of a step, as in the authors' runs
PRIOR = 5.0  # wrong answers that the prior is worth
LEAST_RIGHT = 1.1  # right answers that it is worth at least, so that its density has a single peak

FOUND = 3  # formats that are evaluated on all examples: the prompt itself, the best and the worst

Evaluate = Callable[[int, int, int], int]  # format, first example, end -> how many of the examples are right


def searched(
    prepared: Sequence[Prepared], model: LanguageModel, engine: Engine, chat: ChatForm | None, config: RunConfig
) -> list[Prepared]:
    """The prompts, and the best and the worst format of each; without a budget all formats.

    Formats are compared in the plain cell with the most demonstrations and the first seed.

    Raises:
        RunError: answers of a task are neither right nor wrong.
        IclEvalError: a query cannot be encoded.
    """
    if config.budget is None:
        return list(prepared)
    found: list[Prepared] = []
    for formats in _by_prompt(prepared):
        builders = [RequestBuilder(each, model, config.overflow, chat) for each, *_ in formats]
        search = ThompsonSearch(
            len(formats),
            len(formats[0][0].examples),
            partial(_right, builders, engine),
            seed=(config.drawn_formats or (0, 0))[1],
        )
        best, worst = search.best_and_worst(config.budget, BATCH)
        how = f"of {len(formats)} by a search with {counted(search.spent, 'example')}"
        found += formats[0]
        for role, index in (("best", best), ("worst", worst)):
            found += [_named(each, role, f"{role} {how}") for each in formats[index] if index]
    return found


def before_choices(prepared: Sequence[Prepared], config: RunConfig) -> list[Prepared]:
    """A stand-in for choices of the model that are still to be made: at most what they and their results take.

    It has the candidates that the model answers for `vote-k`, and all organisations of demonstrations. Of a search it
    has as many formats as its result in all cells, and the examples that the search evaluates, in one cell, of as few
    formats as possible.
    """
    if config.budget is None:
        return with_predictions(with_organizations(prepared))
    found: list[Prepared] = []
    for formats in _by_prompt(prepared):
        found += chain.from_iterable(formats[:FOUND])
        (plain, *_), *others = formats
        found.append(_in_one_cell(plain, plain.examples))
        left = config.budget // 2 // BATCH * 2 * min(BATCH, len(plain.examples))
        for each, *_ in others:
            found += [_in_one_cell(each, each.examples[:left])] if left else []
            left -= min(left, len(each.examples))
    return with_predictions(with_organizations(found))


def _in_one_cell(one: Prepared, examples: Sequence[Example]) -> Prepared:
    """A prompt in the cell in which formats are compared: the most demonstrations and the first seed."""
    record = one.record.model_copy(update={"shots": one.record.shots[-1:], "seeds": one.record.seeds[:1]})
    return replace(one, examples=examples, describe=lambda: record)


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
        """The indices of two formats, found with a number of examples, half of them for each."""
        for sign in (1, -1):
            for _ in range(budget // 2 // batch):
                waiting = [index for index, seen in enumerate(self.seen) if seen < self._examples]
                draws = {index: sign * self._draw(index) for index in waiting}
                if draws:
                    self.spent += self._advance(max(draws, key=draws.__getitem__), batch)
        tried = [index for index, seen in enumerate(self.seen) if seen]
        value = {index: self.right[index] / self.seen[index] for index in tried}
        return max(tried, key=value.__getitem__), min(tried, key=value.__getitem__)

    def _draw(self, index: int) -> float:
        """A draw from the distribution of a format's score."""
        right, wrong = self.right[index], self.seen[index] - self.right[index]
        return self._random.betavariate(self._prior + right, PRIOR + wrong)

    def _advance(self, index: int, count: int) -> int:
        """Evaluate a format on its next examples; returns how many there were."""
        start, end = self.seen[index], min(self.seen[index] + count, self._examples)
        self.right[index] += self._evaluate(index, start, end)
        self.seen[index] = end
        return end - start


def _by_prompt(prepared: Sequence[Prepared]) -> list[list[list[Prepared]]]:
    """The variants of each format of each prompt of a task; first come those of the prompt itself."""
    found: dict[tuple[str, str], dict[str, list[Prepared]]] = {}
    for each in prepared:
        if each.prompt.format is None:
            prompt = each.task.name, each.prompt.style
        found.setdefault(prompt, {}).setdefault(each.prompt.style, []).append(each)
    return [[*formats.values()] for formats in found.values()]


def _named(each: Prepared, role: str, words: str) -> Prepared:
    """A format with the name of the best or the worst that was found, and how in its words."""
    record, style = each.record, each.prompt.style
    names = {name: getattr(record, name).replace(style, f"{style}-{role}", 1) for name in ("prompt", "selection")}
    found = record.model_copy(update={**names, "format": f"{record.format}, {words}"})
    return replace(each, describe=lambda: found)


def _right(builders: Sequence[RequestBuilder], engine: Engine, index: int, start: int, end: int) -> int:
    """How many of some examples of a format are right.

    Raises:
        RunError: an answer is neither right nor wrong.
    """
    builder, prepared, record = builders[index], builders[index].prepared, builders[index].prepared.record
    (cell,) = _in_one_cell(prepared, ()).record.cells
    judge = Judge(record)
    queries = [
        builder.build(cell, each, *prepared.draws(each, [cell.shots], cell.seed))
        for each in prepared.examples[start:end]
    ]
    answers = iter(engine.answer([request for query in queries for request in query.requests]))
    outcomes = [judge.outcome(result_of(query, [next(answers) for _ in query.requests])) for query in queries]
    if record.answer == "likelihood" or any(each.correct is None for each in outcomes):
        raise RunError(f"{record.task}: its answers are not right or wrong, so formats cannot be searched")
    return sum(bool(each.correct) for each in outcomes)
