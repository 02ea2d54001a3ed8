"""Search for the best and the worst of many formats of a prompt within a budget of examples, by Thompson sampling.

The algorithm is FormatSpread (Sclar et al. 2024, arXiv 2310.11324, section 3.2). The score of each format has a Beta
distribution. In each step, a score is drawn from every distribution, and the format with the highest draw is evaluated
on the next batch of examples. After half of the budget, it is the format with the lowest draw. The prior is that of the
authors' code and depends on the score of the plain prompt.
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
from icl_eval.runs.cells import PreparedTask
from icl_eval.runs.collect import requests_of, result_of, with_answers
from icl_eval.runs.model import ChatForm
from icl_eval.runs.requests import RequestBuilder
from icl_eval.runs.selection import with_model_answers
from icl_eval.tasks import Example

BATCH = 20  # examples of a step, as in the paper
PRIOR_WRONG = 5.0  # wrong answers in the prior
MIN_PRIOR_RIGHT = 1.1  # least number of right answers in the prior, so that its density has a single peak

KEPT = 3  # formats that are evaluated on all examples: the prompt itself, the best and the worst

Evaluate = Callable[[int, int, int], int]  # format, start, end -> how many of examples[start:end] are right


def searched(
    prepared: Sequence[PreparedTask], model: LanguageModel, engine: Engine, chat: ChatForm | None, config: RunConfig
) -> list[PreparedTask]:
    """Each prompt with its best and its worst format; without a budget, with all of its formats.

    Formats are compared in one cell, with the most demonstrations and the first seed.

    Raises:
        RunError: the answers of a task are not right or wrong.
        IclEvalError: a query cannot be encoded.
    """
    if config.budget is None:
        return list(prepared)
    found: list[PreparedTask] = []
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


def before_choices(prepared: Sequence[PreparedTask], config: RunConfig) -> list[PreparedTask]:
    """Tasks whose requests are an upper bound of those of a run in which the model still has to make choices.

    They include the candidates that the model answers for `vote-k`, and all organisations for `mdl`. For a search they
    include three formats in all cells, which stand for its result, and as many examples in one cell as the search
    evaluates, in as few formats as possible.
    """
    if config.budget is None:
        return with_model_answers(prepared)
    found: list[PreparedTask] = []
    for formats in _by_prompt(prepared):
        found += chain.from_iterable(formats[:KEPT])
        (plain, *_), *others = formats
        found.append(_in_one_cell(plain, plain.examples))
        left = config.budget // 2 // BATCH * 2 * min(BATCH, len(plain.examples))
        for each, *_ in others:
            found += [_in_one_cell(each, each.examples[:left])] if left else []
            left -= min(left, len(each.examples))
    return with_model_answers(found)


def _in_one_cell(prepared: PreparedTask, examples: Sequence[Example]) -> PreparedTask:
    """A task in the cell in which formats are compared: the most demonstrations and the first seed."""
    cell = prepared.with_record(shots=prepared.record.shots[-1:], seeds=prepared.record.seeds[:1])
    return replace(cell, examples=examples)


class ThompsonSearch:
    """Thompson sampling of formats, which are evaluated on the same examples in the same order.

    The first format, which is the prompt itself, is evaluated on all examples before the search.

    Args:
        formats: number of formats.
        examples: number of examples.
        evaluate: returns how many examples of a range a format answers right.
        seed: of the draws.

    Attributes:
        right, seen: number of right and of evaluated examples of each format.
        spent: number of examples that the search has evaluated.
    """

    def __init__(self, formats: int, examples: int, evaluate: Evaluate, seed: int) -> None:
        self.right, self.seen, self.spent = [0] * formats, [0] * formats, 0
        self._examples, self._evaluate, self._random = examples, evaluate, random.Random(seed)
        self._advance(0, examples)
        wrong = max(examples - self.right[0], 1)
        self._prior = max(self.right[0] / wrong * PRIOR_WRONG, MIN_PRIOR_RIGHT)

    def best_and_worst(self, budget: int, batch: int) -> tuple[int, int]:
        """Indices of the best and the worst format, with half of the budget spent on each search.

        Args:
            budget: number of examples to evaluate.
            batch: number of examples of a step.
        """
        for sign in (1, -1):
            for _ in range(budget // 2 // batch):
                open_formats = [index for index, seen in enumerate(self.seen) if seen < self._examples]
                draws = {index: sign * self._draw(index) for index in open_formats}
                if draws:
                    self.spent += self._advance(max(draws, key=draws.__getitem__), batch)
        tried = [index for index, seen in enumerate(self.seen) if seen]
        value = {index: self.right[index] / self.seen[index] for index in tried}
        return max(tried, key=value.__getitem__), min(tried, key=value.__getitem__)

    def _draw(self, index: int) -> float:
        """A draw from the Beta distribution of a format's score."""
        right, wrong = self.right[index], self.seen[index] - self.right[index]
        return self._random.betavariate(self._prior + right, PRIOR_WRONG + wrong)

    def _advance(self, index: int, count: int) -> int:
        """Evaluate a format on its next `count` examples; returns how many were left."""
        start, end = self.seen[index], min(self.seen[index] + count, self._examples)
        self.right[index] += self._evaluate(index, start, end)
        self.seen[index] = end
        return end - start


def _by_prompt(prepared: Sequence[PreparedTask]) -> list[list[list[PreparedTask]]]:
    """For each prompt, its formats with their variants; the first format is the prompt itself."""
    found: dict[tuple[str, str], dict[str, list[PreparedTask]]] = {}
    for each in prepared:
        if each.prompt.format is None:
            prompt = each.task.name, each.prompt.style
        found.setdefault(prompt, {}).setdefault(each.prompt.style, []).append(each)
    return [[*formats.values()] for formats in found.values()]


def _named(prepared: PreparedTask, role: str, words: str) -> PreparedTask:
    """A format that is named after its role, `best` or `worst`, with a description of the search."""
    record, style = prepared.record, prepared.prompt.style
    names = {name: getattr(record, name).replace(style, f"{style}-{role}", 1) for name in ("prompt", "selection")}
    return prepared.with_record(**names, format=f"{record.format}, {words}")


def _right(builders: Sequence[RequestBuilder], engine: Engine, index: int, start: int, end: int) -> int:
    """The number of examples[start:end] that a format answers right.

    Raises:
        RunError: the answers are not right or wrong.
    """
    builder, prepared, record = builders[index], builders[index].prepared, builders[index].prepared.record
    (cell,) = _in_one_cell(prepared, ()).record.cells
    judge = Judge(record)
    queries = [
        builder.build(cell, each, *prepared.draws(each, [cell.shots], cell.seed))
        for each in prepared.examples[start:end]
    ]
    answered = with_answers(queries, engine.answer(requests_of(queries)))
    outcomes = [judge.outcome(result_of(query, answers)) for query, answers in answered]
    if record.answer == "likelihood" or any(each.correct is None for each in outcomes):
        raise RunError(f"{record.task}: its answers are not right or wrong, so formats cannot be searched")
    return sum(bool(each.correct) for each in outcomes)
