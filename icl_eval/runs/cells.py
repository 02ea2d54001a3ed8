"""The grid: what is scored together, and what the scores need to know about it later."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from icl_eval.demos import Pool
from icl_eval.errors import DataError
from icl_eval.prompts import Prompt
from icl_eval.runs.ask import Ask
from icl_eval.tasks import Example, Normalization, Source, Task, limited


@dataclass(frozen=True, slots=True)
class Cell:
    """The unit of the results grid."""

    task: str
    prompt: str
    shots: int
    seed: int


class TaskRecord(BaseModel):
    """What the manifest keeps of a (task, prompt), so that its scores need neither files nor model again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    prompt: str
    selection: str  # the prompt as it was asked for: its name, or empty for the task's first
    metrics: tuple[str, ...]
    normalize: Normalization
    draw: str
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    reference: str | None
    version: int
    digest: str  # of the definition, the prompt and the way of fitting
    data: str
    examples: int
    of: int  # examples in the whole split


@dataclass(frozen=True)
class Prepared:
    """A task with one prompt, its examples and its pool, ready to be asked."""

    task: Task
    prompt: Prompt
    examples: tuple[Example, ...]
    pool: Pool | None
    record: TaskRecord

    def cells(self, seed: int) -> Iterator[Cell]:
        """The cells of one seed; without demonstrations there is nothing to draw, so only the first seed has any."""
        for shots in self.record.shots:
            if shots or seed == self.record.seeds[0]:
                yield Cell(self.task.name, self.prompt.style, shots, seed)

    def request_count(self) -> int:
        """Requests that the cells will make: each option once after the prompt and once after the answer context."""
        options = sum(len(example.options) for example in self.examples)
        return 2 * options * sum(1 for seed in self.record.seeds for _ in self.cells(seed))


def prepare(task: Task, style: str | None, ask: Ask, source: Source) -> Prepared:
    """Read a task's data and check it before any model runs.

    Raises:
        IclEvalError: its data, prompt or demonstrations cannot serve this ask.
    """
    prompt = task.prompt(style)
    whole = task.evaluation(source)
    task.check_fields(source)
    examples = limited(whole, ask.limit)
    protocol = task.definition.protocol
    shots = tuple(sorted(set(ask.shots or (protocol.shots,))))
    pool = None
    if shots[-1]:
        pool = Pool(task.name, task.demonstrations(source), protocol, shares_split=task.shares_split)
        if shots[-1] > len(pool.candidates):
            raise DataError(
                f"{task.name}: {shots[-1]} demonstrations were asked for, "
                f"but there are {len(pool.candidates)} to draw from"
            )
    return Prepared(
        task,
        prompt,
        tuple(examples),
        pool,
        _record(task, style or "", prompt, shots, ask, source, len(examples), len(whole)),
    )


def _record(
    task: Task,
    selection: str,
    prompt: Prompt,
    shots: tuple[int, ...],
    ask: Ask,
    source: Source,
    examples: int,
    of: int,
) -> TaskRecord:
    definition = task.definition
    content = f"{task.digest}|{prompt.digest}|{ask.overflow}"
    return TaskRecord(
        task=task.name,
        prompt=prompt.style,
        selection=selection,
        metrics=tuple(definition.metrics),
        normalize=definition.score.normalize,
        draw=definition.protocol.draw,
        shots=shots,
        seeds=ask.seeds,
        reference=definition.reference,
        version=definition.version,
        digest=hashlib.sha256(content.encode()).hexdigest()[:8],
        data=(task.source or source).label,
        examples=examples,
        of=of,
    )
