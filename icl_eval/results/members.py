"""The members of a sweep: one model each, with a run folder of its own below; `sweep.json` lists them."""

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
    """A model of a sweep, at one of its revisions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    revision: str | None
    folder: str  # below the sweep's
    failed: str | None = None  # why it could not be measured

    @classmethod
    def of(cls, model: str, revision: str | None) -> Member:
        """A member, whose folder's name does not depend on the rest of the sweep."""
        digest = hashlib.sha256(json.dumps([model, revision]).encode()).hexdigest()[:8]
        words = slug([short_name(model), *filter(None, [revision])])
        return cls(model=model, revision=revision, folder="-".join(filter(None, [words, digest])))

    @property
    def label(self) -> str:
        """What sentences call it."""
        return label(self.model, self.revision)


class MemberList(BaseModel):
    """`sweep.json`: the members in the order of the table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    members: tuple[Member, ...] = Field(min_length=1)


def label(model: str, revision: str | None) -> str:
    """A model, at a revision if one was chosen."""
    return model if revision is None else f"{model}@{revision}"


def is_sweep(path: Path) -> bool:
    """Whether a folder is that of a sweep."""
    return (path / SWEEP).is_file()


def write_members(path: Path, members: Sequence[Member]) -> None:
    """Replace the `sweep.json` of a folder.

    Raises:
        RunError: it cannot be written.
    """
    replace_file(path / SWEEP, [MemberList(members=tuple(members)).model_dump_json(indent=1)])


def read_members(path: Path) -> tuple[Member, ...]:
    """The members of a sweep's folder.

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
