from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from toy_tasks import knowing

from icl_eval import compare
from icl_eval.testing import FakeLM

from .shell import TOY, IclEval

Use = Callable[[FakeLM], FakeLM]


@pytest.fixture
def runs(model: Use, icl_eval: IclEval) -> None:
    """Of 8 numbers in the folder `one` the first 3 are known, in `other` the first 6."""
    for folder, right in (("one", range(3)), ("other", range(6))):
        model(knowing(*right))
        icl_eval("run", "-t", "toy/parity", "--shots", "0", "--out", folder, *TOY)


@pytest.mark.usefixtures("runs")
def test_compare_prints_the_paired_difference(icl_eval: IclEval) -> None:
    result = icl_eval("compare", "one", "other")
    head, _, row = [line.split() for line in result.out.splitlines() if line.startswith((" task", " ──", " toy"))]

    assert (result.code, result.err) == (0, "report: other/compared-with-one.html\n")
    assert result.out.startswith("one: model fake (")
    assert head == [
        "task",
        "metric",
        "shots",
        "one",
        "other",
        "difference",
        "±",
        "95",
        "%",
        "p",
        "(Holm)",
        "W/L/T",
        "n",
    ]
    # d = three ones among eight: sd² = (3 - 9/8) / 7, error sqrt(sd² / 8) = 0.183, ends 0.375 ± t * 0.183, t = 2.365;
    # p of three wins without a loss is 2 / 2³
    cells = "toy/parity accuracy 0 0.375 0.750 0.375 0.183 -0.058 to 0.808 0.250 3/0/5 8"
    assert row == cells.split()


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("format", ["table", "md", "latex", "csv", "json"])
def test_compare_prints_the_table_of_python(format: str, icl_eval: IclEval) -> None:
    assert icl_eval("compare", "one", "other", "-f", format).out == compare("one", "other").table(format)


@pytest.mark.usefixtures("runs")
def test_compare_prints_several_runs_next_to_the_first(icl_eval: IclEval) -> None:
    result = icl_eval("compare", "one", "other", "one")
    rows = list(csv.DictReader(io.StringIO(icl_eval("compare", "one", "other", "one", "-f", "csv").out)))

    assert result.out.count("one: model fake (") == 2
    assert result.err == "report: other/compared-with-one.html\nreport: one/compared-with-one.html\n"
    assert [row["difference"] for row in rows] == ["0.375", "0.0"]
    assert [row["p_holm"] for row in rows] == ["0.5", "1.0"]
    assert len(json.loads(icl_eval("compare", "one", "other", "one", "-f", "json").out)["comparisons"]) == 2


@pytest.mark.usefixtures("runs")
def test_compare_computes_other_normalisations(icl_eval: IclEval) -> None:
    result = icl_eval("compare", "one", "other", "--normalization", "sum,byte", "-f", "md")

    assert [line.split(" | ")[2] for line in result.out.splitlines() if line.startswith("| toy")] == ["sum", "byte"]


@pytest.mark.usefixtures("runs")
def test_compare_of_a_folder_without_a_run_is_one_sentence(icl_eval: IclEval) -> None:
    gone = "gone: this is not a run folder: it does not exist"
    assert [icl_eval("compare", *folders).mistake for folders in (("gone", "other"), ("one", "gone"))] == [gone, gone]

    manifest = Path("one/manifest.json")
    manifest.write_text("\n".join(line for line in manifest.read_text().splitlines() if '"finished"' not in line))
    assert icl_eval("compare", "one", "other").mistake.startswith("one: this run is not finished; ")


@pytest.mark.usefixtures("runs")
def test_compare_needs_two_folders(icl_eval: IclEval) -> None:
    assert "OTHER" in icl_eval("compare", "one").mistake
