from __future__ import annotations

import csv
import io
from pathlib import Path

from icl_eval.testing import FakeLM

from .shell import TOY, IclEval


def test_rescore_prints_the_table_of_the_run(icl_eval: IclEval, lm: FakeLM) -> None:
    printed = icl_eval("run", "-t", "toy", "--shots", "0,2", "--seeds", "2", "--out", "kept", *TOY).out
    before = lm.answered
    for format in ("table", "md", "csv", "json"):
        again = icl_eval("run", "-t", "toy", "--shots", "0,2", "--seeds", "2", "--out", "kept", "-f", format, *TOY).out
        assert icl_eval("rescore", "kept", "--format", format).out == again

    assert icl_eval("rescore", "kept").out == printed
    assert lm.answered == before


def test_rescore_computes_other_normalisations(icl_eval: IclEval, lm: FakeLM) -> None:
    icl_eval("run", "-t", "toy/parity", "--shots", "0", "--out", "kept", *TOY)
    result = icl_eval("rescore", "kept", "--normalization", "byte,unconditional", "-f", "csv")

    assert [row["normalization"] for row in csv.DictReader(io.StringIO(result.out))] == ["byte", "unconditional"]
    assert icl_eval("rescore", "kept", "--normalization", "bytes").mistake.endswith("did you mean byte?")


def test_rescore_of_an_unfinished_run_is_one_sentence(icl_eval: IclEval, lm: FakeLM) -> None:
    icl_eval("run", "-t", "toy/parity", "--shots", "0", "--out", "kept", *TOY)
    manifest = Path("kept/manifest.json")
    lines = [line for line in manifest.read_text().splitlines() if '"finished"' not in line]
    manifest.write_text("\n".join(lines))

    assert icl_eval("rescore", "kept").mistake == ("kept: this run is not finished; the same command continues it")
