"""What a run was asked for: everything that can change its scores, as it stands in the manifest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer
from pydantic_core import to_jsonable_python

from icl_eval.choices import Overflow, parse_limit
from icl_eval.models import ModelConfig
from icl_eval.models.checkpoints.names import is_endpoint

HUB, SAMPLE = "hub", "sample"
MOST_SEEDS = 10_000


class RunConfig(ModelConfig):
    """One invocation, without its clock, device and folder."""

    model: str
    data: str = HUB  # `hub`, `sample`, or a directory
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    prompts: tuple[str, ...] = ()  # empty: each task's own
    shots: tuple[Annotated[int, Field(ge=0)], ...] = ()  # empty: each task's own
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    split: str | None = None  # asked instead of each task's own
    demonstrations: str | None = None  # split to show instead of each task's own
    limit: int | str | None = None  # N for a sample of N groups, `first:N` for the head of the data
    overflow: Overflow = "drop"
    decode: dict[str, Any] | None = None  # of written answers, what is unlike each task's own decoding

    @field_validator("limit")
    @classmethod
    def _sample_or_head(cls, limit: int | str | None) -> int | str | None:
        return None if limit is None else parse_limit(limit)

    @field_validator("decode")
    @classmethod
    def _as_in_the_manifest(cls, decode: dict[str, Any] | None) -> dict[str, Any] | None:
        """The same decoding is the same ask, in whatever order its names stand and whatever holds its stops."""
        return to_jsonable_python(dict(sorted(decode.items()))) if decode else None

    @model_serializer(mode="wrap")
    def _without_what_is_not_asked(self, serialized: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """An ask that leaves decoding to the tasks reads, and names its folder, as before this could be asked."""
        said: dict[str, Any] = serialized(self)
        return said if self.decode is not None else {name: said[name] for name in said if name != "decode"}

    def folder_name(self) -> str:
        """A name that the same ask always gets, so that the same command continues its own run."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]
        return f"{slug(self.tasks)}-{slug([short_name(self.model, self.served_name)])}-{digest}"


def short_name(model: str, served_name: str | None = None) -> str:
    """The last part of a model's name or path; of an endpoint its model's name if it is given, else its host."""
    named = model.rstrip("/")
    if is_endpoint(named):
        named = served_name or named.removesuffix("/v1")
    return named.split("/")[-1]


def place_of(data: str | Path) -> str:
    """The words for where data comes from; a path that reads like one of them is still a directory."""
    return f"./{data}" if isinstance(data, Path) and str(data) in (HUB, SAMPLE) else str(data)


def seed_list(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """`5` means the seeds 0 to 4; a list means itself.

    Raises:
        ValueError: there are none, or one stands twice.
    """
    listed = tuple(range(min(seeds, MOST_SEEDS + 1))) if isinstance(seeds, int) else tuple(seeds)
    if len(listed) > MOST_SEEDS:
        raise ValueError(f"{MOST_SEEDS} seeds are the most")
    if not listed or len(set(listed)) != len(listed):
        raise ValueError("seeds are a positive number of seeds, or a list without repetitions")
    return listed


def slug(names: Sequence[str]) -> str:
    """Names as the name of a folder, of at most 60 characters."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(names)).strip("-.").lower()[:60]
