"""How many calls lead from a command to the network that answers it."""

from __future__ import annotations

import re
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import PreTrainedModel

import icl_eval
from icl_eval.cli import main

PACKAGE = Path(icl_eval.__file__).parent
MOST_CALLS = 10
DESIGN = PACKAGE.parent / "docs" / "design.md"


def chain_to_the_network(monkeypatch: pytest.MonkeyPatch, out: Path) -> list[str]:
    """The package's functions on the stack when a run's first batch reaches the network, the command first."""
    found: list[list[str]] = []

    def record(module: torch.nn.Module, _inputs: Any) -> None:
        if not isinstance(module, PreTrainedModel):
            return
        frames = [frame for frame in traceback.extract_stack() if Path(frame.filename).is_relative_to(PACKAGE)]
        if any(frame.name == "collect" for frame in frames):
            names = (Path(frame.filename).relative_to(PACKAGE).as_posix() for frame in frames)
            found.append([f"{file}: {frame.name}" for file, frame in zip(names, frames, strict=True)])

    words = ["--task", "superglue/copa", "--shots", "1", "--limit", "1", "--data", "sample", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["icl-eval", "run", *words])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    hook = register_module_forward_pre_hook(record)
    try:
        assert main() == 0
    finally:
        hook.remove()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return found[0]


def test_few_calls_lead_from_the_command_to_the_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chain = chain_to_the_network(monkeypatch, tmp_path / "run")

    assert chain[0] == "cli/app.py: main"
    assert "runs/collect.py: collect" in chain
    assert not [call for call in chain if "score" in call.split("/")[-1].split(":")[0]]
    assert len(chain) <= MOST_CALLS, "\n".join(chain)
    assert chain == [f"{file}: {function}" for file, function in documented_chain()]


def documented_chain() -> list[list[str]]:
    """The files and functions of the list in the documentation."""
    section = DESIGN.read_text(encoding="utf-8").split("### From the command to the network")[1]
    return [line.split()[:2] for line in section.split("```")[1].strip().splitlines()]


def test_everything_in_the_table_of_extension_points_exists() -> None:
    table = DESIGN.read_text(encoding="utf-8").split("### To change something")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) > 10
    for row in rows:
        source = ""
        for name in re.findall("`([^`]+)`", row):
            if name.endswith(".py"):
                source = (PACKAGE / name).read_text(encoding="utf-8")
            else:
                assert re.search(rf"^(def |class )?{name}\b", source, re.MULTILINE), row
