"""Checks that must hold for every task, made on all its examples, without a model or with its tokenizer only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from icl_eval.demos import Pool
from icl_eval.errors import IclEvalError, PromptError, counted
from icl_eval.models import ControlTokens, LanguageModel
from icl_eval.prompts import FittedPrompt, Prompt, PromptText, Scored, assemble, doubled_space, fit, split_tokens
from icl_eval.tasks import Example, Source, Task

SEED = 0
WITH_DRAWS = 250  # number of examples, spread over the split, that are checked with all numbers of demonstrations


def check_task(
    task: Task, source: Source | None = None, shots: Sequence[int] = (0, 1, 4), model: LanguageModel | None = None
) -> None:
    """Render every example with every prompt, as a query and as a demonstration, and check the results.

    Every example is rendered with the smallest number of shots, and it is checked that there are enough demonstrations
    for the largest. `WITH_DRAWS` examples are rendered with all numbers of shots.

    Args:
        task: the task.
        source: where its records are, if the task does not contain them.
        shots: numbers of demonstrations; ignored for a task without demonstrations.
        model: a model whose tokenization is checked, too; it may differ for other models.

    Raises:
        AssertionError: a check failed; the message names the task, the prompt and the example.
    """
    records = source or task.source
    if records is None:
        raise AssertionError(f"{task.name} does not contain records; pass a source")
    try:
        counts = sorted(set(shots)) if task.definition.splits.demonstrations is not None else [0]
        _Check(task, records, counts, model).run()
    except IclEvalError as error:
        raise AssertionError(f"{task.name}: {error}") from error


class _Check:
    def __init__(self, task: Task, source: Source, shots: list[int], model: LanguageModel | None) -> None:
        task = task.with_protocol({"encoder": None})  # the checks do not depend on similarities
        self.task, self.shots, self.model = task, shots, model
        self.controls = ControlTokens() if model is None else model.controls
        self.examples = task.evaluation(source)
        self.candidates = candidates = task.demonstrations(source)
        self.pool = Pool.of(task, candidates)
        options = task.definition.options
        self.options_are_data = isinstance(options, str) or any("{{" in option for option in options or ())

    def run(self) -> None:
        if self.task.definition.answer != "choice":
            for prompt in self.task.prompts.values():
                prompt.check_query_is_unsolved()
        for candidate in self.candidates:
            where = f"{self.task.name}, demonstration {candidate.id!r}"
            if not candidate.gold:
                raise AssertionError(f"{where} has no right answer to show")
            _check_labels(candidate, where)
            for prompt in self.task.prompts.values():
                self._demonstration(prompt, candidate)
        step = max(1, len(self.examples) // WITH_DRAWS)
        for index, example in enumerate(self.examples):
            where = f"{self.task.name}, example {example.id!r}"
            _check_labels(example, where)
            if not example.gold and self.task.definition.answer != "text":
                raise AssertionError(f"{where} has no right option")
            self.pool.check(example, self.shots[-1])
            counts = self.shots if index % step == 0 else self.shots[:1]
            drawn = self._check_draws(example, counts)
            for style, prompt in self.task.prompts.items():
                where = f"{self.task.name}, prompt {style!r}, example {example.id!r}"
                demonstrations = [self._demonstration(prompt, each) for each in drawn]
                for count in counts:
                    text = self._assembled(prompt, example, demonstrations[:count])
                    self._check_prompt(text, example, where, count)

    def _check_draws(self, example: Example, counts: Sequence[int]) -> list[Example]:
        """Check the draws of an example for these numbers of shots; return the largest one."""
        where = f"{self.task.name}, example {example.id!r}"
        draws = [self.pool.draw(example, count, SEED) for count in counts]
        for each in draws[-1]:
            same_record = self.task.shares_split and each.id == example.id
            may_repeat = self.task.definition.protocol.repeat
            same_question = not may_repeat and self.task.question_key(each) == self.task.question_key(example)
            same_passage = self.pool.protocol.draw == "per_group" and each.group == example.group
            is_itself = same_record or same_question or same_passage
            if is_itself:
                raise AssertionError(f"{where} is among its own demonstrations")
        for count, draw in zip(counts, draws, strict=True):
            prefix = [each.id for each in draws[-1][:count]]
            if [each.id for each in draw] != prefix:
                raise AssertionError(f"{where}: the {count}-shot draw is not a prefix of the larger one")
        return draws[-1]

    def _check_prompt(self, text: PromptText, example: Example, where: str, shots: int) -> None:
        if self.task.definition.answer == "choice":
            _check_text(text, example, where, options_are_data=self.options_are_data)
            if self.model is not None:
                _check_tokens(_fitted(self.model, text, where), text, f"{where}, {counted(shots, 'shot')}")
            return
        _check_context(text.context(0), text.queries[0], where)
        _check_space(example.options[0], text.answers[0], where)
        if self.model is not None and self.task.definition.answer == "text":  # a document may exceed the window
            _fitted(self.model, replace(text, queries=text.queries[:1], answers=text.answers[:1]), where)

    def _assembled(self, prompt: Prompt, example: Example, demonstrations: list[str]) -> PromptText:
        fields, options = self.controls.mark((example.fields, example.options))
        try:
            return assemble(prompt, fields, options, demonstrations)
        except PromptError as error:
            raise PromptError(f"{error.message} (example {example.id!r})", error.path, error.line) from error

    def _demonstration(self, prompt: Prompt, candidate: Example) -> str:
        fields, options = self.controls.mark((candidate.fields, candidate.options))
        try:
            return prompt.demonstration(fields, options, candidate.gold[0])
        except PromptError as error:
            raise PromptError(f"{error.message} (demonstration {candidate.id!r})", error.path, error.line) from error


def _fitted(model: LanguageModel, text: PromptText, where: str) -> FittedPrompt:
    def split(texts: list[tuple[str, str]]) -> list[Scored]:
        return split_tokens(model.encode, texts, model.start, model.fallback)

    try:
        return fit(text, split, model.window)
    except IclEvalError as error:
        raise AssertionError(f"{where}: {error}") from error


def _check_labels(example: Example, where: str) -> None:
    if not example.options:
        raise AssertionError(f"{where} has no options")
    for index in example.gold:
        if not 0 <= index < len(example.options):
            raise AssertionError(f"{where}: label {index} of {counted(len(example.options), 'option')}")


def _check_text(text: PromptText, example: Example, where: str, *, options_are_data: bool) -> None:
    """Check that each option has a different text; a record may contain the same option twice, as some of MMLU do."""
    read: dict[tuple[str, str], str] = {}
    for index, option in enumerate(example.options):
        context = text.context(index)
        _check_context(context, text.queries[index], where)
        if not text.answers[index].strip():
            raise AssertionError(f"{where}: the answer for option {option!r} is empty")
        _check_space(option, text.answers[index], where)
        reads = context, text.answers[index]
        twin = read.get(reads)
        if twin is not None and not (options_are_data and twin == option):
            raise AssertionError(f"{where}: the options {twin!r} and {option!r} have the same text in the prompt")
        read[reads] = option
    if len(set(text.queries)) > 1 and len(set(text.answers)) > 1:  # partial evaluation: the options stand in the query
        raise AssertionError(f"{where}: queries differ between options, and so do the answers scored")


def _check_space(option: str, answer: str, where: str) -> None:
    if problem := doubled_space(option, answer):
        raise AssertionError(f"{where}: {problem}")


def _check_context(context: str, query: str, where: str) -> None:
    whole = not query  # a document without a prompt follows the separator
    clean = not context[-1:].isspace() or context.endswith("\n")  # chat templates end with a line break
    if not (whole or clean):
        raise AssertionError(f"{where}: the context ends in whitespace, which belongs to the answer")


def _check_tokens(fitted: FittedPrompt, text: PromptText, where: str) -> None:
    first, *others = fitted.options
    if not all(option.continuation for option in fitted.options):
        raise AssertionError(f"{where}: an answer has no tokens")
    if len(set(text.queries)) > 1:  # partial evaluation: the options stand in the context
        if any(option.continuation != first.continuation for option in others):
            raise AssertionError(f"{where}: queries differ between options, and so do the tokens scored")
    elif any(option.context != first.context for option in others):
        raise AssertionError(f"{where}: the options do not share the tokens of their context")
