from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "numpy", "pydantic", "jinja2", "datasets", "evaluate", "accelerate", "yaml", "rich"}


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [(["--help"], HEAVY), (["run", "--help"], HEAVY - {"pydantic"})],  # some typers read options with pydantic
)
def test_help_imports_nothing_heavy(arguments: list[str], heavy: set[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "icl_eval", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {
        line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "import time:" in line
    }

    assert {"icl_eval", "typer"} <= imported
    assert imported & heavy == set()
    assert done.stdout.startswith("Usage: icl-eval ")
