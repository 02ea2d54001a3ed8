"""The texts that prompts are made of, each stored once in the run folder: `prompts.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

from icl_eval.errors import RunError
from icl_eval.results.examples import DAMAGED, ExampleResult
from icl_eval.results.files import write_errors
from icl_eval.results.records import Cell
from icl_eval.tasks.files import parse_json

T = TypeVar("T")
_TextKey = tuple[str, str, str, int | None]  # task, prompt, id, and the seed if the text depends on it

NAME = "prompts.jsonl"
AGAIN = "run the same command again to write it; no answer is recomputed"


@dataclass(frozen=True)
class PromptParts:
    """The texts of the prompt of an example in a cell.

    Attributes:
        instruction: stands first; may be empty.
        separator: stands between the others.
        demonstrations: those that fit the context, in the order of the prompt.
        queries: the query with each option; all are equal except in partial evaluation.
        answers: what follows it for each option, or for the first reference.
        conversations: in a chat, all that the model reads before the answer, with each option; else none.
        tokens: the texts of the scored tokens of each answer; none if it is generated.
        seed: that of the cell, if demonstrations or options read differently with other seeds.
    """

    instruction: str
    separator: str
    demonstrations: tuple[str, ...]
    queries: tuple[str, ...]
    answers: tuple[str, ...]
    conversations: tuple[str, ...] = ()
    tokens: tuple[tuple[str, ...], ...] = ()
    seed: int | None = None


class TextWriter:
    """Writes what prompts are made of, each text once.

    Args:
        write: takes a line.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._frames: dict[tuple[str, str], str] = {}
        self._written: set[tuple[str, str, str, str, int | None]] = set()

    def add(self, example: ExampleResult, text: PromptParts) -> None:
        """Write those texts of a query that were not written before."""
        task, prompt = example.cell.task_prompt
        if (task, prompt) not in self._frames:
            self._frames[task, prompt] = text.instruction
            self._line(task, prompt, separator=text.separator, instruction=text.instruction)
        seed: dict[str, object] = {} if text.seed is None else {"seed": text.seed}
        for id, demonstration in zip(example.demonstrations, text.demonstrations, strict=True):
            if self._is_new(task, prompt, "demonstration", id, text.seed):
                self._line(task, prompt, demonstration=id, **seed, text=demonstration)
        if self._is_new(task, prompt, "query", example.id, text.seed):
            queries = _distinct(text.queries)
            own: dict[str, object] = {}
            if text.instruction != self._frames[task, prompt]:
                own["instruction"] = text.instruction
            if any(len(each) > 1 for each in text.tokens):  # a single token is the answer itself
                own["tokens"] = text.tokens
            self._line(task, prompt, query=example.id, **seed, texts=queries, answers=text.answers, **own)

        if text.conversations:  # its template is the model's, so it cannot be put together again
            cell = {"shots": example.cell.shots, "seed": example.cell.seed}
            self._line(task, prompt, conversation=example.id, **cell, texts=_distinct(text.conversations))

    def _is_new(self, task: str, prompt: str, kind: str, id: str, seed: int | None) -> bool:
        key = task, prompt, kind, id, seed
        if key in self._written:
            return False
        self._written.add(key)
        return True

    def _line(self, task: str, prompt: str, **entry: object) -> None:
        self._write(
            json.dumps({"task": task, "prompt": prompt, **entry}, ensure_ascii=False, separators=(",", ":")) + "\n"
        )


def _distinct(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The texts of all options, or the only one where they are all the same."""
    return texts[:1] if len(set(texts)) == 1 else texts


@contextmanager
def text_writer(path: Path) -> Iterator[Callable[[ExampleResult, PromptParts], None]]:
    """Write `prompts.jsonl` of a folder; the file appears only when it is complete.

    Yields:
        A function that takes an example and its prompt.

    Raises:
        RunError: the file cannot be written.
    """
    partial = path / f"{NAME}.partial"
    with ExitStack() as stack:
        with write_errors(partial):
            file = stack.enter_context(partial.open("w", encoding="utf-8"))

        def write(line: str) -> None:
            with write_errors(partial):
                file.write(line)

        yield TextWriter(write).add
        with write_errors(partial):
            file.flush()
    with write_errors(partial):
        partial.replace(path / NAME)


@dataclass(frozen=True)
class Query:
    """The texts of one example.

    Attributes:
        instruction: stands first in the prompt; may be empty.
        texts: the query, one for all options, or one for each where they differ.
        answers: what follows it for each option, or for the first reference.
        tokens: the texts of the scored tokens of each answer in some cell; none if no answer has several.
    """

    instruction: str
    texts: tuple[str, ...]
    answers: tuple[str, ...]
    tokens: tuple[tuple[str, ...], ...] = ()


class PromptTexts:
    """The texts of a run, from which its prompts are put together.

    Args:
        path: the run folder.

    Raises:
        RunError: the file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._separators: dict[tuple[str, str], str] = {}
        self._instructions: dict[tuple[str, str], str] = {}
        self._demonstrations: dict[_TextKey, str] = {}
        self._queries: dict[_TextKey, Query] = {}
        self._conversations: dict[tuple[Cell, str], tuple[str, ...]] = {}
        file = path / NAME
        try:
            with file.open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    try:
                        self._read(parse_json(line))
                    except DAMAGED as error:
                        raise RunError(f"this line is damaged; {AGAIN}", file, number) from error
        except OSError as error:
            raise RunError(f"the texts of the prompts cannot be read ({error.strerror}); {AGAIN}", file) from error

    def query(self, example: ExampleResult) -> Query:
        """The texts of an example.

        Raises:
            RunError: it has none.
        """
        return _found(self._queries, example, example.id)

    def tokens(self, example: ExampleResult) -> tuple[tuple[str, ...], ...]:
        """The texts of the tokens whose log-probabilities an example has, by option; none if they are not known."""
        found = next((found for key in _keys(example, example.id) if (found := self._queries.get(key))), None)
        known = () if found is None else found.tokens
        is_same = list(map(len, known)) == list(map(len, example.scored_tokens))  # they may depend on the context
        return known if is_same else ()

    def demonstrations(self, example: ExampleResult) -> list[str]:
        """The demonstrations that an example was shown, in their order.

        Raises:
            RunError: one of them has no text.
        """
        return [_found(self._demonstrations, example, id) for id in example.demonstrations]

    def prompt(self, example: ExampleResult, option: int = 0) -> str:
        """The text before the answer, for one of the options. A truncated query stands whole in it.

        Raises:
            RunError: a text is missing.
        """
        separator, parts = self.parts(example, option)
        return separator.join(parts)

    def parts(self, example: ExampleResult, option: int = 0) -> tuple[str, list[str]]:
        """A prompt as its separator and the texts that it joins; a conversation is one text.

        Raises:
            RunError: a text is missing.
        """
        conversation = self._conversations.get((example.cell, example.id))
        if conversation is not None:
            return "", [conversation[option if len(conversation) > 1 else 0]]
        query = self.query(example)
        head = [query.instruction] if query.instruction else []
        own = query.texts[option if len(query.texts) > 1 else 0]
        return self._separators[example.cell.task_prompt], [*head, *self.demonstrations(example), own]

    def _read(self, entry: dict[str, Any]) -> None:
        key = entry["task"], entry["prompt"]
        if "query" in entry:
            instruction = entry.get("instruction", self._instructions[key])
            texts, answers = _strings(entry["texts"]), _strings(entry["answers"])
            if len(texts) not in (1, len(answers)):
                raise ValueError("queries and answers differ in number")
            self._queries[(*key, entry["query"], _seed(entry))] = Query(
                _string(instruction), texts, answers, tuple(map(_strings, entry.get("tokens", ())))
            )
        elif "conversation" in entry:
            cell = Cell(*key, entry["shots"], entry["seed"])
            self._conversations[cell, entry["conversation"]] = _strings(entry["texts"])
        elif "demonstration" in entry:
            self._demonstrations[(*key, entry["demonstration"], _seed(entry))] = _string(entry["text"])
        else:
            self._separators[key], self._instructions[key] = map(_string, (entry["separator"], entry["instruction"]))


def _found(texts: Mapping[_TextKey, T], example: ExampleResult, id: str) -> T:
    for key in _keys(example, id):
        if key in texts:
            return texts[key]
    raise RunError(f"{NAME} lacks the text of {id!r} of {example.cell.task}; {AGAIN}")


def _keys(example: ExampleResult, id: str) -> tuple[_TextKey, _TextKey]:
    """Under which a text may be kept: for all seeds, or for that of the example."""
    task, prompt = example.cell.task_prompt
    return (task, prompt, id, None), (task, prompt, id, example.cell.seed)


def _seed(entry: Mapping[str, Any]) -> int | None:
    seed = entry.get("seed")
    if type(seed) not in (int, NoneType):
        raise TypeError("not a seed")
    return seed


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _strings(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError("not a list of texts")
    return tuple(map(_string, values))
