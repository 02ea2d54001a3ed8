"""The schema of task files and suite files; the docstrings of their keys become docs/task-keys.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from icl_eval.errors import counted
from icl_eval.tasks.data import Data, Strict
from icl_eval.tasks.extraction import RulesByName, dumped
from icl_eval.tasks.metric_names import EVALUATE, MetricName, split_extraction
from icl_eval.tasks.protocol import Protocol

AnswerKind = Literal["choice", "text", "likelihood"]
Normalization = Literal["sum", "token", "char", "byte", "unconditional"]
Name = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*$")]


class DemonstrationSource(Strict):
    """Demonstrations from another task, for tasks without training data."""

    task: Name
    """Name of the task."""

    split: StrictStr
    """Split of that task."""


class Splits(Strict):
    """Which split demonstrations are drawn from, and which is evaluated."""

    demonstrations: StrictStr | DemonstrationSource | None = None
    """Split that demonstrations are drawn from; without it, the task runs only with zero shots."""

    evaluation: StrictStr
    """Split that is evaluated."""


class Gold(Strict):
    """Which option is right. For `answer: text`: whether the reference is right (1) or wrong (0)."""

    field: StrictStr
    """Field or template of the label: an index, a name, a list of these, or a mapping of options to grades."""

    names: list[StrictStr] | None = None
    """Names of the labels: the i-th name stands for the i-th option."""


class Category(Strict):
    """The category of an example. `by: subject` is short for `by: {field: subject}`."""

    field: Annotated[StrictStr, Field(min_length=1)]
    """Field, dotted path or template that gives the category."""

    average: Literal["micro", "macro"] = "micro"
    """What enters averages of suites: the score of all examples, or the mean of the scores of the categories."""


def _as_category(value: object) -> object:
    """The mapping for which a field alone is short."""
    if value is None or isinstance(value, Mapping | Category):
        return value
    if not isinstance(value, str):
        raise ValueError(
            f"this is a field, such as `by: subject`, or a mapping with `field` and `average`, not {value!r}"
        )
    return {"field": value}


class Score(Strict):
    """How the log-likelihoods of options become comparable, and how long texts are scored."""

    NEW_KEYS = frozenset({"domain_premise"})

    normalization: Normalization = "token"
    """Total log-likelihood, mean of a token, character or byte, or the total minus the unconditional log-likelihood."""

    stride: Annotated[StrictInt, Field(ge=1)] | None = None
    """New tokens in each further segment of a text longer than the context length; by default, as many as fit."""

    domain_premise: Annotated[StrictStr, Field(min_length=1)] | None = None
    """Text or template that the calibration `dc-pmi` conditions each option on, such as `The answer is:`."""


class Decode(Strict):
    """How an answer is generated. A beam's log-probability is divided by the length penalty.

    `gnmt` is `((5 + length) / 6) ** length_penalty` (Wu et al. 2016, arXiv 1609.08144, section 7), and `power` is
    `length ** length_penalty`.
    """

    NEW_KEYS = frozenset({"reasoning_end"})

    max_tokens: Annotated[StrictInt, Field(ge=1)] = 64
    """Maximum number of generated tokens."""

    stop: list[Annotated[StrictStr, Field(min_length=1)]] = Field(default=["\n"])
    """Texts that end the answer, and are not part of it."""

    beams: Annotated[StrictInt, Field(ge=1)] = 1
    """Beams of the search; 1 is greedy search."""

    length_penalty: Annotated[StrictFloat | StrictInt, Field(ge=0, allow_inf_nan=False)] = 0.6
    """Exponent of the length penalty."""

    penalty: Literal["gnmt", "power"] = "gnmt"
    """Form of the length penalty."""

    samples: Annotated[StrictInt, Field(ge=1)] = 1
    """Number of independent samples; more than one needs a temperature above 0."""

    temperature: Annotated[StrictFloat | StrictInt, Field(ge=0, allow_inf_nan=False)] = 0
    """Temperature of sampling; 0 takes the most likely token."""

    top_p: Annotated[StrictFloat | StrictInt, Field(gt=0, le=1)] = 1
    """Sample from the most likely tokens with this total probability."""

    reasoning_end: Annotated[StrictStr, Field(min_length=1)] | None = None
    """Text that ends the reasoning before the answer, such as `</think>`."""

    @model_validator(mode="after")
    def _searches_or_samples(self) -> Decode:
        if self.beams > 1 and self.temperature > 0:
            raise ValueError("beams are searched at temperature 0; choose `beams` or `temperature`")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("several `samples` at temperature 0 would all be the same; set a `temperature`")
        return self


USUAL_METRIC: dict[AnswerKind, str] = {"choice": "accuracy", "text": "squad_em", "likelihood": "perplexity"}


class TaskDefinition(Strict):
    """A task is one YAML file below `tasks`.

    `answer: choice` needs `options` and `gold`. The other kinds of answers need `references`. Only `answer: text` has
    `decode` and `extract`, and may have `gold`.
    """

    NEW_KEYS = frozenset({"extract", "by"})

    task: Name
    """Name of the task; must match the path below `tasks`."""

    about: StrictStr = ""
    """One line on the task: description, source, licence."""

    extends: Name | None = None
    """Another task, whose keys and prompts this file changes."""

    data: Data = Data()
    """Where the records come from."""

    splits: Splits
    """Splits for demonstrations and evaluation."""

    id: StrictStr | None = None
    """Field with a stable name of the record; by default, a hash of its content."""

    fields: dict[StrictStr, StrictStr] = Field(default={})
    """Names in prompts, and the field, dotted path or template of each; by default, all fields of the record."""

    gold: Gold | None = None
    """Which option is right."""

    cluster: StrictStr | None = None
    """Field whose equal values mark dependent examples; by default, `group`."""

    group: StrictStr | None = None
    """Field whose equal values mark one unit, such as the answers to one question."""

    by: Annotated[Category | None, BeforeValidator(_as_category)] = None
    """Categories that each get a separate score."""

    answer: AnswerKind = "choice"
    """Kind of answer: the best option, a generated text, or the likelihood of a given text."""

    options: Annotated[list[StrictStr], Field(min_length=1)] | StrictStr | None = None
    """Two or more texts or templates; or a field or template that gives the list."""

    references: StrictStr | None = None
    """Field or template with an acceptable text, or a list of them."""

    decode: Decode | None = Field(default=None, validate_default=True)
    """How answers are generated."""

    extract: RulesByName = Field(default={})
    """Named lists of rules that extract the answer from a generated text."""

    prompts: Annotated[list[Name], Field(min_length=1)]
    """Names of prompts, the default first; can be left out if the task has a single prompt file."""

    zero_shot_prompt: Name | None = None
    """Prompt used without demonstrations; by default, the first of `prompts`."""

    protocol: Protocol = Protocol()
    """How demonstrations are chosen."""

    score: Score = Score()
    """How options and long texts are scored."""

    metrics: list[MetricName] = Field(default=None, min_length=1, validate_default=True)
    """Metrics, with settings as in `{bleu: {tokenize: zh}}`; by default, the usual one of the kind of answer."""

    primary: MetricName | Annotated[list[MetricName], Field(min_length=1)] | None = None
    """Metric that enters averages of suites, or several whose mean does; by default, the first of `metrics`."""

    reference: StrictStr | None = None
    """Row of published numbers, such as `gpt3:RTE`."""

    version: StrictInt = 1
    """Part of the signature; increase it when the meaning of the task changes."""

    @property
    def own_shots(self) -> int:
        """The default number of demonstrations; 0 if the task has none."""
        return self.protocol.shots if self.splits.demonstrations is not None else 0

    @property
    def primary_metrics(self) -> tuple[str, ...]:
        """The metrics whose mean enters averages of suites; with extraction rules, the first list of rules is used."""
        chosen = [self.primary] if isinstance(self.primary, str) else self.primary
        return tuple(self._extracted(name)[0] for name in chosen or self.metrics[:1])

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics of a run: `metrics`, each combined with each list of extraction rules."""
        return tuple(dict.fromkeys(each for name in self.metrics for each in self._extracted(name)))

    def _extracted(self, name: str) -> list[str]:
        if not self.extract or "@" in name or name.startswith(EVALUATE):
            return [name]
        return [f"{name}@{rules}" for rules in self.extract]

    @field_serializer("extract")
    def _as_written(self, extract: dict[str, Any]) -> dict[str, Any]:
        return dumped(extract)

    @field_validator("decode", mode="before")
    @classmethod
    def _decode_of_texts(cls, value: object, info: ValidationInfo) -> object:
        return Decode() if value is None and info.data.get("answer") == "text" else value

    @field_validator("metrics", mode="before")
    @classmethod
    def _usual_metric(cls, value: object, info: ValidationInfo) -> object:
        return [USUAL_METRIC[info.data["answer"]]] if value is None and "answer" in info.data else value

    @model_validator(mode="after")
    def _keys_fit_the_answer(self) -> TaskDefinition:
        needed = ("gold", "options") if self.answer == "choice" else ("references",)
        kinds = {"gold": ("choice", "text"), "options": ("choice",), "references": ("text", "likelihood")}
        for key in kinds:
            if key in needed and getattr(self, key) is None:
                raise ValueError(f"the key `{key}` is missing")
            if self.answer not in kinds[key] and getattr(self, key) is not None:
                others = " and ".join(f"`answer: {kind}`" for kind in kinds[key])
                raise ValueError(f"`{key}` belongs to {others}, and this is `answer: {self.answer}`")
        if isinstance(self.options, list) and len(self.options) == 1:
            raise ValueError("`options` has a single entry; a task needs two or more")
        for key in ("decode", "extract"):
            if getattr(self, key) and self.answer != "text":
                raise ValueError(f"`{key}` belongs to `answer: text`, and this is `answer: {self.answer}`")
        return self

    @model_validator(mode="after")
    def _primary_metrics_are_taken(self) -> TaskDefinition:
        for name in self.primary_metrics:
            if name not in self.metric_names:
                raise ValueError(f"`primary` is {split_extraction(name)[0]!r}, which is not among the `metrics`")
        return self

    @model_validator(mode="after")
    def _zero_shot_prompt_is_one(self) -> TaskDefinition:
        if self.zero_shot_prompt is not None and self.zero_shot_prompt not in self.prompts:
            raise ValueError(f"`zero_shot_prompt` is {self.zero_shot_prompt!r}, which is not among the `prompts`")
        return self

    @model_validator(mode="after")
    def _gold_names_match_options(self) -> TaskDefinition:
        names = self.gold.names if self.gold else None
        for name in names or ():
            if (names or []).count(name) > 1:
                raise ValueError(f"`gold.names` has {name!r} twice")
        if names and isinstance(self.options, list) and len(names) != len(self.options):
            raise ValueError(
                f"`gold.names` has {counted(len(names), 'name')} for {counted(len(self.options), 'option')}"
            )
        if names and self.answer == "text" and len(names) != 2:
            raise ValueError(f"`gold.names` has {len(names)} names, but needs two: for wrong and for right references")
        return self


class SuiteDefinition(Strict):
    """A suite is one YAML file below `tasks`: a list of tasks and other suites, and how their scores are averaged."""

    suite: Name
    """Name of the suite; must match the path below `tasks`."""

    about: StrictStr = ""
    """One line on the suite."""

    tasks: Annotated[list[Name], Field(min_length=1)]
    """Tasks and suites, in the order of the table."""

    average: Literal["macro", "micro", False] = "macro"
    """Mean over the entries of `tasks`, mean over the examples of all tasks, or none."""

    reference: StrictStr | None = None
    """Row of published numbers for the average."""


def tasks_of(suite: SuiteDefinition, suites: Mapping[str, SuiteDefinition]) -> list[str]:
    """The tasks of a suite and of its nested suites, without duplicates.

    Args:
        suite: the suite.
        suites: the nested suites by name.
    """
    found: dict[str, None] = {}
    for name in suite.tasks:
        found |= dict.fromkeys(tasks_of(suites[name], suites) if name in suites else [name])
    return list(found)
