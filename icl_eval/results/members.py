"""The members of a sweep, `sweep.json`: one model each, with its own run folder in the folder of the sweep."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from icl_eval.errors import RunError
from icl_eval.results.files import replace_file
from icl_eval.results.manifest import SWEEP
from icl_eval.results.run_config import short_name, slug


class Member(BaseModel):
    """A model of a sweep, at one revision."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    revision: str | None
    folder: str  # name of the run folder in the folder of the sweep
    failed: str | None = None  # the reason if it could not be measured

    @classmethod
    def of(cls, model: str, revision: str | None) -> Member:
        """Make a member. The name of its folder does not depend on the other members."""
        digest = hashlib.sha256(json.dumps([model, revision]).encode()).hexdigest()[:8]
        words = slug([short_name(model), *filter(None, [revision])])
        return cls(model=model, revision=revision, folder="-".join(filter(None, [words, digest])))

    @property
    def label(self) -> str:
        """The name of the member in messages and tables."""
        return label(self.model, self.revision)


class MemberList(BaseModel):
    """The content of `sweep.json`: the members in the order of the table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    members: tuple[Member, ...] = Field(min_length=1)


def label(model: str, revision: str | None) -> str:
    """The name of a model, with its revision if one was chosen."""
    return model if revision is None else f"{model}@{revision}"


def is_sweep(path: Path) -> bool:
    """Whether this is the folder of a sweep."""
    return (path / SWEEP).is_file()


def write_members(path: Path, members: Sequence[Member]) -> None:
    """Replace the `sweep.json` of a folder.

    Raises:
        RunError: the file cannot be written.
    """
    replace_file(path / SWEEP, [MemberList(members=tuple(members)).model_dump_json(indent=1)])


def read_members(path: Path) -> tuple[Member, ...]:
    """Read the members from the folder of a sweep.

    Raises:
        RunError: the list is missing or damaged.
    """
    file = path / SWEEP
    try:
        return MemberList.model_validate_json(file.read_bytes()).members
    except OSError as error:
        raise RunError(f"this is not the folder of a sweep: {SWEEP} cannot be read ({error.strerror})", path) from error
    except ValidationError as error:
        raise RunError(f"the list of models is damaged: {error.errors()[0]['msg']}", file) from error
