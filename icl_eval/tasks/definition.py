"""What a task file and a suite file may say: the schema, and nothing else."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator

Normalization = Literal["sum", "token", "char", "byte", "unconditional"]
Name = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Hub(_Strict):
    """A data set on the Hugging Face Hub."""

    path: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")]  # owner/name, never a folder
    name: StrictStr | None = None
    revision: StrictStr | None = None
    splits: dict[StrictStr, StrictStr] = {}  # split -> its name on the Hub, where that is another


class Data(_Strict):
    """Where records come from. Both layouts end up as the same examples."""

    hub: Hub | None = None
    local: dict[StrictStr, StrictStr | Annotated[list[StrictStr], Field(min_length=1)]] = {}
    # split -> file under --data-dir, or several whose lines belong together
    adapter: StrictStr | None = None  # a named conversion in the package, for what field mappings cannot say


class DemonstrationSource(_Strict):
    """Demonstrations from another task's split, for tasks without training data."""

    task: Name
    split: StrictStr


class Splits(_Strict):
    """Which split is shown solved and which is asked."""

    demonstrations: StrictStr | DemonstrationSource
    evaluation: StrictStr


class Gold(_Strict):
    """Where the right option stands: `names[i]` or the number `i` in the record means option `i`."""

    field: StrictStr
    names: list[StrictStr] | None = None


class Protocol(_Strict):
    """How demonstrations are chosen."""

    shots: Annotated[StrictInt, Field(ge=0)] = 32
    draw: Literal["per_example", "fixed"] = "per_example"
    within: StrictStr | None = None  # demonstrations share this field's value with the query
    repeat: StrictBool = False  # a demonstration may ask what the query asks, where the answer is to be found in it


class Score(_Strict):
    """How the log-likelihoods of options become comparable."""

    normalize: Normalization = "token"


class TaskDefinition(_Strict):
    """A task file."""

    task: Name
    about: StrictStr
    extends: Name | None = None
    data: Data = Data()
    splits: Splits
    id: StrictStr | None = None
    fields: dict[StrictStr, StrictStr] = {}
    gold: Gold
    cluster: StrictStr | None = None
    group: StrictStr | None = None
    answer: Literal["choice"] = "choice"
    options: (
        Annotated[list[StrictStr], Field(min_length=1)] | StrictStr
    )  # texts or templates; or the field that lists them
    prompts: Annotated[list[Name], Field(min_length=1)]
    protocol: Protocol = Protocol()
    score: Score = Score()
    metrics: Annotated[list[StrictStr], Field(min_length=1)] = ["accuracy"]
    reference: StrictStr | None = None
    version: StrictInt = 1

    @model_validator(mode="after")
    def _gold_names_match_options(self) -> TaskDefinition:
        if self.gold.names and isinstance(self.options, list) and len(self.gold.names) != len(self.options):
            raise ValueError(f"`gold.names` has {len(self.gold.names)} names for {len(self.options)} options")
        return self


class SuiteDefinition(_Strict):
    """A suite file: tasks in order, and the average of their scores (a task's several metrics are averaged first)."""

    suite: Name
    about: StrictStr
    tasks: Annotated[list[Name], Field(min_length=1)]
    average: bool = True
    reference: StrictStr | None = None
