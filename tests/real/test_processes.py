"""A real model in several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .test_superglue import needs_data, needs_model

ROOT = Path(__file__).resolve().parents[2]


@needs_data
@needs_model
@pytest.mark.slow
def test_two_processes_score_as_one_does_to_the_last_byte(tmp_path: Path) -> None:
    for name, processes in (("one", 1), ("two", 2)):
        words = ["run", "-t", "superglue/cb,superglue/rte", "--shots", "0,4", "--limit", "12", "--device", "cpu"]
        words += ["-m", os.environ["ICL_EVAL_MODEL"], "--data-dir", os.environ["ICL_EVAL_DATA"]]
        subprocess.run(
            [sys.executable, "-m", "icl_eval", *words, "--out", tmp_path / name, "--processes", str(processes)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            check=True,
        )

    for file in ("scores.json", "examples.jsonl"):
        assert (tmp_path / "two" / file).read_bytes() == (tmp_path / "one" / file).read_bytes()
