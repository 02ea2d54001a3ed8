"""The schema of task files and suite files, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from icl_eval.config import Draw, Order
from icl_eval.tasks.data import Data, Strict
from icl_eval.tasks.extraction import RulesByName, dumped
from icl_eval.tasks.metric_names import EVALUATE, MetricName, split_extraction

AnswerKind = Literal["choice", "text", "likelihood"]
Normalization = Literal["sum", "token", "char", "byte", "unconditional"]
Name = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*$")]


class DemonstrationSource(Strict):
    """Demonstrations from another task's split, for tasks without training data."""

    task: Name
    split: StrictStr


class Splits(Strict):
    """Which split demonstrations are drawn from, and which is evaluated."""

    demonstrations: StrictStr | DemonstrationSource | None = None  # None: there is nothing to show
    evaluation: StrictStr


class Gold(Strict):
    """Where the right option stands: `names[i]` or the number `i` in the record means option `i`.

    A field may also be a mapping of options to 1, if they are right, and 0.

    Of a generated answer: whether the reference is right, 1 or `names[1]`, or not, 0 or `names[0]`.
    """

    field: StrictStr
    names: list[StrictStr] | None = None


class Category(Strict):
    """What gives every example its category, and which average over categories stands for the task in suites.

    `micro` is the score of all examples together, `macro` the mean of the scores of the categories.
    """

    field: Annotated[StrictStr, Field(min_length=1)]
    average: Literal["micro", "macro"] = "micro"


def _as_category(value: object) -> object:
    """`by: subject` is short for `by: {field: subject}`."""
    if value is None or isinstance(value, Mapping | Category):
        return value
    if not isinstance(value, str):
        raise ValueError(
            f"this is a field, such as `by: subject`, or a mapping with `field` and `average`, not {value!r}"
        )
    return {"field": value}


class Protocol(Strict):
    """How demonstrations are chosen, and their order in the prompt."""

    NEW_KEYS = frozenset({"ids", "balanced", "order"})

    shots: Annotated[StrictInt, Field(ge=0)] = 32
    draw: Draw = "per_example"
    ids: Annotated[list[StrictStr], Field(min_length=1)] | None = None  # of the demonstrations, in this order
    balanced: StrictBool = False  # as many of each label
    order: Order = "drawn"
    within: StrictStr | None = None  # demonstrations share this field's value with the query
    repeat: StrictBool = False  # a demonstration may ask what the query asks, where the answer is to be found in it

    @model_validator(mode="before")
    @classmethod
    def _ids_keep_their_order(cls, given: Any) -> Any:
        return {"draw": "first", **given} if isinstance(given, dict) and given.get("ids") else given

    @model_validator(mode="after")
    def _random_or_in_order(self) -> Protocol:
        if self.ids and self.draw != "first":
            raise ValueError(f"`ids` fixes the demonstrations, but `draw` is {self.draw}; leave out one of them")
        if self.ids and len(set(self.ids)) < len(self.ids):
            twice = next(each for each in self.ids if self.ids.count(each) > 1)
            raise ValueError(f"`ids` lists {twice!r} twice")
        if self.balanced and self.draw == "first":
            raise ValueError("`balanced` needs random draws, but `draw` is first")
        return self

    @property
    def draw_words(self) -> str:
        """The signature's words for the draw."""
        words = [self.draw, "balanced" if self.balanced else "", "" if self.order == "drawn" else self.order]
        return "-".join(filter(None, words))


class Score(Strict):
    """How the log-likelihoods of options become comparable, and how texts are read that are longer than the window."""

    normalization: Normalization = "token"
    stride: Annotated[StrictInt, Field(ge=1)] | None = None  # tokens that a further window adds; by default all it can


class Decode(Strict):
    """How an answer is generated.

    `gnmt` divides a beam's log-probability by ((5 + length) / 6) ** length_penalty (Wu et al. 2016, arXiv 1609.08144,
    section 7), `power` by length ** length_penalty.
    """

    NEW_KEYS = frozenset({"reasoning_end"})

    max_tokens: Annotated[StrictInt, Field(ge=1)] = 64
    stop: list[Annotated[StrictStr, Field(min_length=1)]] = Field(default=["\n"])  # the answer ends before the first
    beams: Annotated[StrictInt, Field(ge=1)] = 1
    length_penalty: Annotated[StrictFloat | StrictInt, Field(ge=0)] = 0.6
    penalty: Literal["gnmt", "power"] = "gnmt"
    samples: Annotated[StrictInt, Field(ge=1)] = 1
    temperature: Annotated[StrictFloat | StrictInt, Field(ge=0)] = 0  # 0: the likeliest token
    top_p: Annotated[StrictFloat | StrictInt, Field(gt=0, le=1)] = 1
    reasoning_end: Annotated[StrictStr, Field(min_length=1)] | None = None  # the answer follows, such as after </think>

    @model_validator(mode="after")
    def _searches_or_samples(self) -> Decode:
        if self.beams > 1 and self.temperature > 0:
            raise ValueError("beams are searched at temperature 0; choose `beams` or `temperature`")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("several `samples` at temperature 0 would all be the same; set a `temperature`")
        return self


USUAL_METRIC: dict[AnswerKind, str] = {"choice": "accuracy", "text": "squad_em", "likelihood": "perplexity"}


class TaskDefinition(Strict):
    """A task file.

    `options` belong to `answer: choice`, `references` to the other kinds, `decode` to `answer: text`, where it is never
    None. A choice needs `gold`; a text may have it. With `extract`, every metric is taken of the answers that each of
    its lists of rules finds.
    """

    NEW_KEYS = frozenset({"extract", "by"})

    task: Name
    about: StrictStr = ""
    extends: Name | None = None
    data: Data = Data()
    splits: Splits
    id: StrictStr | None = None
    fields: dict[StrictStr, StrictStr] = Field(default={})
    gold: Gold | None = None
    cluster: StrictStr | None = None
    group: StrictStr | None = None
    by: Annotated[Category | None, BeforeValidator(_as_category)] = None  # a score for each of its values
    answer: AnswerKind = "choice"
    options: Annotated[list[StrictStr], Field(min_length=1)] | StrictStr | None = (
        None  # texts or templates; or the field that lists them
    )
    references: StrictStr | None = None  # raw field, or a template, with one acceptable text or a list of them
    decode: Decode | None = Field(default=None, validate_default=True)
    extract: RulesByName = Field(default={})
    prompts: Annotated[list[Name], Field(min_length=1)]
    zero_shot_prompt: Name | None = None  # used in place of the first where there are no demonstrations
    protocol: Protocol = Protocol()
    score: Score = Score()
    metrics: list[MetricName] = Field(
        default=None, min_length=1, validate_default=True
    )  # by default the kind's usual one
    primary: MetricName | Annotated[list[MetricName], Field(min_length=1)] | None = (
        None  # the metric, or several whose mean, enters the averages of suites; by default the first
    )
    reference: StrictStr | None = None
    version: StrictInt = 1

    @property
    def own_shots(self) -> int:
        """The default number of demonstrations; 0 if the task has none."""
        return self.protocol.shots if self.splits.demonstrations is not None else 0

    @property
    def primary_metrics(self) -> tuple[str, ...]:
        """The metrics whose mean is the task's score in the averages of suites; of several rules, by the first."""
        chosen = [self.primary] if isinstance(self.primary, str) else self.primary
        return tuple(self._extracted(name)[0] for name in chosen or self.metrics[:1])

    @property
    def measures(self) -> tuple[str, ...]:
        """The metrics of a run: each of `metrics`, taken of what each list of rules finds, if there are any."""
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
            if name not in self.measures:
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
        if names and isinstance(self.options, list) and len(names) != len(self.options):
            raise ValueError(f"`gold.names` has {len(names)} names for {len(self.options)} options")
        if names and self.answer == "text" and len(names) != 2:
            raise ValueError(f"`gold.names` has {len(names)} names, but a reference is wrong or right")
        return self


class SuiteDefinition(Strict):
    """A suite file: tasks and other suites in order, and how their scores are averaged.

    `macro` is the mean over the entries of `tasks`, `micro` the mean over the examples of all tasks.
    """

    suite: Name
    about: StrictStr = ""
    tasks: Annotated[list[Name], Field(min_length=1)]
    average: Literal["macro", "micro", False] = "macro"
    reference: StrictStr | None = None


def tasks_of(suite: SuiteDefinition, suites: Mapping[str, SuiteDefinition]) -> list[str]:
    """The tasks of a suite and of the suites in it, each once; `suites` holds these by name."""
    found: dict[str, None] = {}
    for name in suite.tasks:
        found |= dict.fromkeys(tasks_of(suites[name], suites) if name in suites else [name])
    return list(found)
