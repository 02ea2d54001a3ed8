from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from toy_tasks import knowing, write_library

from icl_eval import Library, evaluate
from icl_eval.errors import TaskError
from icl_eval.metrics import METRICS
from icl_eval.metrics.confusion import MacroF1
from icl_eval.runs import names


@pytest.fixture
def percent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Library:
    """The toys, one of them with a metric that goes to 100."""
    monkeypatch.setattr(names, "METRICS", {**METRICS, "macro_f1": replace(MacroF1(), bounds=(0.0, 100.0))})
    path = write_library(tmp_path) / "tasks/toy/pairs.yaml"
    path.write_text(path.read_text().replace("[accuracy, group_exact_match]", "[macro_f1]"))
    return Library([tmp_path])


def test_scores_of_different_scales_are_not_averaged(percent: Library, tmp_path: Path) -> None:
    with pytest.raises(TaskError) as caught:
        evaluate(knowing(0), "toy", shots=0, library=percent, data=tmp_path / "data")

    assert str(caught.value) == (
        f"{tmp_path / 'tasks/toy.yaml'}:3: toy averages accuracy of toy/parity with macro_f1 of toy/pairs, which are "
        "on different scales; say `average: false`"
    )


def test_suite_without_average_may_have_any_scales(percent: Library, tmp_path: Path) -> None:
    path = tmp_path / "tasks/toy.yaml"
    path.write_text(path.read_text() + "average: false\n")
    result = evaluate(knowing(0), "toy", shots=0, library=Library([tmp_path]), data=tmp_path / "data")

    assert [line.metric for line in result] == ["accuracy", "macro_f1"]
