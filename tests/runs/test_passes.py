from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest

from icl_eval import Task, evaluate
from icl_eval.analysis.score import score_examples
from icl_eval.models import Sink
from icl_eval.runs import run as module
from icl_eval.runs.check import preview
from icl_eval.testing import FakeLM

RECORDS = [{"n": number, "label": number % 2} for number in range(6)]


def parity() -> Task:
    return Task.from_records(
        "parity",
        evaluation=RECORDS,
        prompt="{{ n }} is",
        options=["even", "odd"],
        names=["0", "1"],
        gold="label",
        metrics=["accuracy", "macro_f1"],
    )


class Failing(FakeLM):
    def score(self, requests: Any, sink: Sink) -> None:
        raise RuntimeError("the device is gone")


@pytest.mark.parametrize("kept", [True, False])
def test_all_answers_are_stored_before_the_first_score(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, seen = FakeLM(), list[str]()

    def watched(examples: Any, *args: Any, **named: Any) -> Any:
        lm.score = None  # type: ignore[assignment, method-assign]
        stored = list(examples)
        seen.extend(each.id for each in stored)
        return score_examples(stored, *args, **named)

    monkeypatch.setattr(module, "score_examples", watched)
    evaluate(lm, parity(), shots=0, out=tmp_path / "run" if kept else None)

    assert len({*seen}) == 6
    assert (tmp_path / "run/examples.jsonl").is_file() == kept


def test_the_traceback_of_a_model_names_collecting_and_not_scoring() -> None:
    with pytest.raises(RuntimeError, match="the device is gone") as caught:
        evaluate(Failing(), parity(), shots=0)

    names = {frame.name for frame in traceback.extract_tb(caught.tb) if "icl_eval/runs" in frame.filename}
    assert "collect" in names
    assert not {name for name in names if "score" in name}


def test_a_preview_does_not_convert_other_examples() -> None:
    records = [*RECORDS, {"n": 6, "label": 7}]
    task = Task.from_records("parity", evaluation=records, prompt="{{ n }} is", options=["even", "odd"], id="n")

    query, _, _ = preview(task, "tiny", shots=(0,), device="cpu")

    assert query.example.id == "0"
