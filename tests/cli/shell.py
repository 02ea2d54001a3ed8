"""What a command left behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Shell:
    """Exit code, stdout and stderr of a command."""

    code: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """The one sentence about a user's mistake, once it is certain that there is nothing else."""
        assert (self.code, self.out) == (2, ""), self
        assert self.err.startswith("icl-eval: "), self
        assert self.err.count("\n") == 1, self
        return self.err.removeprefix("icl-eval: ").rstrip("\n")


IclEval = Callable[..., Shell]
TOY = ("--include", ".", "--data-dir", "data")
