"""Scores by category, with standard errors, and their macro average beside the score of all examples."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_tasks import NAMES, PROMPT, answers, knowing, parity, records, write, write_library

from icl_eval import Library, Result, Task, compare, evaluate, rescore
from icl_eval.errors import DataError, RunError, TaskError, UnknownName
from icl_eval.runs.cells import MAX_CATEGORIES
from icl_eval.testing import FakeLM

from .folders import examples, manifest, scores

ASKED = range(40)
SIZES = {"a": range(10), "b": range(10, 16), "c": range(16, 40)}
KIND = {n: name for name, numbers in SIZES.items() for n in numbers}
KNOWN = {n for n in ASKED if n % 3 == 0 or n < 7}


def kinds(queries: range = ASKED, kind: dict[int, str] = KIND, **overrides: Any) -> Task:
    rows = [{**row, "kind": kind[row["n"]], "part": row["n"] // 5} for row in records(queries)]
    demonstrations = [{**row, "kind": "", "part": 0} for row in records(range(100, 104))]
    overrides = {"prompt": PROMPT, "options": NAMES, "id": "id", "by": "kind"} | overrides
    return Task.from_records("kinds", evaluation=rows, demonstrations=demonstrations, **overrides)


def knows(right: set[int] = KNOWN) -> FakeLM:
    return FakeLM(answers(right, ASKED))


def hits(name: str) -> np.ndarray[Any, Any]:
    return np.array([n in KNOWN for n in SIZES[name]], float)


def error(values: np.ndarray[Any, Any]) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return evaluate(knows(), kinds(), shots=0, out=tmp_path_factory.mktemp("run") / "kinds")


def test_every_category_has_a_score_and_its_standard_error(run: Result) -> None:
    for name in SIZES:
        line = run.score("kinds", category=name)

        assert line.value == pytest.approx(hits(name).mean())
        assert line.standard_error == pytest.approx(error(hits(name)))
        assert (line.examples, line.total_examples, line.units) == (len(SIZES[name]),) * 3


def test_the_score_of_all_examples_is_no_part(run: Result) -> None:
    assert [(line.by, line.of_part) for line in run] == [("kind", False), *[("kind", True)] * (len(run) - 1)]


def test_macro_is_the_mean_over_categories_and_the_first_line_that_over_examples(run: Result) -> None:
    whole, macro = run.scores[:2]
    errors = [error(hits(name)) for name in SIZES]

    assert whole.value == len(KNOWN) / len(ASKED)
    assert macro.value == pytest.approx(np.mean([hits(name).mean() for name in SIZES]))
    assert macro.standard_error == pytest.approx(math.sqrt(sum(each**2 for each in errors)) / 3)
    assert macro == run.score("kinds", average="macro")
    assert run.score("kinds") == whole
    assert [line.category for line in run] == ["", "", *SIZES]


def test_categories_that_share_clusters_are_not_independent() -> None:
    kind = {n: "ab"[n % 2] for n in ASKED}  # every cluster of five numbers has examples of both
    result = evaluate(knows(), kinds(kind=kind, cluster="part"), shots=0)
    right = np.array([n in KNOWN for n in ASKED], float)
    influences = np.zeros(8)
    for name in "ab":
        its = np.array([n for n in ASKED if kind[n] == name])
        np.add.at(influences, its // 5, (right[its] - right[its].mean()) / len(its) / 2)

    expected = math.sqrt(8 / 7 * float((influences**2).sum()))
    assert result.score("kinds", average="macro").standard_error == pytest.approx(expected)


def test_a_category_of_one_example_leaves_the_error_unknown() -> None:
    kind = {n: "last" if n == 39 else "others" for n in ASKED}
    for cluster in ("id", "part"):
        result = evaluate(knows(), kinds(kind=kind, cluster=cluster), shots=0)

        assert math.isnan(result.score("kinds", average="macro").standard_error)
        assert math.isfinite(result.score("kinds").standard_error)


def test_rescoring_needs_only_the_folder(run: Result) -> None:
    assert run.folder is not None
    assert list(rescore(run.folder)) == list(run)
    assert {each["category"] for each in examples(run.folder)} == set(SIZES)
    assert manifest(run.folder)["tasks"][0]["categories"] == {name: len(its) for name, its in SIZES.items()}
    assert [each["category"] for each in scores(run.folder)] == ["", "", *SIZES]


def test_a_changed_category_is_found(run: Result, tmp_path: Path) -> None:
    evaluate(knows(), kinds(), shots=0, out=tmp_path)
    file = tmp_path / "examples.jsonl"
    file.write_text(file.read_text().replace('"category":"a"', '"category":"z"', 1))
    with pytest.raises(RunError, match="the category 'z' of example '0' is not in the manifest"):
        rescore(tmp_path)


def test_two_runs_are_compared_by_category(run: Result, tmp_path: Path) -> None:
    assert run.folder is not None
    better = KNOWN | set(range(10, 13))
    evaluate(knows(better), kinds(), shots=0, out=tmp_path)
    pairs = {(pair.one.average, pair.one.category): pair for pair in compare(run.folder, tmp_path)}
    gains = {name: np.array([n in better for n in SIZES[name]], float) - hits(name) for name in SIZES}

    assert set(pairs) == {("", ""), ("macro", ""), *(("", name) for name in SIZES)}
    assert pairs["", "b"].value == pytest.approx(gains["b"].mean())
    assert pairs["", "b"].standard_error == pytest.approx(error(gains["b"]))
    assert pairs["macro", ""].value == pytest.approx(gains["b"].mean() / 3)


def test_other_categories_are_not_compared_but_all_examples_are(run: Result, tmp_path: Path) -> None:
    assert run.folder is not None
    evaluate(knows(), kinds(kind=KIND | {3: "b"}), shots=0, out=tmp_path / "moved")
    evaluate(knows(), kinds(by=None), shots=0, out=tmp_path / "none")
    moved, none = (compare(run.folder, tmp_path / name) for name in ("moved", "none"))

    assert [pair.one.category for pair in moved] == [pair.one.category for pair in none] == [""]
    assert {each.why for each in moved.unpaired} == {
        "kinds has other categories: that of '3' is a in the first run and b in the second"
    }
    assert {each.why for each in none.unpaired} == {
        "kinds was scored only in the first run (categories a, b, c); the second has category none",
        "kinds was scored only in the first run (average macro); the second has average none",
    }


def test_many_categories_are_in_the_table_only_on_demand(tmp_path: Path) -> None:
    few = evaluate(knows(), kinds(), shots=0)
    many = evaluate(knows(), kinds(kind={n: f"kind {n // 2}" for n in ASKED}), shots=0)
    hint = "kinds: --categories, or the formats json and csv, have the score of each kind"

    assert few.table().count("  accuracy  ") == 5
    assert hint not in few.table()
    assert many.table().count("  accuracy  ") == 2
    assert hint in many.table()
    assert "kinds: `macro` is the mean of the accuracy of 20 values of kind" in many.table()
    assert many.table(categories=True).count("  accuracy  ") == 22
    assert many.table("md", categories=True).count(" accuracy |") == 22
    assert many.table("csv").count("\n") == 23
    assert "mathbf" not in few.table("latex")  # a category is not better than another


@pytest.mark.parametrize(("average", "expected"), [("micro", 18 / 40), ("macro", (14 / 32 + 4 / 8) / 2)])
def test_either_average_enters_that_of_a_suite(average: str, expected: float, tmp_path: Path) -> None:
    root = write_library(tmp_path)
    for name in ("parity", "pairs"):
        lines = [f'{{"n": {n}, "pair": {n // 2}, "label": {n % 2}}}\n' for n in ASKED]
        write(root, f"data/{name}/val.jsonl", "".join(lines))
    for name, by in (("parity", f'{{field: "{{{{ n > 31 }}}}", average: {average}}}'), ("pairs", "null")):
        file = root / f"tasks/toy/{name}.yaml"
        file.write_text(f"{file.read_text()}by: {by}\n")
    model = knows({*range(14), *range(32, 36)})
    result = evaluate(model, "toy", shots=0, library=Library([root]), data=root / "data")

    assert result.score("toy/parity").value == result.score("toy/pairs").value == 18 / 40
    assert result.score("toy").value == pytest.approx((expected + 18 / 40) / 2)


def test_texts_without_an_answer_are_added_up_in_averages(tmp_path: Path) -> None:
    root = write_library(tmp_path)
    file = root / "tasks/toy/parity.yaml"
    kept = [line for line in file.read_text().splitlines(True) if not line.startswith(("gold", "options", "metrics"))]
    text = 'answer: text\nreferences: label\nextract: {a: [{pattern: "#"}]}\nmetrics: [exact_match]\n'
    file.write_text("".join(kept) + text)
    pairs = root / "tasks/toy/pairs.yaml"
    pairs.write_text(pairs.read_text().replace("[accuracy, group_exact_match]", "[exact_match]"))
    result = evaluate(knowing(), "toy", shots=0, library=Library([root]), data=root / "data")

    assert [line.unextracted for line in result] == [8, 8, 16]
    assert "the rules ``" not in result.table()


@pytest.mark.parametrize(
    ("by", "message"),
    [
        (3, r"task 'parity': `by`: this is a field, such as `by: subject`, or a mapping with .* not 3"),
        ({"field": "n", "average": "mean"}, r"task 'parity': `by.average`: Input should be 'micro' or 'macro'"),
        ({"average": "macro"}, r"task 'parity': `by.field`: Field required"),
    ],
)
def test_a_wrong_key_is_an_error(by: object, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        parity(by=by)


def test_a_record_without_a_category_is_an_error() -> None:
    with pytest.raises(DataError, match="record 1: no field of the record is named 'kin'"):
        evaluate(knowing(), parity(by="kin"), shots=0)
    with pytest.raises(DataError, match=r"record 1: `by`: .* gives a category without a name"):
        evaluate(knowing(), parity(by="{{ '' }}"), shots=0)


def test_a_field_with_too_many_values_is_an_error() -> None:
    task = parity(range(MAX_CATEGORIES + 1), by="id")
    with pytest.raises(
        DataError, match="parity: `by` is 'id', which has 1001 values; at most 1000 categories can be scored"
    ):
        evaluate(knowing(), task, shots=0)


def test_a_category_that_is_not_there_is_named(run: Result) -> None:
    with pytest.raises(UnknownName, match="no category of kinds is named 'd'; choose from a, b, c"):
        run.score("kinds", category="d")
    with pytest.raises(UnknownName, match="average of kinds"):
        run.score("kinds", average="micro")


def test_categories_with_like_names_have_different_signatures() -> None:
    names = ["a|b", "a/b", "a b", "a  b", "a#b"]
    result = evaluate(knows(), kinds(kind={n: names[n % 5] for n in ASKED}), shots=0)

    assert len({line.signature for line in result.scores}) == len(result.scores) == 7
    assert "|kind:a/b|" in result.score("kinds", category="a/b").signature
