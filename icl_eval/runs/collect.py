"""The first pass: the engine answers the queries of a run, and the results are written to the run folder."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, groupby
from types import MappingProxyType
from typing import Any

import numpy as np

from icl_eval.analysis.stopping import StoppingRule
from icl_eval.config import Overflow
from icl_eval.engine import Engine
from icl_eval.errors import IclEvalError
from icl_eval.metrics import is_unspaced
from icl_eval.models import Answer, LanguageModel, Request, ScoreAnswer, ScoreRequest, common_prefix
from icl_eval.results.examples import ChoiceResult, ExampleResult, LikelihoodResult, TextResult
from icl_eval.results.folder import RunFolder, WorkerFolder
from icl_eval.results.prompt_texts import PromptParts
from icl_eval.results.records import Failure
from icl_eval.runs.cells import PreparedTask
from icl_eval.runs.model import ChatForm
from icl_eval.runs.requests import EncodedQuery, RequestBuilder
from icl_eval.scoring import OptionResult
from icl_eval.tasks import Example

TokenDecoder = Callable[[Sequence[int]], tuple[str, ...]]
WINDOW_TOKENS = 2**20  # distinct tokens of a window, which bound the work that is planned together
HELD_TOKENS = 2**24  # tokens of all requests of a window, repeated ones included, which bound its memory


class Queries:
    """The encoded queries of a run, in windows.

    Args:
        prepared: every task with each of its prompts.
        model: the model whose tokenizer encodes them.
        overflow: what happens to prompts that do not fit.
        chat: how prompts become conversations; None for plain text.
        rules: stopping rules by task; empty if every example is evaluated.
        tick: called with the number of queries that were encoded since the last call.
        choose: called before a block of a task with a stopping rule is encoded, with the task's prompts and the block.
        window_tokens: most tokens of a window, where a prefix that the prompts of an example share counts once; about
            a million by default.

    Attributes:
        failed: the error of each (task, prompt) that cannot be evaluated; complete after the last window.
        control_names: names in records that reach the model as control tokens, not as text; complete after the last
            window.
    """

    def __init__(
        self,
        prepared: Sequence[PreparedTask],
        model: LanguageModel,
        overflow: Overflow,
        chat: ChatForm | None = None,
        rules: Mapping[str, StoppingRule] = MappingProxyType({}),
        tick: Callable[[int], None] = lambda _: None,
        choose: Callable[[Sequence[PreparedTask], Sequence[Example]], None] = lambda *_: None,
        *,
        window_tokens: int | None = None,
    ) -> None:
        self._prepared, self.model, self._overflow, self._chat, self._tick = prepared, model, overflow, chat, tick
        self.rules, self._choose, self._window_tokens = rules, choose, window_tokens or WINDOW_TOKENS
        self.failed: dict[tuple[str, str], IclEvalError] = {}
        self.control_names: set[str] = set()

    def windows(self) -> Iterator[list[EncodedQuery]]:
        """Windows of queries that the engine plans together, in order and without those of failed tasks.

        All cells of an example are in one window, so a learning curve costs little more than its largest point. With
        stopping rules, add the results of each window to the rule of its task before taking the next window.
        """
        if not self.rules:
            yield from self._windows(self._all(self._prepared))
            return
        for task, prepared in groupby(self._prepared, key=lambda each: each.task.name):
            prompts = list(prepared)
            for block in self.rules[task].blocks(self.failed):
                self._choose(prompts, block)
                yield from self._windows(self._all(prompts, block))

    def _windows(self, groups: Iterable[list[EncodedQuery]]) -> Iterator[list[EncodedQuery]]:
        window: list[EncodedQuery] = []
        tokens = held = 0
        for group in groups:
            new, kept = distinct_tokens(group), sum(query.tokens for query in group)
            if window and (tokens + new > self._window_tokens or held + kept > HELD_TOKENS):
                yield self._unfailed(window)
                window, tokens, held = [], 0, 0
            window += group
            tokens, held = tokens + new, held + kept
            self._tick(len(group))
            if tokens >= self._window_tokens:
                yield self._unfailed(window)
                window, tokens, held = [], 0, 0
        if window:
            yield self._unfailed(window)

    def failures(self) -> tuple[Failure, ...]:
        """The tasks that failed, without duplicates.

        Raises:
            IclEvalError: the first error, if every task failed.
        """
        if len(self.failed) == len({each.record.task_prompt for each in self._prepared}):
            raise next(iter(self.failed.values()))
        found = [
            Failure(task=each.task, selection=each.selection, reason=str(self.failed[each.task_prompt]))
            for each in (prepared.record for prepared in self._prepared)
            if each.task_prompt in self.failed
        ]
        return tuple(dict.fromkeys(found))

    def _unfailed(self, window: Sequence[EncodedQuery]) -> list[EncodedQuery]:
        return [query for query in window if query.cell.task_prompt not in self.failed]

    def _all(
        self, prepared: Sequence[PreparedTask], examples: Sequence[Example] | None = None
    ) -> Iterator[list[EncodedQuery]]:
        """The queries of tasks (on some examples), where those of an example and a seed are one list.

        If a query cannot be encoded, its task fails and the queries after it are left out. All prompts of the task that
        count towards the same scores fail together.
        """
        for _, variants in groupby(prepared, key=lambda each: (each.task.name, each.prompt.style)):
            builders = [RequestBuilder(each, self.model, self._overflow, self._chat) for each in variants]
            for seed in dict.fromkeys(seed for each in builders for seed in each.prepared.record.seeds):
                yield from self._of_seed(builders, seed, examples)
            self.control_names.update(*(each.control_names for each in builders))

    def _of_seed(
        self, builders: Sequence[RequestBuilder], seed: int, examples: Sequence[Example] | None
    ) -> Iterator[list[EncodedQuery]]:
        """The queries of all variants of a prompt for one seed, ordered by example so that they share prefixes."""
        left = [(each.prepared, each.of_seed(seed, examples)) for each in builders]
        while left:
            for prepared, queries in tuple(left):
                try:
                    found = [] if prepared.record.task_prompt in self.failed else next(queries, [])
                except IclEvalError as error:
                    self.failed |= dict.fromkeys(_with_same_scores(prepared, self._prepared), error)
                    found = []
                if found:
                    yield found
                else:
                    left = [each for each in left if each[1] is not queries]


def distinct_tokens(queries: Sequence[EncodedQuery]) -> int:
    """Number of tokens of the queries, without the prefix that each request shares with the request before it.

    Unconditional requests are not counted, because many queries have the same ones.
    """
    total, last = 0, np.empty(0, np.int32)
    for query in queries:
        for request in query.conditional or query.requests:
            tokens = np.frombuffer(request.tokens, dtype=np.int32)
            total += len(tokens) - common_prefix(last, tokens)
            last = tokens
    return total


def collect(queries: Queries, engine: Engine, folder: RunFolder | WorkerFolder) -> None:
    """Answer all queries, one window at a time, and write `examples.jsonl` and `prompts.jsonl`."""
    decode = token_decoder(queries.model)
    with folder.examples(queries.failed) as write, folder.prompts() as keep:
        for window in queries.windows():
            for query, answers in with_answers(window, engine.answer(requests_of(window))):
                result = result_of(query, answers)
                write(result)
                if queries.rules:
                    queries.rules[query.cell.task].add(result)
                keep(result, parts_of(query, decode))
            window.clear()  # before the next one is encoded


def stopping_rules(
    until: float | None, prepared: Sequence[PreparedTask], given: Mapping[str, Any], *, trust_remote_code: bool
) -> dict[str, StoppingRule]:
    """The stopping rule of each task by name; none without `until`.

    Raises:
        RunError: the scores of a task cannot be bounded.
    """
    by_task: dict[str, list[PreparedTask]] = defaultdict(list)
    for each in prepared if until is not None else ():
        by_task[each.record.task].append(each)
    return {
        name: StoppingRule(
            until or 0.0,
            [each.record for each in prompts],
            prompts[0].examples,
            prompts[0].whole,
            given,
            trust_remote_code=trust_remote_code,
        )
        for name, prompts in by_task.items()
    }


def requests_of(queries: Iterable[EncodedQuery]) -> list[Request]:
    """The requests of some queries, in order."""
    return [request for query in queries for request in query.requests]


def with_answers(
    queries: Iterable[EncodedQuery], answers: Iterable[Answer]
) -> Iterator[tuple[EncodedQuery, list[Answer]]]:
    """Each query with the answers to its requests."""
    remaining = iter(answers)
    return ((query, [next(remaining) for _ in query.requests]) for query in queries)


def _with_same_scores(failed: PreparedTask, prepared: Sequence[PreparedTask]) -> Iterator[tuple[str, str]]:
    """The (task, prompt) pairs that are one score with a failed one: a task can have another prompt for 0 shots."""
    for record in (each.record for each in prepared):
        if (record.task, record.selection) == (failed.record.task, failed.record.selection):
            yield record.task_prompt


def token_decoder(model: LanguageModel) -> TokenDecoder:
    """A cached function that decodes each token id by itself."""

    @cache
    def text(token: int) -> str:
        return model.decode([token])[0]

    return lambda tokens: tuple(map(text, tokens))


def parts_of(query: EncodedQuery, decode: TokenDecoder) -> PromptParts:
    """The texts and scored tokens of a query, as `prompts.jsonl` stores them."""
    text = query.text
    shown = text.ordered_demonstrations(query.shots)
    conversations = () if text.chat is None else tuple(text.contexts(query.shots))
    scored = [each for each in query.of_answers if isinstance(each, ScoreRequest)]
    if query.kind == "choice":
        scored = scored[: len(text.answers)]
    tokens = [decode(request.tokens[request.boundary :]) for request in scored]
    if query.kind == "likelihood":  # the windows of one text
        tokens = [tuple(chain.from_iterable(tokens))]
    return PromptParts(
        text.instruction,
        text.separator,
        shown,
        text.queries,
        text.answers,
        conversations,
        tuple(tokens),
        query.cell.seed if query.reads_by_seed else None,
    )


def result_of(query: EncodedQuery, answers: Sequence[Answer]) -> ExampleResult:
    """The stored result of a query and the answers to its requests."""
    example, of_demonstrations = query.example, answers[-1] if query.spans else None
    answers = answers[: len(query.of_answers)]
    common: dict[str, Any] = {
        "cell": query.cell,
        "id": example.id,
        "cluster": example.cluster,
        "group": example.group,
        "category": example.category,
        "shots": query.shots,
        "truncated": query.truncated,
        "demonstrations": query.demonstrations,
    }
    if isinstance(of_demonstrations, ScoreAnswer):
        common["demonstration_logprobs"] = tuple(
            sum(of_demonstrations.logprobs[begin:end]) for begin, end in query.spans
        )
    given: Any = answers  # answers of the kind that was requested
    if query.kind == "text":
        (text,) = given
        return TextResult(
            **common,
            references=example.options,
            generated=text.texts,
            finished=text.finished,
            scores=text.scores,
            right=bool(example.gold),
        )
    if query.kind == "likelihood":
        return LikelihoodResult(
            **common,
            parts=tuple(answer.logprobs for answer in given),
            greedy=all(answer.greedy for answer in given),
            words=len(example.options[0].split()),
            bytes=len(example.options[0].encode()),
            unspaced=is_unspaced(example.options[0]),
            means=tuple(answer.means for answer in given if answer.means),
            sds=tuple(answer.sds for answer in given if answer.means),
            zlib_bytes=len(zlib.compress(example.options[0].encode())),
        )
    contexts = [given[start : start + len(example.options)] for start in range(0, len(given), len(example.options))]
    domain = contexts.pop(2) if query.has_domain else []
    after, alone, *content_free = contexts
    options = tuple(
        OptionResult(
            text,
            after[index].logprobs,
            alone[index].logprobs,
            domain[index].logprobs if domain else (),
            tuple(context[index].logprobs for context in content_free),
        )
        for index, text in enumerate(query.text.answers)
    )
    return ChoiceResult(**common, gold=example.gold, grades=example.grades, names=example.options, options=options)
