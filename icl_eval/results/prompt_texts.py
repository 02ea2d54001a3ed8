"""The texts of prompts, `prompts.jsonl`: every text is stored once, and prompts are joined from them."""

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
REPAIR = "run the same command again to write it; no answer is recomputed"


@dataclass(frozen=True)
class PromptParts:
    """The texts of the prompt of an example in a cell.

    Attributes:
        instruction: text at the start of the prompt; may be empty.
        separator: text between the other parts.
        demonstrations: the demonstrations that fit the context length, in the order of the prompt.
        queries: the query for each option; all are equal except in partial evaluation.
        answers: the answer for each option, or for the first reference.
        conversations: in a chat, the text before the answer for each option; otherwise empty.
        tokens: texts of the scored tokens of each answer; empty if the answer is generated.
        seed: seed of the cell, if the texts depend on it.
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
    """Writes the texts of prompts, each text once.

    Args:
        write: writes a line.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._instructions: dict[tuple[str, str], str] = {}
        self._written: set[tuple[str, str, str, str, int | None]] = set()

    def add(self, example: ExampleResult, text: PromptParts) -> None:
        """Write the texts of a prompt that have not been written yet."""
        task, prompt = example.cell.task_prompt
        if (task, prompt) not in self._instructions:
            self._instructions[task, prompt] = text.instruction
            self._line(task, prompt, separator=text.separator, instruction=text.instruction)
        seed: dict[str, object] = {} if text.seed is None else {"seed": text.seed}
        for id, demonstration in zip(example.demonstrations, text.demonstrations, strict=True):
            if self._is_new(task, prompt, "demonstration", id, text.seed):
                self._line(task, prompt, demonstration=id, **seed, text=demonstration)
        if self._is_new(task, prompt, "query", example.id, text.seed):
            queries = _distinct(text.queries)
            extra: dict[str, object] = {}
            if text.instruction != self._instructions[task, prompt]:
                extra["instruction"] = text.instruction
            if any(len(each) > 1 for each in text.tokens):  # a single token is the answer itself
                extra["tokens"] = text.tokens
            self._line(task, prompt, query=example.id, **seed, texts=queries, answers=text.answers, **extra)

        if text.conversations:  # stored as a whole, because its template belongs to the model
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
    """The texts of all options, or a single text if they are equal."""
    return texts[:1] if len(set(texts)) == 1 else texts


@contextmanager
def text_writer(path: Path) -> Iterator[Callable[[ExampleResult, PromptParts], None]]:
    """A context that writes `prompts.jsonl` into a folder; the file is only replaced when it is complete.

    Yields:
        A function that writes the prompt of an example.

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
    """The stored texts of one example.

    Attributes:
        instruction: text at the start of the prompt; may be empty.
        texts: the query, as one text for all options or one for each.
        answers: the answer for each option, or for the first reference.
        tokens: texts of the scored tokens of each answer; empty if every answer is a single token.
    """

    instruction: str
    texts: tuple[str, ...]
    answers: tuple[str, ...]
    tokens: tuple[tuple[str, ...], ...] = ()


class PromptTexts:
    """Reads the texts of a run and joins them to prompts.

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
                        raise RunError(f"this line is damaged; {REPAIR}", file, number) from error
        except OSError as error:
            raise RunError(f"the texts of the prompts cannot be read ({error.strerror}); {REPAIR}", file) from error

    def query(self, example: ExampleResult) -> Query:
        """The texts of an example.

        Raises:
            RunError: they are missing.
        """
        return _found(self._queries, example, example.id)

    def tokens(self, example: ExampleResult) -> tuple[tuple[str, ...], ...]:
        """The texts of the scored tokens of each option; empty if they are unknown."""
        found = next((found for key in _keys(example, example.id) if (found := self._queries.get(key))), None)
        known = () if found is None else found.tokens
        is_same = list(map(len, known)) == list(map(len, example.scored_tokens))  # tokens can depend on the context
        return known if is_same else ()

    def demonstrations(self, example: ExampleResult) -> list[str]:
        """The demonstrations in the prompt of an example, in their order.

        Raises:
            RunError: a text is missing.
        """
        return [_found(self._demonstrations, example, id) for id in example.demonstrations]

    def prompt(self, example: ExampleResult, option: int = 0) -> str:
        """The text before the answer, for the option with this index. It contains a truncated query as a whole.

        Raises:
            RunError: a text is missing.
        """
        separator, parts = self.parts(example, option)
        return separator.join(parts)

    def parts(self, example: ExampleResult, option: int = 0) -> tuple[str, list[str]]:
        """The separator of a prompt and the texts between which it stands. A conversation is one text.

        Raises:
            RunError: a text is missing.
        """
        conversation = self._conversations.get((example.cell, example.id))
        if conversation is not None:
            return "", [conversation[option if len(conversation) > 1 else 0]]
        query = self.query(example)
        head = [query.instruction] if query.instruction else []
        last = query.texts[option if len(query.texts) > 1 else 0]
        return self._separators[example.cell.task_prompt], [*head, *self.demonstrations(example), last]

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
    raise RunError(f"{NAME} lacks the text of {id!r} of {example.cell.task}; {REPAIR}")


def _keys(example: ExampleResult, id: str) -> tuple[_TextKey, _TextKey]:
    """The keys under which a text can be stored: for all seeds, or for the seed of the example."""
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
