"""What the documentation shows below a command is what the command prints."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_OUTPUT = re.compile(r"```console\n(icl-eval (?:.*\\\n)*.*\n)```\n\n```\n([^`]*)```")  # two consecutive blocks
EXTERNAL = re.compile(r"--(model|data-dir) (?!tiny\s)|rescore ")  # what the package does not bundle


def documented() -> list[tuple[str, str]]:
    """The commands of the documentation that need only what the package bundles, and their documented output."""
    pairs = [pair for page in PAGES for pair in WITH_OUTPUT.findall(page.read_text("utf-8"))]
    commands = [(command.replace("\\\n", " ").strip(), output) for command, output in pairs]
    return [(command, output) for command, output in commands if not EXTERNAL.search(command)]


def test_documented_outputs_are_found() -> None:
    assert len(documented()) >= 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "output"), documented(), ids=lambda text: text if text.startswith("icl-eval") else ""
)
def test_a_documented_command_prints_the_documented_output(command: str, output: str, tmp_path: Path) -> None:
    """All documented lines are printed in this order; a page may leave out the others."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    words = [sys.executable, "-m", "icl_eval", *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8")

    assert done.returncode == 0, done.stderr
    printed, expected = done.stdout.splitlines(), output.splitlines()
    remaining = iter(printed)
    missing = [line for line in expected if line not in remaining]
    assert not missing, f"{missing[0]!r} is not printed; the output is\n{done.stdout}"
