"""What a killed process leaves behind is continued with every answer that it had."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from toy_tasks import ASKED, answers, knowing, parity

from icl_eval import evaluate, sweep
from icl_eval.testing import FakeLM

from .dying import run_to_death
from .folders import journal

KILLED = """
import os
import sys
import torch  # takes longest to import, and is imported once for both
from runs.dying import Killed
from toy_tasks import ASKED, answers, parity
from icl_eval import evaluate, sweep
from icl_eval.testing import FakeLM

def run(folder):
    evaluate(Killed(answers([0, 1]), after=15), parity(), shots=[0, 2], out=folder)

def run_several(folder):
    models = [FakeLM(answers([0]), name="weak"), Killed(answers(ASKED), after=5, name="strong")]
    sweep(models, parity(), shots=[0, 2], out=folder)

for work, folder in zip((run, run_several), sys.argv[1:], strict=True):
    if (child := os.fork()) == 0:
        work(folder)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
FILES = ("scores.json", "examples.jsonl")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of a killed run and that of a killed sweep."""
    folder = tmp_path_factory.mktemp("killed")
    found = folder / "run", folder / "sweep"
    assert run_to_death(KILLED, *found) == [-signal.SIGKILL] * 2
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_a_killed_run_goes_on_with_every_answer_it_had(killed: tuple[Path, Path], tmp_path: Path) -> None:
    cut, _ = killed
    kept = journal(cut)
    whole, rest = knowing(0, 1), knowing(0, 1)
    evaluate(whole, parity(), shots=[0, 2], out=tmp_path)
    evaluate(rest, parity(), shots=[0, 2], out=cut)

    assert len(kept) == 15
    assert rest.answered == whole.answered - 15
    assert journal(cut)[:15] == kept
    assert contents(cut) == contents(tmp_path)


def test_a_killed_sweep_goes_on_with_every_answer_it_had(killed: tuple[Path, Path], tmp_path: Path) -> None:
    _, cut = killed
    models, whole = ([FakeLM(answers([0]), name="weak"), FakeLM(answers(ASKED), name="strong")] for _ in range(2))
    sweep(models, parity(), shots=[0, 2], out=cut)
    sweep(whole, parity(), shots=[0, 2], out=tmp_path)
    folders = [each["folder"] for each in json.loads((tmp_path / "sweep.json").read_text())["members"]]

    assert [lm.answered for lm in models] == [0, whole[1].answered - 5]
    assert len(folders) == 2
    assert [contents(cut / folder) for folder in folders] == [contents(tmp_path / folder) for folder in folders]
