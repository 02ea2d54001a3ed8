"""A task that cannot be evaluated, or whose data is missing, does not end the run of the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toy_tasks import NAMES, PARITY_YAML, PROMPT, SHOWN, SUITE_YAML, answers, parity, records, write, write_library

from icl_eval import Library, Result, Task, evaluate, explain, rescore, sweep
from icl_eval.errors import MissingData, RunError, WindowError
from icl_eval.runs import collect
from icl_eval.runs.regress import make_baseline, regress
from icl_eval.testing import FakeLM

from .folders import examples, journal, manifest, scores

WINDOW = 100
REASON = (
    "long, example '1': the query alone takes 411 tokens, but the context length is 100; "
    "--overflow truncate cuts its start"
)


def model(*right: int) -> FakeLM:
    return FakeLM(answers(right), window=WINDOW)


def long_task(*, mended: bool = False, **overrides: Any) -> Task:
    """A task whose second query takes more tokens than the window has."""
    rows = [{"id": n, "n": "77" if n != 1 or mended else "1" * 401, "label": 1} for n in range(3)]
    overrides = {"prompt": PROMPT, "options": NAMES, "id": "id"} | overrides
    return Task.from_records("long", evaluation=rows, demonstrations=records(SHOWN), **overrides)


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the engine a query at a time, so that a task has answers when a later query of it fails."""
    monkeypatch.setattr(collect, "WINDOW_TOKENS", 1)


@pytest.mark.usefixtures("small_windows")
def test_the_other_tasks_have_the_scores_that_they_have_alone(tmp_path: Path) -> None:
    found = evaluate(model(0), [long_task(), parity()], shots=[0, 1], out=tmp_path / "both")
    alone = evaluate(model(0), parity(), shots=[0, 1], out=tmp_path / "alone")

    assert found.scores == alone.scores
    assert examples(tmp_path / "both") == examples(tmp_path / "alone")
    assert scores(tmp_path / "both") == scores(tmp_path / "alone")
    assert len(journal(tmp_path / "both")) > len(journal(tmp_path / "alone"))
    assert [record["task"] for record in manifest(tmp_path / "both")["tasks"]] == ["parity"]
    assert manifest(tmp_path / "both")["failures"] == [{"task": "long", "selection": "", "reason": REASON}]


def test_a_failure_is_reported_below_the_table_and_in_json_and_again_when_scores_are_taken_again(
    tmp_path: Path,
) -> None:
    found = evaluate(model(0), [parity(), long_task()], shots=0, out=tmp_path)

    assert f"long has no scores: {REASON}" in found.table().splitlines()
    assert json.loads(found.table("json"))["failures"] == [{"task": "long", "selection": "", "reason": REASON}]
    assert rescore(tmp_path).table() == found.table()
    with pytest.raises(RunError, match=r"^long has no scores: long, example '1'"):
        found.score("long")


def test_the_same_command_tries_a_failed_task_again_and_computes_nothing_twice(tmp_path: Path) -> None:
    first, again = model(0), model(0)
    evaluate(first, [parity(), long_task(), long()], shots=0, out=tmp_path)
    mended = evaluate(again, [parity(), long_task(mended=True), long()], shots=0, out=tmp_path)

    assert mended.failures == ()
    assert first.answered + again.answered == len(journal(tmp_path))


def long() -> Task:
    """Another task, of one query that the mended task has too."""
    return Task.from_records("other", evaluation=[{"n": "77", "label": 1}], prompt=PROMPT, options=NAMES)


def test_a_run_with_failures_never_stands_as_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []

    def load(name: str, *_: Any) -> FakeLM:
        loads.append(name)
        return model(0)

    monkeypatch.setattr("icl_eval.runs.model.load", load)
    monkeypatch.setattr("icl_eval.runs.run.is_current", lambda *_: True)
    for _ in range(2):
        evaluate("tiny", [parity(), long_task()], shots=0, out=tmp_path / "failed")
    for _ in range(2):
        evaluate("tiny", parity(), shots=0, out=tmp_path / "whole")

    assert len(loads) == 2 + 1


def test_where_all_tasks_fail_the_first_error_is_raised(tmp_path: Path) -> None:
    with pytest.raises(WindowError, match=r"^long, example '1': the query alone takes 411 tokens"):
        evaluate(model(), [long_task()], shots=0, out=tmp_path)
    with pytest.raises(WindowError, match=r"^long, example '1': the query alone takes 411 tokens"):
        explain(model(), [long_task()], shots=0)

    assert manifest(tmp_path)["finished"] is None


def test_of_prompts_requested_by_name_one_may_fail(tmp_path: Path) -> None:
    task = long_task(mended=True, prompt={"plain": PROMPT, "wordy": f"{'very ' * 30}\n{PROMPT}"})
    found = evaluate(model(), task, prompts=["wordy", "plain"], shots=0, out=tmp_path)

    assert [line.prompt for line in found] == ["plain"]
    assert [(each.task, each.selection) for each in found.failures] == [("long", "wordy")]


@pytest.mark.usefixtures("small_windows")
def test_a_task_with_another_prompt_without_demonstrations_fails_as_a_whole(tmp_path: Path) -> None:
    write_library(tmp_path)
    write(tmp_path, "tasks/toy/parity.yaml", PARITY_YAML + "zero_shot_prompt: chatty\n")
    write(tmp_path, "prompts/toy/parity/plain.jinja", f"{'very ' * 30}{PROMPT}")
    found = toys(tmp_path, shots=[0, 1], out=tmp_path / "run")

    assert (
        {line.task for line in found} == {each["cell"]["task"] for each in examples(tmp_path / "run")} == {"toy/pairs"}
    )
    assert [(each.task, each.selection) for each in found.failures] == [("toy/parity", "")]


def test_an_answer_context_longer_than_the_window_fails_its_task_alone(tmp_path: Path) -> None:
    context = f"{{% block query %}}{PROMPT}{{% endblock %}}{{% block answer_context %}}{'A' * 200}{{% endblock %}}"
    task = long_task(mended=True, prompt=context)
    found = evaluate(model(), [task, parity()], shots=0, out=tmp_path)

    assert found.failures[0].reason == (
        "long, example '0': an option after the answer context or domain premise takes 204 tokens "
        "but the context length is 100"
    )


def toys(folder: Path, **options: Any) -> Result:
    return evaluate(model(), "toy", library=Library([folder]), data=folder / "data", **{"shots": 0, **options})


def test_a_suite_goes_on_without_a_task_whose_data_is_missing_and_has_no_average(tmp_path: Path) -> None:
    write_library(tmp_path)
    write(tmp_path, "tasks/toy.yaml", SUITE_YAML + "average: macro\n")
    (tmp_path / "data/parity/val.jsonl").unlink()
    found = toys(tmp_path)

    reason = f"{tmp_path / 'data'}: there is no file parity/val.jsonl or val.jsonl for the split 'validation'"
    assert {line.task for line in found} == {"toy/pairs"}
    assert [each.task for each in found.failures] == ["toy/parity"]
    assert found.failures[0].reason.startswith(reason)
    assert {
        f"toy/parity has no scores: {found.failures[0].reason}",
        "toy has no average without toy/parity",
    } <= {*found.table().splitlines()}
    write(tmp_path, "data/parity/val.jsonl", json.dumps({"n": 1, "pair": 0, "label": 1}) + "\n")
    assert {line.task for line in toys(tmp_path)} == {"toy/parity", "toy/pairs", "toy"}


def test_a_suite_without_any_data_is_an_error(tmp_path: Path) -> None:
    write_library(tmp_path)
    for file in (tmp_path / "data").glob("*/*.jsonl"):
        file.unlink()

    with pytest.raises(MissingData, match=r"there is no file parity/val\.jsonl"):
        toys(tmp_path)


def test_what_would_fail_stands_in_the_plan() -> None:
    plan = explain(model(), [parity(), long_task()], shots=0)

    assert str(plan).splitlines()[-1] == f"failure          long has no scores: {REASON}"
    assert plan.workload.requests == explain(model(), parity(), shots=0).workload.requests


def test_a_sweep_names_the_failures_of_each_model(tmp_path: Path) -> None:
    wide = FakeLM(answers([0]), name="wide")
    found = sweep([model(0), wide], [parity(), long_task()], shots=0, out=tmp_path)

    assert [len(result) for result in found] == [1, 2]
    assert found.failures == ()
    assert f"fake: long has no scores: {REASON}" in found.table().splitlines()
    assert [len(each["failures"]) for each in json.loads(found.table("json"))["models"]] == [1, 0]


def test_no_baseline_is_made_of_or_run_again_with_failures(tmp_path: Path) -> None:
    lm = FakeLM(answers(range(8)), window=WINDOW)
    evaluate(lm, [parity(), long_task()], shots=0, out=tmp_path / "failed")
    evaluate(FakeLM(answers(range(8))), parity(), shots=0, out=tmp_path / "whole")

    with pytest.raises(RunError, match="a baseline needs a run in which no task failed: long has no scores"):
        make_baseline(tmp_path / "failed")
    with pytest.raises(RunError, match=r"^the baseline cannot be run again: long has no scores"):
        regress(make_baseline(tmp_path / "whole"), lm, tasks=[parity(), long_task()])
