"""The check for accelerators in its scaled-down form, and what it may import."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "benchmarks" / "accelerator.py"
ALLOWED = {
    "icl_eval",
    "torch",
    "transformers",
    "accelerate",
    "numpy",
    "psutil",
    "yaml",
    "safetensors",
    "huggingface_hub",
    "jinja2",
}
NOT_OURS = ("icl_eval.runs", "icl_eval.cli", "icl_eval.tasks", "icl_eval.prompts", "icl_eval.metrics")
BARE = f"""
import builtins, runpy, sys

usual = builtins.__import__

def importing(name, globals=None, *more, **settings):
    caller = (globals or {{}}).get("__name__") or ""
    if caller == "__main__" or caller.split(".")[0] == "icl_eval":
        root = name.split(".")[0]
        if root not in {ALLOWED!r} | sys.stdlib_module_names or name.startswith({NOT_OURS!r}):
            raise ModuleNotFoundError(f"{{caller}} imports {{name}}")
    return usual(name, globals, *more, **settings)

builtins.__import__ = importing
sys.argv = [{str(SCRIPT)!r}, *sys.argv[1:]]
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""
"""Lets the script and the package import what accelerate, torch and transformers bring, and nothing else."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The script on a machine that has nothing but what it needs, and no GPU."""
    return subprocess.run(
        [sys.executable, "-c", BARE, *arguments],
        env={"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )


def check(table: str, models: int) -> None:
    """Every path of so many models was measured, and its numbers agree with plain forward passes."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if "|" in line]
    assert len(rows) == models * 6
    for model, work, tokens, difference, over, speed, *_ in rows:
        assert float(difference.split()[0]) < 1e-4, (model, work)
        assert ("(" in difference) == (work in ("rte", "curve", "fixed"))
        assert int(tokens.replace(",", "")) > 0
        assert int(speed.replace(",", "")) > 0
        assert bool(over) == (work in ("rte", "curve", "fixed"))


def test_a_small_model_with_sliding_windows_is_measured_on_every_path(capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(SCRIPT), run_name="accelerator")
    windows = next(shape for shape in script["SMALL"] if shape.kind == "gemma3")

    script["Bench"]("cpu", quick=True).measure(windows)

    output = capsys.readouterr()
    check(output.out, models=1)
    kernels, steps = output.err.splitlines()
    assert kernels == f"{windows.name}: attention by flash_blocks, decoded by PooledDecoder"
    assert re.fullmatch(rf"{windows.name}: a step of \d+ hypotheses takes \d+\.\d\d ms", steps)


def test_a_part_that_fails_is_reported_and_the_others_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    bench = runpy.run_path(str(SCRIPT), run_name="accelerator")["Bench"]("cpu", quick=True)
    done: list[int] = []

    bench.attempt("llama, rte", lambda: 1 / 0)
    bench.attempt("llama, curve", lambda: done.append(1))
    bench.until = 0
    bench.attempt("llama, fixed", lambda: done.append(2))

    assert done == [1]
    assert bench.left_out == [
        "not measured: llama, rte: ZeroDivisionError: division by zero",
        "not measured, for want of time: llama, fixed",
    ]
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.slow
def test_the_scaled_down_form_measures_every_path_with_little_installed() -> None:
    done = run("--quick", "--device", "cpu")

    assert done.returncode == 0
    assert set(done.stderr.splitlines()) <= set(done.stdout.splitlines())  # repeated below the table
    head, table = done.stdout.split("|---|", 1)
    assert head.startswith("CPU, scaled down; torch")
    check(table.partition("\n")[2], models=3)


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code = runpy.run_path(str(SCRIPT), run_name="accelerator")["main"]([])
    output = capsys.readouterr()

    assert (code, output.out) == (2, "")
    assert output.err == "there is no CUDA device here; --device cpu runs a scaled-down form\n"
