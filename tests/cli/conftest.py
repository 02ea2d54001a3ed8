from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main
from toy_tasks import knowing, write_library

from icl_eval.cli import main
from icl_eval.cli.terminal import DEFAULT_WIDTH
from icl_eval.testing import FakeLM

from .shell import IclEval, Shell

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _one_parser() -> Iterator[None]:
    """Build the parser of all commands once; a process of its own does so for its only command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tasks, prompts and data, which is also where commands run."""
    monkeypatch.chdir(tmp_path)
    return write_library(tmp_path)


@pytest.fixture
def icl_eval(library: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[IclEval]:
    """The command line, in this process, in the folder of `library`."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    monkeypatch.setenv("COLUMNS", str(DEFAULT_WIDTH))  # pytest and its terminal may have another width

    def run(*arguments: object) -> Shell:
        monkeypatch.setattr(sys, "argv", ["icl-eval", *map(str, arguments)])
        capsys.readouterr()
        try:
            code = main()
        except SystemExit as left:  # as after --help
            code = int(left.code or 0)
        captured = capsys.readouterr()
        return Shell(code, captured.out, captured.err)

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeLM], FakeLM]:
    """Make every name of a model mean this one."""

    def use(lm: FakeLM) -> FakeLM:
        def load(*_: Any, **__: Any) -> FakeLM:
            return lm

        monkeypatch.setattr("icl_eval.runs.model.load", load)
        monkeypatch.setattr("icl_eval.runs.check.load", load)
        return lm

    return use


@pytest.fixture
def lm(model: Callable[[FakeLM], FakeLM]) -> FakeLM:
    return model(knowing(0, 1, 2))
