from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from toy_tasks import knowing, write, write_library

from icl_eval import Library, evaluate
from icl_eval.errors import MetricError, TaskError
from icl_eval.metrics import metric
from icl_eval.metrics.confusion import MacroF1
from icl_eval.results.run_config import seed_list
from icl_eval.runs.check import inspect


@pytest.fixture
def percent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Library:
    """The toys, one of them with a metric that goes to 100."""
    of_percent = {"macro_f1": replace(MacroF1(), bounds=(0.0, 100.0))}
    monkeypatch.setattr(
        "icl_eval.runs.tasks.metric",
        lambda name, *rules, **options: of_percent.get(name) or metric(name, *rules, **options),
    )
    path = write_library(tmp_path) / "tasks/toy/pairs.yaml"
    path.write_text(path.read_text().replace("[accuracy, group_exact_match]", "[macro_f1]"))
    return Library([tmp_path])


def test_scores_of_different_scales_are_not_averaged(percent: Library, tmp_path: Path) -> None:
    with pytest.raises(TaskError) as caught:
        evaluate(knowing(0), "toy", shots=0, library=percent, data=tmp_path / "data")

    assert str(caught.value) == (
        f"{tmp_path / 'tasks/toy.yaml'}:3: toy averages accuracy of toy/parity with macro_f1 of toy/pairs, which are "
        "on different scales; set `average: false`"
    )


def test_suite_without_average_may_have_any_scales(percent: Library, tmp_path: Path) -> None:
    path = tmp_path / "tasks/toy.yaml"
    path.write_text(path.read_text() + "average: false\n")
    result = evaluate(knowing(0), "toy", shots=0, library=Library([tmp_path]), data=tmp_path / "data")

    assert [line.metric for line in result] == ["accuracy", "macro_f1"]


MISMATCHES = {
    "gender_parity": "group '8' has one example; gender parity compares the examples of a pair",
    "group_exact_match": "group '3' is in several clusters (0, 1), but must be in one",
    "matthews_correlation": "matthews_correlation needs one right option; example '3' has 2",
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_metric_that_cannot_measure_the_examples_is_found_before_the_model_runs(name: str, tmp_path: Path) -> None:
    path = write_library(tmp_path) / "tasks/toy/pairs.yaml"
    path.write_text(
        path.read_text().replace("cluster: pair", "cluster: c").replace("exact_match]", f"exact_match, {name}]")
    )
    rows = [{"n": n, "pair": n, "c": 0, "label": [0]} for n in range(9)]
    if name == "matthews_correlation":
        rows[3]["label"] = [0, 1]
    elif name == "gender_parity":
        rows = [row | {"pair": min(n // 2 * 2, 8)} for n, row in enumerate(rows)]
    else:
        rows[4] |= {"pair": 3, "c": 1}
    write(tmp_path, "data/pairs/val.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    lm, library = knowing(0), Library([tmp_path])
    sentences = []
    for attempt in (
        lambda: evaluate(lm, "toy/pairs", shots=0, library=library, data=tmp_path / "data"),
        lambda: inspect(library, "toy/pairs", tmp_path / "data", fewshot_split="validation"),
    ):
        with pytest.raises(MetricError) as error:
            attempt()
        sentences.append(str(error.value))

    assert sentences == [f"{path}:9: toy/pairs cannot be scored with {name}: {MISMATCHES[name]}"] * 2
    assert lm.answered == 0


def test_there_are_at_most_10_000_seeds() -> None:
    assert seed_list(10_000) == tuple(range(10_000))
    with pytest.raises(ValueError, match="at most 10000 seeds"):
        seed_list(10_001)
