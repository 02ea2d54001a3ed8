"""Cells of the grid, and the records of tasks in the manifest."""

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
    """A cell of the grid of a run: a task with a prompt, a number of shots and a seed."""

    task: str
    prompt: str
    shots: int
    seed: int

    def __str__(self) -> str:
        return f"{self.task} ({self.prompt}, {counted(self.shots, 'shot')}, seed {self.seed})"

    @property
    def task_prompt(self) -> tuple[str, str]:
        """The names of the task and the prompt."""
        return self.task, self.prompt


class Failure(BaseModel):
    """A task that has no scores in a run, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    selection: str  # name of the prompt if the user chose it; empty for the task's default
    reason: str

    def __str__(self) -> str:
        return f"{self.task}{f' ({self.selection})' if self.selection else ''} has no scores: {self.reason}"


class KnownScore(BaseModel):
    """Bounds of a score on the whole split: an interval that is valid at any stopping time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shots: int
    low: float
    high: float


class Stopped(BaseModel):
    """Where `until` stopped the evaluation of a task, and the bounds of its scores at this point."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    until: float  # the requested half-width
    metric: str  # the metric with this half-width
    planned: int  # number of examples without the stopping rule
    scores: tuple[KnownScore, ...]  # by number of shots

    @property
    def half_width(self) -> float:
        """The largest half-width of the scores' intervals."""
        return max((each.high - each.low for each in self.scores), default=0.0) / 2


class TaskRecord(BaseModel):
    """What the manifest stores of a task with a prompt, so that scoring needs neither task files nor a model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    prompt: str
    selection: str  # name of the prompt if the user chose it; empty for the task's default
    format: str = ""  # changes of a format of the prompt, and the seed of their draw; empty for the prompt itself
    metrics: tuple[str, ...]
    primary: tuple[str, ...]  # metrics whose mean enters the averages of suites
    extract: RulesByName = {}  # extraction rules by name
    answer: AnswerKind = "choice"
    normalization: Normalization
    scoring: str = ""  # decoding of generated answers, or stride of likelihoods; empty for choices
    ending: str = ""  # where generated answers end
    reasoning_end: str | None = None  # text that ends the reasoning before a generated answer
    draw: str
    split: str = ""  # the evaluated split, if it is not the task's own
    fewshot_split: str = ""  # the split of the demonstrations, if it is not the task's own
    separator: str
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    reference: str | None
    version: int
    digest: str  # of the definition, the prompt, `overflow`, and the whole evaluated split
    pool: str  # digest of the candidate demonstrations; empty without demonstrations
    data: str
    examples: int
    total_examples: int  # number of examples in the whole split
    by: Category | None = None  # how examples are divided into categories, which are scored separately
    categories: dict[str, int] = {}  # number of examples of each category in the whole split
    head: bool  # whether the examples are the first ones of the split, not a sample
    partial: bool = False  # partial evaluation: whether the query contains the option
    calibrate: tuple[str, ...] = ()  # calibrations by which the task is also scored
    domain_premise: str = ""  # template of the domain premise, if a calibration needs it
    content_free: tuple[str, ...] = ()  # content-free inputs, if a calibration needs them
    sampling: str = ""  # name of the sampling method, such as OLMES; empty for the usual one
    stopped: Stopped | None = None  # where the evaluation stopped, with `until`

    @field_serializer("extract")
    def _as_written(self, extract: dict[str, Any]) -> dict[str, Any]:
        return dumped(extract)

    @property
    def has_labels(self) -> bool:
        """Whether the texts of options are scored, which is not so in partial evaluation and without options."""
        return self.answer == "choice" and not self.partial

    def calibration_inputs(self, scoring: str) -> tuple[str, ...]:
        """The inputs with which a calibration replaces the query: content-free inputs, or a domain premise."""
        if scoring == "dc-pmi":
            return (self.domain_premise,) if self.domain_premise else ()
        return self.content_free if scoring in CONTEXTUAL else ()

    @property
    def sample(self) -> str:
        """The word of the signature for the evaluated part of the split; empty for all examples."""
        return (
            ""
            if self.examples == self.total_examples
            else f"{'first' if self.head else self.sampling or 'sample'}{self.examples}of{self.total_examples}"
        )

    @property
    def as_planned(self) -> TaskRecord:
        """The record as it would be without `until`."""
        if self.stopped is None:
            return self
        return self.model_copy(update={"examples": self.stopped.planned, "stopped": None})

    @property
    def task_prompt(self) -> tuple[str, str]:
        """The names of the task and the prompt."""
        return self.task, self.prompt

    @property
    def cells(self) -> list[Cell]:
        """The cells of all numbers of shots and seeds. 0 shots have only the first seed, because nothing is drawn."""
        return [
            Cell(self.task, self.prompt, shots, seed)
            for shots in self.shots
            for seed in (self.seeds if shots else self.seeds[:1])
        ]
