"""Models that do not get through a run, and processes that die with one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from icl_eval.testing import FakeLM

TESTS = Path(__file__).resolve().parents[1]


class Stopping(FakeLM):
    """Answers the first `after` requests of its first call, and raises."""

    def __init__(self, answers: Mapping[str, str], reason: BaseException, *, after: int = 0, **options: Any) -> None:
        super().__init__(answers, **options)
        self.reason, self.after = reason, after

    def score(self, requests: Any, sink: Any) -> None:
        super().score(requests[: self.after], sink)
        raise self.reason


class Killed(FakeLM):
    """Kills its process as soon as it has answered so many requests."""

    def __init__(self, answers: Mapping[str, str], *, after: int, **options: Any) -> None:
        super().__init__(answers, **options)
        self.after = after

    def score(self, requests: Any, sink: Any) -> None:
        def count(index: int, answer: Any) -> None:
            sink(index, answer)
            if self.answered == self.after:
                os.kill(os.getpid(), signal.SIGKILL)

        super().score(requests, count)


def run_to_death(script: str, *folders: Path) -> list[int]:
    """Run a script, given folders as its arguments, and return the exit codes that it prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(TESTS)])}
    command = [sys.executable, "-c", script, *(str(folder) for folder in folders)]
    ended = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return [int(code) for code in ended.stdout.split()]
