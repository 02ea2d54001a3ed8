from __future__ import annotations

from pathlib import Path

from icl_eval.testing import FakeLM

from .shell import TOY, IclEval


def test_the_table_counts_dirty_examples_and_rescore_reads_the_file(icl_eval: IclEval, lm: FakeLM) -> None:
    icl_eval("run", "-t", "toy/parity", "--shots", "0", "--out", "kept", *TOY)
    Path("corpus.txt").write_text("“q: 3, a odd!”")
    result = icl_eval("contamination", "-t", "toy/parity", "--text", "corpus.txt", "--out", "found.jsonl", *TOY)
    again = icl_eval("rescore", "kept", "--contamination", "found.jsonl", "--no-report")

    assert result.out.splitlines()[2].split() == ["toy/parity", "8", "8", "1", "12.5"]
    assert result.err == "found.jsonl: 1 dirty example\n"
    assert [line.split()[1] for line in again.out.splitlines() if line.startswith(" toy/parity")] == [
        "all", "clean", "clean", "dirty",
    ]  # fmt: skip


def test_a_missing_text_is_one_sentence(icl_eval: IclEval) -> None:
    result = icl_eval("contamination", "-t", "toy/parity", "--text", "none.txt", *TOY)

    assert result.mistake == "none.txt: this file or folder does not exist"
    assert not Path("contamination.jsonl").exists()
