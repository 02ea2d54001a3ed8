from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from icl_eval import Library, Task, evaluate, rescore
from icl_eval.analysis.rescore import rules_in
from icl_eval.errors import IclEvalError, RunError
from icl_eval.runs.check import inspect
from icl_eval.testing import FakeLM

RECORDS = [
    {"n": "0", "q": "2 + 2?", "answer": "4"},
    {"n": "1", "q": "9 + 9?", "answer": "18"},
    {"n": "2", "q": "1 + 1?", "answer": "2"},
]
TEXTS = {"2 + 2?": " four #### 4\n", "9 + 9?": " it is 18.0, not 17 #### 18.0\n", "1 + 1?": " surely 3 or 2\n"}
RULES: dict[str, list[Any]] = {"strict": [{"pattern": "#### (.*)"}], "flexible": ["last_number"]}


def task(**keys: Any) -> Task:
    settings: dict[str, Any] = {"extract": RULES, "metrics": ["exact_match", "number_match"], **keys}
    return Task.from_records(
        "sums", evaluation=RECORDS, prompt="{{ q }}", answer="text", references="answer", id="n", **settings
    )


def scores(result: Any) -> dict[str, float]:
    return {line.metric: line.value for line in result.scores}


def test_every_metric_is_taken_by_every_list_of_rules() -> None:
    result = evaluate(FakeLM(TEXTS), task(), shots=0)

    assert scores(result) == {
        "exact_match@strict": pytest.approx(1 / 3),
        "exact_match@flexible": pytest.approx(2 / 3),
        "number_match@strict": pytest.approx(2 / 3),
        "number_match@flexible": pytest.approx(1.0),
    }
    assert [line.unextracted for line in result.scores] == [1, 0, 1, 0]
    assert "sums: the rules `strict` find no answer in 1 text, scored as empty" in result.table()


def test_texts_are_extracted_again_without_a_model(tmp_path: Path) -> None:
    evaluate(FakeLM(TEXTS), task(), shots=0, out=tmp_path / "run")

    other = rescore(tmp_path / "run", extract={"first": [{"pattern": r"\d+"}]})

    assert scores(other) == {"exact_match@first": pytest.approx(1 / 3 * 2), "number_match@first": pytest.approx(2 / 3)}
    (line,) = [each for each in rescore(tmp_path / "run").scores if each.metric == "exact_match@strict"]
    assert line.signature != next(each.signature for each in other.scores)
    assert scores(rescore(tmp_path / "run", metrics="exact_match@flexible")) == {
        "exact_match@flexible": pytest.approx(2 / 3)
    }
    assert scores(rescore(tmp_path / "run", metrics="contains_match")) == {"contains_match": pytest.approx(2 / 3)}


def test_rules_that_a_run_lacks_are_named(tmp_path: Path) -> None:
    evaluate(FakeLM(TEXTS), task(), shots=0, out=tmp_path / "run")

    with pytest.raises(IclEvalError, match="no extraction is named 'strct'; did you mean strict"):
        rescore(tmp_path / "run", metrics="exact_match@strct")
    with pytest.raises(RunError, match=r"`extract`: .*a rule has one of the keys"):
        rescore(tmp_path / "run", extract={"a": [{}]})


def test_rules_need_texts_and_names_as_in_a_task_file(tmp_path: Path) -> None:
    evaluate(FakeLM(TEXTS), task(), shots=0, out=tmp_path / "run")
    choice = Task.from_records("even", evaluation=[{"q": "2", "label": 0}], prompt="{{ q }}", options=["yes", "no"])
    evaluate(FakeLM(), choice, shots=0, out=tmp_path / "choices")

    with pytest.raises(RunError, match=r"`extract`: .*a name consists of letters, digits"):
        rescore(tmp_path / "run", extract={"A|b": ["last_number"]})
    with pytest.raises(RunError, match="`extract` extracts answers from generated texts, but even has none"):
        rescore(tmp_path / "choices", extract=RULES)


def test_rules_are_those_of_a_task_file(tmp_path: Path) -> None:
    path = tmp_path / "sums.yaml"
    path.write_text("task: sums\nextract: {first: [{pattern: '[0-9]+'}]}\n")

    assert rules_in(path) == {"first": [{"pattern": "[0-9]+"}]}
    path.write_text("task: sums\n")
    with pytest.raises(IclEvalError, match="this file has no mapping `extract`"):
        rules_in(path)


def test_metrics_of_the_evaluate_library_get_whole_texts() -> None:
    assert task(metrics=["exact_match", "evaluate:exact_match"]).definition.metric_names == (
        "exact_match@strict",
        "exact_match@flexible",
        "evaluate:exact_match",
    )


def test_the_first_rules_are_primary() -> None:
    assert task().definition.primary_metrics == ("exact_match@strict",)


def test_rules_are_stored(tmp_path: Path) -> None:
    evaluate(FakeLM(TEXTS), task(), shots=0, out=tmp_path / "run")
    (record,) = json.loads((tmp_path / "run" / "manifest.json").read_text())["tasks"]

    assert record["extract"] == {"strict": [{"pattern": "#### (.*)"}], "flexible": [{"last_number": True}]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", 1.0),
        ("18.0", 1.0),
        ("$18.", 1.0),
        ("1,8", 1.0),
        ("18%", 1.0),
        ("180", 0.0),
        ("x", 0.0),
        ("", 0.0),
        ("inf", 0.0),
    ],
)
def test_numbers_compare_as_numbers(text: str, value: float) -> None:
    from icl_eval.metrics import TextPrediction, metric
    from icl_eval.metrics.means import ExampleMean

    measure = metric("number_match")
    assert isinstance(measure, ExampleMean)
    assert measure.of_example(TextPrediction("a", text, ("18",), "a", "a")) == value


def test_rescored_lines_have_the_signatures_of_a_run_with_these_rules(tmp_path: Path) -> None:
    changed = {"all": [{"after": "####"}, "strip"]}
    evaluate(FakeLM(TEXTS), task(), shots=0, out=tmp_path / "before")
    rescored = rescore(tmp_path / "before", extract=changed)
    fresh = evaluate(FakeLM(TEXTS), task(extract=changed), shots=0, out=tmp_path / "after")

    assert [line.signature for line in rescored] == [line.signature for line in fresh]
    assert {line.signature for line in rescored}.isdisjoint(line.signature for line in rescore(tmp_path / "before"))


@pytest.mark.parametrize(
    ("answer", "references", "note"),
    [
        (
            "{{ option }}",
            "answer",
            "; note: the rules `strict` find no answer in any demonstration of the prompt plain",
        ),
        ("{{ worked }}", "answer", ""),
        (
            "{{ worked }}",
            "worked",
            "; note: number_match compares numbers, but no reference is one, such as 'so #### 4'",
        ),
    ],
)
def test_check_notes_rules_and_references_without_an_answer(
    answer: str, references: str, note: str, tmp_path: Path
) -> None:
    files = {
        "tasks/sums.yaml": "task: sums\nanswer: text\ndata: {local: {test: sums.jsonl}}\nprompts: [plain]\n"
        "splits: {demonstrations: test, evaluation: test}\nfields: {q: q, worked: worked}\n"
        "protocol: {shots: 1}\n"
        f"references: {references}\n"
        "extract: {strict: [{pattern: '#### (.*)'}], flexible: [last_number]}\nmetrics: [number_match]\n",
        "prompts/sums/plain.jinja": "{% block query %}{{ q }}{% endblock %}{% block answer %} "
        + answer
        + "{% endblock %}",
        "data/sums.jsonl": "\n".join(json.dumps({**each, "worked": f"so #### {each['answer']}"}) for each in RECORDS),
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    found = inspect(Library([tmp_path]), "sums", tmp_path / "data")

    assert found == f"3 examples, 3 candidate demonstrations, prompts plain{note}"
