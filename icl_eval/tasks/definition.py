"""What a task file and a suite file may say: the schema, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from icl_eval.tasks.extraction import RulesByName, compiled, dumped
from icl_eval.tasks.files import FORMATS, Format, Layout, format_of

AnswerKind = Literal["choice", "text", "likelihood"]
Normalization = Literal["sum", "token", "char", "byte", "unconditional"]
Name = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*$")]


def metric_name(base: str, settings: Mapping[str, str]) -> str:
    """The name of a metric with these settings, in alphabetical order: `bleu:lowercase=true:tokenize=zh`."""
    return ":".join([base, *(f"{name}={settings[name]}" for name in sorted(settings))])


def split_metric_name(name: str) -> tuple[str, dict[str, str]]:
    """The name of a metric without settings, and its settings; a word without `=` sets an empty value."""
    base, *words = name.split(":")
    parts = [word.partition("=") for word in words]
    return base, {setting.strip(): value.strip() for setting, _, value in parts}


def split_extraction(name: str) -> tuple[str, str | None]:
    """The name of a metric, and the rules by whose answers it is taken: `exact_match@strict`."""
    base, mark, rules = name.partition("@")
    return (base, rules) if mark else (name, None)


def _as_metric_name(value: object) -> object:
    """A metric as a task file names it, `bleu:tokenize=zh` or `{bleu: {tokenize: zh}}`, as a plain name."""
    if isinstance(value, str) and not value.startswith("evaluate:"):
        base, rules = split_extraction(value)
        return metric_name(*split_metric_name(base)) + ("" if rules is None else f"@{rules}")
    if not isinstance(value, Mapping):
        return value
    named, settings = next(iter(value.items()), (None, None))
    if len(value) != 1 or not isinstance(settings, Mapping) or not settings:
        raise ValueError("a metric with settings is written `{bleu: {tokenize: zh}}`, as one name with its settings")
    return metric_name(str(named), {str(name): _as_word(setting) for name, setting in settings.items()})


def _as_word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


MetricName = Annotated[StrictStr, BeforeValidator(_as_metric_name)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    NEW_KEYS: ClassVar[frozenset[str]] = frozenset()
    """Keys that a dump leaves out at their defaults, so that digests of tasks without them stay as they were."""

    @model_serializer(mode="wrap")
    def _without_new_keys(self, serialized: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = serialized(self)
        unset = {name for name in self.NEW_KEYS if getattr(self, name) == type(self).model_fields[name].get_default()}
        return {name: value for name, value in found.items() if name not in unset}


class Hub(_Strict):
    """A data set on the Hugging Face Hub."""

    path: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")]  # owner/name, never a folder
    name: StrictStr | None = None
    revision: StrictStr | None = None
    splits: dict[StrictStr, StrictStr] = {}  # split -> its name on the Hub, where that is another


class Data(_Strict):
    """Where records come from. Both layouts end up as the same examples."""

    NEW_KEYS = frozenset({"format", "columns", "pattern", "records"})

    hub: Hub | None = None
    local: dict[StrictStr, StrictStr | Annotated[list[StrictStr], Field(min_length=1)]] = {}
    # split -> file under --data-dir, `{field}` in its name for several files, or a list of files whose lines belong
    # together
    format: Format | None = None  # of all files; by default what the suffix says
    columns: Annotated[list[StrictStr], Field(min_length=1)] | None = None  # of CSV and TSV files without a header
    pattern: StrictStr | None = None  # of lines, whose named groups are the fields
    records: Annotated[StrictStr, Field(min_length=1)] | None = None  # dotted path to the array in a JSON file
    adapter: StrictStr | None = None  # a named conversion in the package, for what field mappings cannot say
    synthetic: StrictStr | None = None  # a named generator in the package, where no file of `local` is at hand

    @property
    def layout(self) -> Layout:
        """How the records of all files are written."""
        return Layout(self.format, tuple(self.columns or ()), self.pattern, self.records)

    @field_validator("columns")
    @classmethod
    def _named_once(cls, columns: list[str] | None) -> list[str] | None:
        twice = [name for name in columns or () if (columns or []).count(name) > 1]
        if twice:
            raise ValueError(f"the column {twice[0]!r} is named twice")
        return columns

    @field_validator("pattern")
    @classmethod
    def _has_named_groups(cls, pattern: str | None) -> str | None:
        if pattern is not None and not compiled(pattern).groupindex:
            raise ValueError("the pattern has no named groups, such as `(?P<label>[01]) (?P<text>.*)`")
        return pattern

    @field_validator("local")
    @classmethod
    def _fields_in_names_are_names(cls, local: dict[str, str | list[str]]) -> dict[str, str | list[str]]:
        for names in local.values():
            for name in [names] if isinstance(names, str) else names:
                fields = re.findall(r"\{([^{}]*)\}", name)
                if re.search(r"[{}]", re.sub(r"\{[^\W\d]\w*\}", "", name)) or len(set(fields)) < len(fields):
                    raise ValueError(f"in {name!r}, a field is a name in braces, each once, such as `{{subject}}`")
                if fields and not isinstance(names, str):
                    raise ValueError(
                        f"{name!r} has a field in its name; files that are read in parallel cannot have one"
                    )
        return local

    @model_validator(mode="after")
    def _keys_fit_the_files(self) -> Data:
        """Each of the keys that describe files belongs to one kind of them."""
        belongs: dict[str, tuple[Format, ...]] = {
            "columns": ("csv", "tsv"),
            "pattern": ("lines",),
            "records": ("json",),
        }
        for key, formats in belongs.items():
            if getattr(self, key) is None:
                continue
            for names in self.local.values():
                for name in [names] if isinstance(names, str) else names:
                    if (found := self.format or format_of(name)) not in formats:
                        kind = found or f"of an unknown kind; set `format` to one of {', '.join(FORMATS)}"
                        raise ValueError(f"`{key}` is for {' and '.join(formats)} files, and {name} is {kind}")
        return self

    @model_validator(mode="after")
    def _generated_or_downloaded(self) -> Data:
        if self.synthetic and self.hub:
            raise ValueError("records are made by `synthetic` or come from the `hub`, not both")
        return self


class DemonstrationSource(_Strict):
    """Demonstrations from another task's split, for tasks without training data."""

    task: Name
    split: StrictStr


class Splits(_Strict):
    """Which split is shown solved and which is asked."""

    demonstrations: StrictStr | DemonstrationSource | None = None  # None: there is nothing to show
    evaluation: StrictStr


class Gold(_Strict):
    """Where the right option stands: `names[i]` or the number `i` in the record means option `i`.

    A field may also be a mapping of options to 1, if they are right, and 0.

    Of a written answer: whether the reference is right, 1 or `names[1]`, or not, 0 or `names[0]`.
    """

    field: StrictStr
    names: list[StrictStr] | None = None


class Protocol(_Strict):
    """How demonstrations are chosen, and in which order they are shown."""

    NEW_KEYS = frozenset({"ids", "balanced", "order"})

    shots: Annotated[StrictInt, Field(ge=0)] = 32
    draw: Literal["per_example", "per_group", "fixed", "first"] = "per_example"
    ids: Annotated[list[StrictStr], Field(min_length=1)] | None = None  # which are shown, in this order
    balanced: StrictBool = False  # as many of each label
    order: Literal["drawn", "reversed"] = "drawn"
    within: StrictStr | None = None  # demonstrations share this field's value with the query
    repeat: StrictBool = False  # a demonstration may ask what the query asks, where the answer is to be found in it

    @model_validator(mode="before")
    @classmethod
    def _ids_keep_their_order(cls, said: Any) -> Any:
        return {"draw": "first", **said} if isinstance(said, dict) and said.get("ids") else said

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


class Score(_Strict):
    """How the log-likelihoods of options become comparable, and how texts are read that are longer than the window."""

    normalize: Normalization = "token"
    stride: Annotated[StrictInt, Field(ge=1)] | None = None  # tokens that a further window adds; by default all it can


class Decode(_Strict):
    """How an answer is written.

    `gnmt` divides a beam's log-probability by ((5 + length) / 6) ** length_penalty (Wu et al. 2016, arXiv 1609.08144,
    section 7), `power` by length ** length_penalty.
    """

    max_tokens: Annotated[StrictInt, Field(ge=1)] = 64
    stop: list[Annotated[StrictStr, Field(min_length=1)]] = ["\n"]  # the answer ends before the first of them
    beams: Annotated[StrictInt, Field(ge=1)] = 1
    length_penalty: Annotated[StrictFloat | StrictInt, Field(ge=0)] = 0.6
    penalty: Literal["gnmt", "power"] = "gnmt"
    samples: Annotated[StrictInt, Field(ge=1)] = 1
    temperature: Annotated[StrictFloat | StrictInt, Field(ge=0)] = 0  # 0: the likeliest token
    top_p: Annotated[StrictFloat | StrictInt, Field(gt=0, le=1)] = 1

    @model_validator(mode="after")
    def _searches_or_samples(self) -> Decode:
        if self.beams > 1 and self.temperature > 0:
            raise ValueError("beams are searched at temperature 0; choose `beams` or `temperature`")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("several `samples` at temperature 0 would all be the same; set a `temperature`")
        return self


USUAL_METRIC: dict[AnswerKind, str] = {"choice": "accuracy", "text": "squad_em", "likelihood": "perplexity"}


class TaskDefinition(_Strict):
    """A task file.

    `options` belong to `answer: choice`, `references` to the other kinds, `decode` to `answer: text`, where it is never
    None. A choice needs `gold`; a text may have it. With `extract`, every metric is taken of the answers that each of
    its lists of rules finds.
    """

    NEW_KEYS = frozenset({"extract"})

    task: Name
    about: StrictStr = ""
    extends: Name | None = None
    data: Data = Data()
    splits: Splits
    id: StrictStr | None = None
    fields: dict[StrictStr, StrictStr] = {}
    gold: Gold | None = None
    cluster: StrictStr | None = None
    group: StrictStr | None = None
    answer: AnswerKind = "choice"
    options: Annotated[list[StrictStr], Field(min_length=1)] | StrictStr | None = (
        None  # texts or templates; or the field that lists them
    )
    references: StrictStr | None = None  # raw field, or a template, with one acceptable text or a list of them
    decode: Decode | None = Field(default=None, validate_default=True)
    extract: RulesByName = {}
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
        """How many demonstrations are shown if a run does not say; none where there are none to show."""
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
        if not self.extract or "@" in name or name.startswith("evaluate:"):
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


class SuiteDefinition(_Strict):
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
