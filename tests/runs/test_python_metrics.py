"""Metrics that are functions and classes of the user."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from toy_tasks import knowing, parity, write_library

from icl_eval import Library, Task, compare, evaluate, rescore
from icl_eval.errors import MetricError, UnknownName
from icl_eval.metrics import METRICS, estimate
from icl_eval.metrics.external import source_digest
from icl_eval.metrics.prediction import AnyPrediction, Prediction
from icl_eval.testing import FakeLM

from .test_extraction import RULES, TEXTS, task


def hit(prediction: Prediction) -> bool:
    return prediction.chosen in prediction.gold


hit.bounds = (0, 1)  # type: ignore[attr-defined]


class Accuracy:
    of = "choice"
    bounds = (0, 1)

    def statistics(self, predictions: Sequence[Prediction]) -> Any:
        return [[hit(each), 1] for each in predictions]

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(totals[..., 0] / totals[..., 1])


class Whole:
    of = "choice"

    def score(self, predictions: Iterable[Prediction]) -> float:
        return float(np.mean([hit(each) for each in predictions]))


def length(prediction: Any) -> int:
    return len(prediction.text)


def name(code: Any) -> str:
    return f"python:{__name__}:{code.__qualname__}"


def figures(result: Any, metric: str) -> list[tuple[float, ...]]:
    return [(s.value, s.standard_error, s.low, s.high) for s in result.scores if s.metric == metric]


@pytest.mark.parametrize("code", [hit, Accuracy])
def test_a_function_and_a_class_are_scored_like_the_same_metric_of_the_package(code: Any) -> None:
    result = evaluate(knowing(0, 1, 2), parity(metrics=["accuracy", code]), shots=[0, 2], seeds=2)

    assert figures(result, name(code)) == figures(result, "accuracy")
    (line,) = {score.signature for score in result.scores if score.metric == name(code) and score.shots == 0}
    assert f"|{name(code).removeprefix('python:')}#{source_digest(code)}|" in line


def test_a_class_that_scores_all_at_once_has_resampled_errors() -> None:
    result = evaluate(knowing(0, 1, 2), parity(metrics=["accuracy", Whole]), shots=0)
    bundled, other = result.scores

    assert other.value == bundled.value
    assert other.standard_error == pytest.approx(bundled.standard_error, rel=0.2)


def test_metrics_given_to_evaluate_and_rescore_replace_those_of_the_task(tmp_path: Path) -> None:
    given = evaluate(knowing(0, 1), parity(), shots=0, metrics=hit, out=tmp_path / "run")

    assert [score.metric for score in given.scores] == [name(hit)]
    assert figures(rescore(tmp_path / "run", metrics=[hit]), name(hit)) == figures(given, name(hit))
    assert rescore(tmp_path / "run", metrics=[Accuracy, "accuracy"]).scores[0].metric == name(Accuracy)
    assert rescore(tmp_path / "run", trust_remote_code=True).scores == given.scores
    with pytest.raises(MetricError, match=r"python:.*:hit runs code that is not part of icl-eval; allow it with --tr"):
        rescore(tmp_path / "run")


def test_other_metrics_use_the_answers_of_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = evaluate(knowing(0, 1), parity(), shots=0, keep=True)
    model = knowing(0, 1)
    again = evaluate(model, parity(), shots=0, keep=True, metrics=["macro_f1", hit])

    assert (again.folder, model.answered) == (first.folder, 0)
    assert again.manifest.config.metrics == ("macro_f1", name(hit))
    assert [score.metric for score in rescore(again.folder or "", metrics=hit).scores] == [name(hit)]


def test_runs_are_compared_by_a_function(tmp_path: Path) -> None:
    for run, right in (("one", (0, 1, 2)), ("other", (0, 1, 2, 3, 4))):
        evaluate(knowing(*right), parity(), shots=0, out=tmp_path / run)
    (pair,) = compare(tmp_path / "one", tmp_path / "other", metrics=hit).pairs
    (bundled,) = compare(tmp_path / "one", tmp_path / "other").pairs

    assert (pair.value, pair.standard_error, pair.method) == (bundled.value, bundled.standard_error, "delta")
    assert (pair.p_value, pair.test, pair.wins, pair.losses) == (bundled.p_value, "exact", bundled.wins, bundled.losses)
    assert compare(tmp_path / "one", tmp_path / "other", metrics=Whole).pairs[0].method == "jackknife"


def test_a_function_gets_extracted_answers_and_the_whole_text_without_rules() -> None:
    texts = [len(text.removesuffix("\n")) for text in TEXTS.values()]
    answers = {"strict": [1, 4, 0], "flexible": [1, 4, 1]}
    whole = evaluate(FakeLM(TEXTS), task(extract=None, metrics=[length]), shots=0)
    result = evaluate(FakeLM(TEXTS), task(extract=RULES, metrics=[length]), shots=0)

    assert figures(whole, name(length))[0][0] == np.mean(texts)
    for rules, lengths in answers.items():
        assert figures(result, f"{name(length)}@{rules}")[0][0] == np.mean(lengths)


def fails(prediction: Any) -> float:
    return 1 / (int(prediction.id) - 3)


def says_none(prediction: Any) -> Any:
    return None if prediction.id == "2" else 1


def too_large(prediction: Any) -> float:
    return 2.5 if prediction.id == "5" else 0


too_large.bounds = (0, 1)  # type: ignore[attr-defined]


class Broken:
    def statistics(self, predictions: Sequence[AnyPrediction]) -> Any:
        return [[fails(each)] for each in predictions]

    def value(self, totals: Any) -> Any:
        return totals


class ShortRows(Accuracy):
    def statistics(self, predictions: Sequence[Prediction]) -> Any:
        return np.ones((len(predictions) - 1, 2))


def leaves(prediction: Any) -> Any:
    raise SystemExit(0)


def astronomical(prediction: Any) -> int:
    return 10**400


class FarTotal(Accuracy):
    bounds = (2, 3)


class FarScore:
    bounds = (0, 1)

    def score(self, predictions: Sequence[AnyPrediction]) -> float:
        return 5


class Sorts(Accuracy):
    def statistics(self, predictions: Any) -> Any:
        predictions.sort(key=hit)
        return super().statistics(predictions)


class NoMetric:
    pass


class Doubles(Accuracy):
    bounds = (0, 2)

    def value(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        totals[..., 0] *= 2
        return super().value(totals)


def test_a_class_cannot_change_the_sums_that_it_gets() -> None:
    accuracy, doubled = (
        evaluate(knowing(0, 1), parity(), shots=0, metrics=each).scores[0] for each in (Accuracy, Doubles)
    )

    assert doubled.value == 2 * accuracy.value
    assert doubled.standard_error == pytest.approx(2 * accuracy.standard_error)


class NeedsSettings:
    def __init__(self, k: int) -> None: ...


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (fails, r"fails failed for example '3': ZeroDivisionError: division by zero"),
        (says_none, r"says_none returns None for example '2'; a metric returns a finite number"),
        (too_large, r"too_large returns 2.5 for example '5', but its `bounds` are 0 and 1"),
        (Broken, r"`statistics` of python:.*:Broken failed for example '3': ZeroDivisionError"),
        (ShortRows, r"returns the shape \(7, 2\) instead of \(8, d\), one row per example"),
        (leaves, r"leaves failed for example '0': SystemExit: 0"),
        (astronomical, r"astronomical returns an integer that is too large for example '0'"),
        (FarTotal, r"`value` of python:.*:FarTotal returns [0-9.]+, but its `bounds` are 2 and 3"),
        (FarScore, r"`score` of python:.*:FarScore returns 5, but its `bounds` are 0 and 1"),
        (Sorts, r"`statistics` of python:.*:Sorts failed for example .*AttributeError: 'tuple' object has no"),
        (NoMetric, r"NoMetric has none of `__call__`, `score`, and `statistics` with `value`"),
        (NeedsSettings, r"NeedsSettings cannot be created without arguments: TypeError"),
        (3, r"a metric is a name, a function or a class, not 3"),
    ],
)
def test_what_is_wrong_with_a_metric_is_one_sentence(code: Any, sentence: str) -> None:
    with pytest.raises(MetricError, match=sentence) as caught:
        evaluate(knowing(0), parity(), shots=0, metrics=[code])

    assert "\n" not in str(caught.value)


def test_two_functions_of_one_name_are_an_error() -> None:
    one, other = made(1), made(2)

    with pytest.raises(
        MetricError, match=r"two different metrics are named 'python:.*made\.<locals>\.metric'; rename one"
    ):
        evaluate(knowing(0), parity(), shots=0, metrics=[one, other])


def made(k: int) -> Any:
    def metric(prediction: Any) -> float:
        return k

    return metric


def test_the_digest_changes_with_the_source_and_with_captured_values() -> None:
    sources = ["def f(p):\n    return 1\n", "def f(p):\n    return 2\n"]
    compiled: list[dict[str, Any]] = [{}, {}]
    for source, names in zip(sources, compiled, strict=True):
        exec(source, names)

    assert source_digest(hit) == source_digest(hit)
    assert len({source_digest(each) for each in (hit, fails, made(1), made(2), *(c["f"] for c in compiled))}) == 6


def with_default(k: int) -> Any:
    def metric(prediction: Any, *, value: int = k) -> float:
        return value

    return metric


def with_list(k: int) -> Any:
    values = [{"k": k}]

    def metric(prediction: Any) -> float:
        return values[0]["k"]

    return metric


def calls(function: Any) -> Any:
    def metric(prediction: Any) -> float:
        return float(function(prediction))

    return metric


def with_attribute(k: int) -> Any:
    class Measure:
        value = k

        def __call__(self, prediction: Any) -> float:
            return self.value

    return Measure


class Half:
    def __call__(self, prediction: Any) -> float:
        return 0.5


class Third:
    def __call__(self, prediction: Any) -> float:
        return 1 / 3


def derived(base: Any) -> Any:
    class Measure(base):  # type: ignore[misc]
        pass

    return Measure


HALVES = [lambda _: 0.5, lambda _: 0.25]


@pytest.mark.parametrize(
    "metrics",
    [
        [with_default(1), with_default(2)],
        [with_list(1), with_list(2)],
        [calls(hit), calls(fails)],
        [with_attribute(1), with_attribute(2)],
        [derived(Half), derived(Third)],
        HALVES,
    ],
    ids=["keyword", "list", "function", "attribute", "base", "lambda"],
)
def test_metrics_with_other_results_have_other_digests(metrics: list[Any]) -> None:
    assert len({source_digest(each) for each in metrics}) == 2
    assert source_digest(metrics[0]) == source_digest(metrics[0])


TASK_FILE = """\
task: toy/mine
extends: toy/parity
metrics:
  - accuracy
  - "python:toy_metrics:NAME"
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "toy_metrics.py").write_text("def near(prediction):\n    return 0.5\n\nconstant = 3\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "toy_metrics", raising=False)
    return write_library(tmp_path)


def run_file(root: Path, metric: str, **options: Any) -> Any:
    (root / "tasks/toy/mine.yaml").write_text(TASK_FILE.replace("NAME", metric))
    return evaluate(knowing(0), "toy/mine", shots=0, data=root / "data", library=Library([root]), **options)


def test_a_task_file_names_a_function_only_with_trust(module: Path) -> None:
    result = run_file(module, "near", trust_remote_code=True)

    assert [score.value for score in result.scores if score.metric == "python:toy_metrics:near"] == [0.5]
    with pytest.raises(MetricError, match=r"mine\.yaml:5: python:toy_metrics:near runs code that is not part of"):
        run_file(module, "near")


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        ("nea", r"mine\.yaml:5: no function or class of toy_metrics is named 'nea'; did you mean near\?"),
        ("constant", r"mine\.yaml:5: python:toy_metrics:constant: a metric is a name, a function or a class, not 3"),
        ("", r"mine\.yaml:5: python:toy_metrics:: a metric in Python is written `python:module:function`"),
    ],
)
def test_what_a_module_lacks_is_named_with_file_and_line(module: Path, metric: str, sentence: str) -> None:
    with pytest.raises((MetricError, UnknownName), match=sentence):
        run_file(module, metric, trust_remote_code=True)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("toy_metrics:near", r"named 'toy_metrics'; a metric in Python is written `python:toy_metrics:near`"),
        ("python:toy_metrics.py:near", r"not a package; a metric in Python is written `python:toy_metrics:near`"),
        (
            "python:nowhere:near",
            r"named 'nowhere'; modules are searched for on Python's path and in the current folder",
        ),
    ],
)
def test_a_name_that_nearly_names_a_function_says_how_to_write_it(name: str, sentence: str, module: Path) -> None:
    with pytest.raises((MetricError, UnknownName), match=sentence):
        evaluate("tiny", "superglue/rte", data="sample", limit=1, metrics=[name], trust_remote_code=True)


def test_a_module_that_cannot_be_imported_is_one_sentence(module: Path, tmp_path: Path) -> None:
    (tmp_path / "toy_metrics.py").write_text("import sys\nsys.exit('stop')\n")

    with pytest.raises(MetricError, match=r"mine\.yaml:5: .*the module cannot be imported: SystemExit: stop"):
        run_file(module, "near", trust_remote_code=True)


def test_estimates_of_a_function_equal_those_of_the_package() -> None:
    from icl_eval.metrics import metric

    predictions = [Prediction(str(n), ("a", "b"), (n % 2,), int(n > 3), str(n), str(n)) for n in range(10)]
    found = estimate(metric(name(hit), given={name(hit): hit}), [predictions])

    assert found == estimate(METRICS["accuracy"], [predictions])


def test_a_task_in_memory_keeps_its_functions_on_another_split() -> None:
    records = [{"n": n, "label": n % 2} for n in range(4)]
    toy = Task.from_records("toy", evaluation=records, prompt="{{ n }}", options=["a", "b"], metrics=[hit])

    assert dict(toy.on(None, "evaluation").code) == {name(hit): hit}
