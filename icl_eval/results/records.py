"""What identifies a score: the cell of the grid, and what the manifest keeps of its task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, field_serializer

from icl_eval.errors import counted
from icl_eval.scoring import CONTEXTUAL
from icl_eval.tasks import AnswerKind, Category, Normalization
from icl_eval.tasks.extraction import RulesByName, dumped


@dataclass(frozen=True, slots=True)
class Cell:
    """The unit of the results grid."""

    task: str
    prompt: str
    shots: int
    seed: int

    def __str__(self) -> str:
        return f"{self.task} ({self.prompt}, {counted(self.shots, 'shot')}, seed {self.seed})"

    @property
    def task_prompt(self) -> tuple[str, str]:
        """The task and its prompt."""
        return self.task, self.prompt


class Failure(BaseModel):
    """A task that has no scores in a run, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    selection: str  # the prompt's name if it was chosen by name; empty for the task's default
    reason: str

    def __str__(self) -> str:
        return f"{self.task}{f' ({self.selection})' if self.selection else ''} has no scores: {self.reason}"


class KnownScore(BaseModel):
    """What is known of a score on the whole split: the ends of an interval that holds at every stopping time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shots: int
    low: float
    high: float


class Stopped(BaseModel):
    """Where the rule `until` ended the evaluation of a task, and what was then known of its scores."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    until: float  # the half-width at which it ends
    metric: str  # of which
    planned: int  # examples that would have been evaluated without the rule
    scores: tuple[KnownScore, ...]  # by number of shots

    @property
    def half_width(self) -> float:
        """The largest half-width of the scores."""
        return max((each.high - each.low for each in self.scores), default=0.0) / 2


class TaskRecord(BaseModel):
    """What the manifest keeps of a (task, prompt), so that its scores need neither files nor model again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    prompt: str
    selection: str  # the prompt's name if it was chosen by name; empty for the task's default
    format: str = ""  # of a variant of a prompt, in what it differs from the prompt, and the seed that drew it
    metrics: tuple[str, ...]
    primary: tuple[str, ...]  # those whose mean enters the averages of suites
    extract: RulesByName = {}  # by name, the rules by which answers are taken out of texts
    answer: AnswerKind = "choice"
    normalization: Normalization
    scoring: str = ""  # of answers that are not choices: their decoding, or the stride of their windows
    ending: str = ""  # of those that are written: where they end
    reasoning_end: str | None = None  # and what ends the reasoning before the answer
    draw: str
    split: str = ""  # the evaluated split, if it is not the task's own
    fewshot_split: str = ""  # the split of the demonstrations, if it is not the task's own
    separator: str
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    reference: str | None
    version: int
    digest: str  # of the definition, the prompt, the way of fitting, and the whole evaluated split
    pool: str  # digest of what demonstrations are drawn from; empty without demonstrations
    data: str
    examples: int
    total_examples: int  # in the whole split
    by: Category | None = None  # which examples have scores of their own, as well as their average
    categories: dict[str, int] = {}  # by name, the number of examples in the whole split
    head: bool  # whether the examples are the first of the split, not a sample of it
    partial: bool = False  # whether the query shows the option, so that all options may be scored by the same text
    calibrate: tuple[str, ...] = ()  # the calibrations by which the task is scored beside its normalisation
    domain_premise: str = ""  # the template of the premise that one of them needs
    content_free: tuple[str, ...] = ()  # the inputs that one of them needs
    sampling: str = ""  # whose sample they are, if it is not the usual one
    stopped: Stopped | None = None  # by the rule `until`, if there is one

    @field_serializer("extract")
    def _as_written(self, extract: dict[str, Any]) -> dict[str, Any]:
        return dumped(extract)

    @property
    def has_labels(self) -> bool:
        """Whether the texts of options are scored, and not one text after each of them, or generated ones."""
        return self.answer == "choice" and not self.partial

    def calibration_inputs(self, scoring: str) -> tuple[str, ...]:
        """The texts that a calibration takes in place of the query: content-free inputs, or a domain premise."""
        if scoring == "dc-pmi":
            return (self.domain_premise,) if self.domain_premise else ()
        return self.content_free if scoring in CONTEXTUAL else ()

    @property
    def sample(self) -> str:
        """The signature's word for which examples of the split were evaluated; empty for all of them."""
        return (
            ""
            if self.examples == self.total_examples
            else f"{'first' if self.head else self.sampling or 'sample'}{self.examples}of{self.total_examples}"
        )

    @property
    def as_planned(self) -> TaskRecord:
        """The record before the rule `until` was applied."""
        if self.stopped is None:
            return self
        return self.model_copy(update={"examples": self.stopped.planned, "stopped": None})

    @property
    def task_prompt(self) -> tuple[str, str]:
        """The task and its prompt."""
        return self.task, self.prompt

    @property
    def cells(self) -> list[Cell]:
        """The cells of all seeds; without demonstrations there is nothing to draw, so only the first seed has any."""
        return [
            Cell(self.task, self.prompt, shots, seed)
            for shots in self.shots
            for seed in (self.seeds if shots else self.seeds[:1])
        ]
