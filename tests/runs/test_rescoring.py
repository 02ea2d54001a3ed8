from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from toy_tasks import knowing, parity, write_library

from icl_eval import Library, Task, evaluate, rescore
from icl_eval.errors import MetricError, RunError, UnknownName
from icl_eval.metrics import Prediction
from icl_eval.metrics.means import ExampleMean
from icl_eval.results import examples as stored
from icl_eval.scoring import rank

from .folders import examples


@pytest.fixture
def run(tmp_path: Path) -> Path:
    root = write_library(tmp_path)
    folder = tmp_path / "run"
    evaluate(
        knowing(0, 1, 2), "toy", shots=[0, 2], seeds=2, data=root / "data", library=Library([root]), out=folder, limit=3
    )
    return folder


def test_rescoring_gives_the_scores_of_the_run(run: Path) -> None:
    original = (run / "scores.json").read_bytes()
    again = rescore(run)
    again_in_a_file = run / "again.json"
    from icl_eval.results.folder import write_scores

    write_scores(again_in_a_file, again)

    assert len(again) == 2 * 4
    assert again_in_a_file.read_bytes() == original


def test_rescoring_gives_what_a_run_by_another_normalisation_gives(tmp_path: Path) -> None:
    evaluate(knowing(0, 1), parity(), shots=[0, 2], out=tmp_path)
    expected = evaluate(knowing(0, 1), parity(), shots=[0, 2], normalizations=["byte", "unconditional"])

    assert rescore(tmp_path, ["byte", "unconditional"]).scores == expected.scores
    assert {line.normalization for line in rescore(tmp_path, "sum")} == {"sum"}


def test_rescoring_needs_neither_a_model_nor_the_data_nor_the_task_files(run: Path) -> None:
    for name in ("tasks", "prompts", "data"):
        (run.parent / name).rename(run.parent / f"gone-{name}")
    script = (
        "import sys, icl_eval; result = icl_eval.rescore(sys.argv[1]); print(result.table('csv'), end='');"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, run], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == rescore(run).table("csv")


def test_rescoring_leaves_the_folder_as_it_is(run: Path) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    rescore(run, "sum")

    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_an_unfinished_run_cannot_be_rescored(run: Path) -> None:
    manifest = run / "manifest.json"
    text = manifest.read_text()
    start = text.index('"finished": ') + len('"finished": ')
    manifest.write_text(text[:start] + "null" + text[text.index(",", start) :])

    with pytest.raises(RunError) as error:
        rescore(run)
    assert str(error.value) == f"{run}: this run is not finished; the same command continues it"


def test_a_folder_that_is_no_run_cannot_be_rescored(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"this is not a run folder: manifest\.json cannot be read \(No such file"):
        rescore(tmp_path)


@pytest.mark.parametrize("text", [b"{", b"null", b'{"config": 1}', b"\xff\xfe"])
def test_a_damaged_manifest_is_named(text: bytes, run: Path) -> None:
    (run / "manifest.json").write_bytes(text)

    with pytest.raises(RunError, match=rf"^{run / 'manifest.json'}: the manifest is damaged: "):
        rescore(run)


@pytest.mark.parametrize("text", [b"{", b"null", b"{}", b"[1]", b"\xff\xfe", b'{"cell": {}, "options": []}'])
def test_a_damaged_example_is_named_with_its_line(text: bytes, run: Path) -> None:
    path = run / "examples.jsonl"
    first, _, *rest = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([first, text, *rest]) + b"\n")

    with pytest.raises(RunError, match=rf"^{path}:2: this line is damaged"):
        rescore(run)


def test_a_changed_log_probability_is_an_error_and_the_run_repairs_it(tmp_path: Path) -> None:
    evaluate("tiny", parity(), shots=0, limit=2, out=tmp_path)
    path = tmp_path / "examples.jsonl"
    before = path.read_text()
    path.write_text(before.replace('"logprobs":[-', '"logprobs":[-1', 1))
    with pytest.raises(RunError, match=r"examples\.jsonl: this file has changed since the run; run the same command"):
        rescore(tmp_path)

    evaluate("tiny", parity(), shots=0, limit=2, out=tmp_path)
    assert path.read_text() == before


@pytest.mark.parametrize(("lost", "left"), [(0, "2 answered examples instead of 3"), (-1, "5 .* of 6")])
def test_a_lost_example_of_any_seed_is_an_error(lost: int, left: str, run: Path) -> None:
    path, manifest = run / "examples.jsonl", run / "manifest.json"
    manifest.write_text(re.sub('"examples_digest": ".*"', '"examples_digest": null', manifest.read_text()))
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[lost]
    path.write_bytes(b"".join(lines))

    with pytest.raises(RunError, match=f"has {left}"):
        rescore(run)


def test_an_example_of_another_run_is_an_error(run: Path, tmp_path: Path) -> None:
    evaluate(knowing(0), parity(), shots=0, out=tmp_path / "other")
    with (run / "examples.jsonl").open("ab") as file:
        file.write((tmp_path / "other" / "examples.jsonl").read_bytes())

    with pytest.raises(RunError, match=r"examples\.jsonl:\d+: this line is of parity \(inline, 0 shots"):
        rescore(run)


def test_lost_examples_file_is_named(run: Path) -> None:
    (run / "examples.jsonl").unlink()

    with pytest.raises(RunError, match=r"examples\.jsonl: cannot be read: No such file"):
        rescore(run)


def test_an_unknown_normalisation_names_the_nearest(run: Path) -> None:
    with pytest.raises(UnknownName, match=r"no normalisation or calibration is named 'chars'; did you mean char\?"):
        rescore(run, "chars")


def test_stored_log_probabilities_are_those_of_the_model(tmp_path: Path) -> None:
    lm = knowing(0)
    evaluate(lm, parity(), shots=0, out=tmp_path)

    from array import array

    from icl_eval.models import ScoreRequest

    (first, *_) = examples(tmp_path)
    request = ScoreRequest(array("i", [*b"Q: 0\nA: even"]), len(b"Q: 0\nA:"))
    answers = []
    lm.score([request], lambda _, answer: answers.append(answer.logprobs))
    assert first["options"][0]["logprobs"] == pytest.approx(list(answers[0]))


def test_another_metric_gives_what_a_run_by_it_gives(tmp_path: Path) -> None:
    evaluate(knowing(0, 1), parity(), shots=[0, 2], out=tmp_path)
    expected = evaluate(knowing(0, 1), parity(metrics=["macro_f1", "matthews_correlation"]), shots=[0, 2])
    again = rescore(tmp_path, metrics=["macro_f1", "matthews_correlation"])

    assert [(line.metric, line.value, line.standard_error) for line in again] == [
        (line.metric, line.value, line.standard_error) for line in expected
    ]
    assert [line.metric for line in again] == ["macro_f1", "matthews_correlation"] * 2


def test_metrics_of_another_kind_leave_the_metrics_of_a_task_in_use(tmp_path: Path) -> None:
    words = Task.from_records(
        "words", evaluation=[{"q": "a", "a": "b"}], prompt="{{ q }}", answer="text", references="a"
    )
    evaluate(knowing(0), [parity(), words], shots=0, out=tmp_path)

    assert [line.metric for line in rescore(tmp_path, metrics="exact_match")] == ["accuracy", "exact_match"]
    with pytest.raises(
        MetricError, match=r"^perplexity measures likelihoods, but these answers are choices; choose from"
    ):
        rescore(tmp_path, metrics=["accuracy", "perplexity"])
    with pytest.raises(UnknownName, match=r"no metric is named 'acuracy'; did you mean accuracy"):
        rescore(tmp_path, metrics="acuracy")


def test_references_that_are_wrong_are_refused_by_metrics_that_take_them_for_right(tmp_path: Path) -> None:
    nouns = Task.from_records(
        "nouns",
        evaluation=[{"q": "a", "a": "Bob", "label": 0}, {"q": "b", "a": "Ann", "label": 1}],
        demonstrations=[],
        prompt="{{ q }}",
        answer="text",
        references="a",
        gold="label",
        metrics=["referent_match"],
    )
    evaluate(knowing(0), nouns, shots=0, out=tmp_path)

    with pytest.raises(
        MetricError, match=r"^nouns cannot be scored with exact_match: exact_match treats every reference as right"
    ):
        rescore(tmp_path, metrics="exact_match")


def test_a_metric_that_fails_on_the_answers_leaves_a_run_that_others_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = knowing(0, 1)
    broken = ExampleMean[Prediction]("accuracy", "choice", lambda _: math.nan)
    with monkeypatch.context() as patched:
        patched.setattr("icl_eval.analysis.score.metric_of", lambda *_, **__: broken)
        with pytest.raises(MetricError) as error:
            evaluate(lm, parity(), shots=[0, 2], out=tmp_path)
    answered = lm.answered

    assert str(error.value) == (
        "parity cannot be scored with accuracy: accuracy of these predictions is not a finite number; the answers "
        f"are kept, and `icl-eval rescore {tmp_path} --metrics NAME` scores them by another metric"
    )
    assert [line.value for line in rescore(tmp_path, metrics="macro_f1")] == [
        line.value for line in evaluate(knowing(0, 1), parity(metrics=["macro_f1"]), shots=[0, 2])
    ]
    assert len(evaluate(lm, parity(), shots=[0, 2], out=tmp_path)) == 2
    assert lm.answered == answered


def test_each_answer_is_ranked_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranked = Mock(wraps=rank)
    monkeypatch.setattr(stored, "rank", ranked)
    rescore(run)

    assert ranked.call_count == len(examples(run))
