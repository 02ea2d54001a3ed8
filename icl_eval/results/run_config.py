"""The configuration of a run: the options that can change its scores, as the manifest stores them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, get_args

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import to_jsonable_python

from icl_eval.config import DEFAULTS, HUB, SAMPLE, TYPES, Draw, Overflow, check_known
from icl_eval.errors import RunError, UnknownName
from icl_eval.models import LoadConfig, ModelConfig
from icl_eval.models.options import CHAT_ONLY, is_endpoint
from icl_eval.scoring import CALIBRATIONS, CONTEXTUAL
from icl_eval.tasks.located import first_problem
from icl_eval.tasks.metric_names import MetricName, named_metrics
from icl_eval.tasks.protocol import BY_SIMILARITY, ENCODED
from icl_eval.values import expand_orders, parse_formats, parse_labels, parse_limit, parse_select, selection_name

MAX_SEEDS = 10_000
MIN_BUDGET = 40  # examples: a batch for the best and a batch for the worst format
CHANGES = frozenset({"decode", "draw", "select", "encoder", "order", "labels", "fewshot_ids"})
"""Options that override keys of task files."""
RARE = CHANGES | {
    *("formats", "budget", "calibrate", "content_free", "metrics", "until", "per_shot_loss"),
    *("chat", *CHAT_ONLY),
}
"""Options that are stored in the manifest only if they are set."""
LISTS = ("tasks", "prompts", "shots", "fewshot_ids", "select", "order", "labels", "calibrate", "content_free")
"""Options that take one value or several."""


def _expanded(orders: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(expand_orders(orders))


class RunConfig(ModelConfig):
    """The options of a run that can change its scores. `icl_eval.config` describes them."""

    model_config = ConfigDict(validate_default=True)

    model: str
    data: str = DEFAULTS["data"]
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    prompts: tuple[str, ...] = DEFAULTS["prompts"]
    formats: Annotated[int | str, AfterValidator(parse_formats)] | None = DEFAULTS["formats"]
    budget: Annotated[int, Field(ge=MIN_BUDGET)] | None = DEFAULTS["budget"]
    shots: tuple[Annotated[int, Field(ge=0)], ...] = DEFAULTS["shots"]
    seeds: tuple[int, ...] = DEFAULTS["seeds"]
    split: str | None = DEFAULTS["split"]
    fewshot_split: str | None = DEFAULTS["fewshot_split"]
    draw: Draw | None = DEFAULTS["draw"]
    select: tuple[Annotated[str, AfterValidator(parse_select)], ...] = DEFAULTS["select"]
    encoder: str | None = DEFAULTS["encoder"]
    order: Annotated[tuple[str, ...], AfterValidator(_expanded)] = DEFAULTS["order"]
    labels: tuple[Annotated[str, AfterValidator(parse_labels)], ...] = DEFAULTS["labels"]
    fewshot_ids: tuple[str, ...] = DEFAULTS["fewshot_ids"]
    limit: Annotated[int | str, AfterValidator(parse_limit)] | None = DEFAULTS["limit"]
    until: Annotated[float, Field(gt=0, lt=0.5)] | None = DEFAULTS["until"]
    overflow: Overflow = DEFAULTS["overflow"]
    per_shot_loss: StrictBool = DEFAULTS["per_shot_loss"]
    decode: dict[str, Any] | None = DEFAULTS["decode"]
    calibrate: tuple[str, ...] = DEFAULTS["calibrate"]
    content_free: tuple[str, ...] = DEFAULTS["content_free"]
    metrics: tuple[MetricName, ...] = DEFAULTS["metrics"]

    @field_validator("data", mode="before")
    @classmethod
    def _word_or_directory(cls, data: str | Path) -> str:
        """`hub`, `sample` or a directory as text; a `Path` is a directory even if it has one of these names."""
        return f"./{data}" if isinstance(data, Path) and str(data) in (HUB, SAMPLE) else str(data)

    @field_validator(*LISTS, mode="before")
    @classmethod
    def _one_or_several(cls, values: Any) -> tuple[Any, ...]:
        return (values,) if isinstance(values, str) or not isinstance(values, Iterable) else tuple(values)

    @field_validator(*LISTS)
    @classmethod
    def _each_once(cls, values: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        each = tuple(dict.fromkeys(values))
        if info.field_name == "fewshot_ids" and len(each) < len(values):
            twice = next(value for value in values if values.count(value) > 1)
            raise ValueError(f"{twice!r} is listed twice, but a demonstration is shown only once")
        return each

    @field_validator("metrics", mode="before")
    @classmethod
    def _names_of_code(cls, metrics: Any) -> Any:
        """The names of metrics, also of functions and classes."""
        listed = metrics if isinstance(metrics, Sequence) and not isinstance(metrics, str) else [metrics]
        return tuple(dict.fromkeys(named_metrics(listed)[0]))

    @field_validator("calibrate")
    @classmethod
    def _known_calibrations(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in CALIBRATIONS:
                raise ValueError(str(UnknownName("calibration", name, CALIBRATIONS)))
        return names

    @field_validator("seeds", mode="before")
    @classmethod
    def _number_or_list(cls, seeds: Any) -> Any:
        return seed_list(seeds) if isinstance(seeds, int | Sequence) and not isinstance(seeds, str) else seeds

    @field_validator("decode", mode="before")
    @classmethod
    def _as_in_the_manifest(cls, decode: Any) -> Any:
        """Sort the options of decoding and make `stop` a list, so that equal decoding is an equal configuration."""
        if isinstance(decode, str) and decode:
            raise ValueError(f"this must be a mapping, such as {{'max_tokens': 8}}, not the text {decode!r}")
        if isinstance(decode, Mapping) and isinstance(decode.get("stop"), str):
            decode = {**decode, "stop": [decode["stop"]]}
        return (
            to_jsonable_python(dict(sorted(dict(decode).items()))) if isinstance(decode, Iterable) else decode or None
        )

    @model_validator(mode="after")
    def _fit_together(self) -> RunConfig:
        if self.until is not None and isinstance(self.limit, str):
            raise ValueError(f"`until` takes examples in pseudo-random order, so `limit` cannot be {self.limit}")
        if self.chat and self.overflow == "truncate":
            raise ValueError("`overflow` truncate would cut the beginning of the chat template")
        if self.chat and self.per_shot_loss:
            raise ValueError("`per_shot_loss` does not support chats")
        return self

    @model_validator(mode="after")
    def _draws_or_lists_demonstrations(self) -> RunConfig:
        if self.fewshot_ids and {*self.select} - {"random"}:
            raise ValueError(f"`fewshot_ids` lists the demonstrations, so `select` cannot be {', '.join(self.select)}")
        return self

    @model_validator(mode="after")
    def _uses_content_free_inputs(self) -> RunConfig:
        if self.content_free and not {*CONTEXTUAL} & {*self.calibrate}:
            raise ValueError("`content_free` has no effect unless `calibrate` names contextual")
        return self

    @model_validator(mode="after")
    def _searches_formats(self) -> RunConfig:
        if self.budget is not None and self.formats is None:
            raise ValueError("`budget` limits a search among `formats`, so give both")
        if self.budget is not None and self.until is not None:
            raise ValueError(
                "`until` stops before all examples are evaluated, but a search with `budget` begins with all of them; "
                "give one of the two"
            )
        return self

    @model_validator(mode="after")
    def _uses_the_encoder(self) -> RunConfig:
        if self.encoder and len(self.select) > 1 and not {*map(selection_name, self.select)} & {*ENCODED}:
            raise ValueError(
                f"`encoder` goes with `select` {', '.join(ENCODED)}, but `select` is {', '.join(self.select)}"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, serialized: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The stored options, without those of `RARE` that have their default."""
        values: dict[str, Any] = serialized(self)
        unused = {name for name in RARE if getattr(self, name) == DEFAULTS[name]}
        return {name: value for name, value in values.items() if name not in unused}

    @property
    def drawn_formats(self) -> tuple[int, int] | None:
        """The number of formats of each prompt and the seed of their draw; None without `formats`."""
        number, _, seed = str(self.formats or "").partition(":")
        return (int(number), int(seed or 0)) if number else None

    def protocol(self, variant: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
        """The keys that the run changes in the protocols of all tasks.

        Args:
            variant: values of `select`, `labels` and `order` of a variant, instead of the first values.
        """
        values = {name: values[0] for name, values in self._axes.items()} | dict(variant)
        encoder = self.encoder if len(self.select) < 2 or selection_name(values["select"]) in ENCODED else None
        chosen = {"draw": self.draw, **values, "encoder": encoder, "ids": [*self.fewshot_ids] or None}
        return {name: value for name, value in chosen.items() if value is not None}

    @property
    def variants(self) -> list[dict[str, str]]:
        """What each variant changes: all combinations of `select`, `labels` and `order` except the first.

        The order `similar-last` is combined only with selections by similarity, if there is one.
        """
        ordered = {each for each in self.select if selection_name(each) in BY_SIMILARITY}
        unordered = {*self.select} - ordered if ordered else set()
        plain, *others = [dict(zip(self._axes, values, strict=True)) for values in product(*self._axes.values())]
        exist = [each for each in others if each.get("order") != "similar-last" or each.get("select") not in unordered]
        return [{name: value for name, value in each.items() if value != plain[name]} for each in exist]

    @property
    def _axes(self) -> dict[str, tuple[str, ...]]:
        axes = {"select": self.select, "labels": self.labels, "order": self.order}
        return {name: values for name, values in axes.items() if values}

    def of_answers(self) -> str:
        """All options on which the answers depend, as JSON."""
        return self.model_dump_json(exclude={"metrics"})

    def folder_name(self) -> str:
        """A folder name that depends only on the configuration, so that the same command continues the same run."""
        digest = hashlib.sha256(self.of_answers().encode()).hexdigest()[:8]
        return f"{slug(self.tasks)}-{slug([short_name(self.model, self.served_name)])}-{digest}"


def read_run(model: str, tasks: Sequence[str], options: Mapping[str, Any]) -> tuple[RunConfig, LoadConfig]:
    """Check the options of a run; returns those that can change scores, and those that load the model.

    Raises:
        UnknownName: an option does not exist.
        RunError: an option has an invalid value.
    """
    check_known(options)
    _check_numbers(options)
    stored, loading = (
        {name: value for name, value in options.items() if name in fields}
        for fields in (RunConfig.model_fields, LoadConfig.model_fields)
    )
    try:
        return RunConfig(model=model, tasks=tuple(tasks), **stored), LoadConfig(**loading)
    except ValidationError as error:
        raise RunError(first_problem(error)) from error


def _check_numbers(options: Mapping[str, Any]) -> None:
    """Raise `RunError` for True or False as the value of a number, since Python treats them as 1 and 0."""
    for name, value in options.items():
        values = value if isinstance(value, list | tuple) else [value]
        found = next((each for each in values if isinstance(each, bool)), None)
        if found is not None and bool not in (TYPES[name], *get_args(TYPES[name])):
            raise RunError(f"`{name}` is {found}, but this option is not a switch")


def short_name(model: str, served_name: str | None = None) -> str:
    """The last part of a model's name or path; for an endpoint, the name of its model, or its host."""
    named = model.rstrip("/")
    if is_endpoint(named):
        named = served_name or named.removesuffix("/v1")
    return named.split("/")[-1]


def seed_list(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """A list of seeds; the number 5 stands for the seeds 0 to 4.

    Raises:
        ValueError: there are no seeds, too many, or a repeated seed.
    """
    listed = tuple(range(min(seeds, MAX_SEEDS + 1))) if isinstance(seeds, int) else tuple(seeds)
    if len(listed) > MAX_SEEDS:
        raise ValueError(f"there can be at most {MAX_SEEDS} seeds")
    if not listed or len(set(listed)) != len(listed):
        raise ValueError("give a positive number of seeds, or a list without repetitions")
    return listed


def slug(names: Sequence[str]) -> str:
    """Names joined to a folder name of at most 60 characters."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(names)).strip("-.").lower()[:60]
