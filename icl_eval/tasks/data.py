"""The keys of a task file that define the source of its records."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StrictStr,
    field_validator,
    model_serializer,
    model_validator,
)

from icl_eval.tasks.extraction import compiled
from icl_eval.tasks.files import FORMATS, Format, Layout, format_of


class Strict(BaseModel):
    """A mapping in a task file. Unknown keys are errors, and values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    NEW_KEYS: ClassVar[frozenset[str]] = frozenset()
    """Keys that are dumped only if they are set, so that digests of older tasks do not change."""

    @model_serializer(mode="wrap")
    def _without_new_keys(self, serialized: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = serialized(self)
        unset = {name for name in self.NEW_KEYS if getattr(self, name) == type(self).model_fields[name].get_default()}
        return {name: value for name, value in found.items() if name not in unset}


class Hub(Strict):
    """A data set on the Hugging Face Hub."""

    path: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")]
    """Owner and name, such as `aps/super_glue`; never a folder."""

    name: StrictStr | None = None
    """Configuration of the data set."""

    revision: StrictStr | None = None
    """Revision of the data set."""

    splits: dict[StrictStr, StrictStr] = {}
    """Splits of the task, and the name of each on the Hub if it differs."""


class Data(Strict):
    """Where records come from. The Hub and the official release give the same examples."""

    NEW_KEYS = frozenset({"format", "columns", "pattern", "records"})

    hub: Hub | None = None
    """Data set on the Hub."""

    local: dict[StrictStr, StrictStr | Annotated[list[StrictStr], Field(min_length=1)]] = {}
    """Splits, and the file of each below `--data-dir`, with `{field}` for several files; or files read in parallel."""

    format: Format | None = None
    """Format of all files; by default, the suffix decides."""

    columns: Annotated[list[StrictStr], Field(min_length=1)] | None = None
    """Names of the columns of a CSV or TSV file without a header."""

    pattern: StrictStr | None = None
    """Regular expression for each line of a text file; its named groups are the fields."""

    records: Annotated[StrictStr, Field(min_length=1)] | None = None
    """Dotted path to the array of records in a JSON file."""

    adapter: StrictStr | None = None
    """Built-in conversion, if `fields` cannot express it."""

    synthetic: StrictStr | None = None
    """Built-in generator of records, used if no file of `local` is found."""

    @property
    def layout(self) -> Layout:
        """The layout of all files."""
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
                    raise ValueError(
                        f"in {name!r}, a field must be a name in braces that occurs once, such as `{{subject}}`"
                    )
                if fields and not isinstance(names, str):
                    raise ValueError(
                        f"{name!r} has a field in its name; files that are read in parallel cannot have one"
                    )
        return local

    @model_validator(mode="after")
    def _keys_fit_the_files(self) -> Data:
        """Check that keys for a format are used only with files of this format."""
        belongs: dict[str, tuple[Format, ...]] = {
            "columns": ("csv", "tsv"),
            "pattern": ("lines",),
            "records": ("json",),
        }
        listed = [[names] if isinstance(names, str) else names for names in self.local.values()]
        found = {name: self.format or format_of(name) for names in listed for name in names}
        for key, formats in belongs.items():
            if getattr(self, key) is not None and found and not {*found.values()} & {*formats}:
                name, its = next(iter(found.items()))
                kind = its or f"of an unknown kind; set `format` to one of {', '.join(FORMATS)}"
                raise ValueError(f"`{key}` is for {' and '.join(formats)} files, and {name} is {kind}")
        return self

    @model_validator(mode="after")
    def _generated_or_downloaded(self) -> Data:
        if self.synthetic and self.hub:
            raise ValueError("records are made by `synthetic` or come from the `hub`, not both")
        return self
