"""Overlap with text files by GPT-3's rule, and the scores of clean and dirty examples."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from toy_tasks import NAMES, answers, records

from icl_eval import Task, evaluate, rescore
from icl_eval.errors import DataError, RunError
from icl_eval.metrics import difference_of_parts, estimate, metric
from icl_eval.metrics.prediction import Prediction
from icl_eval.results.contamination import read_contamination
from icl_eval.runs.contamination import contamination
from icl_eval.testing import FakeLM

ASKED = range(40)
KNOWN = {n for n in ASKED if n % 3 == 0 or n < 7}
DIRTY = {n for n in ASKED if n < 16}
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def sentence(n: int) -> str:
    return " ".join(WORDS[(n // 10 ** (k % 2) + k) % 10] for k in range(8)) + f" number {n} is called {n}th"


def task(**overrides: Any) -> Task:
    rows = [{**row, "text": sentence(row["n"]), "part": row["n"] // 5} for row in records(ASKED)]
    demonstrations = [{**row, "text": "", "part": 0} for row in records(range(100, 104))]
    overrides = {"prompt": "{{ text }}\nQ: {{ n }}\nA:", "options": NAMES, "id": "id"} | overrides
    return Task.from_records("parity", evaluation=rows, demonstrations=demonstrations, **overrides)


def knows() -> FakeLM:
    return FakeLM(
        {f"{sentence(int(text.split()[1]))}\n{text}": answer for text, answer in answers(KNOWN, ASKED).items()}
    )


def corpus(path: Path, dirty: set[int] = DIRTY) -> Path:
    path.write_text(json.dumps({"text": ". ".join(sentence(n).upper() for n in sorted(dirty))}) + "\n")
    return path


@pytest.mark.parametrize(("shortest", "size"), [(3, 8), (9, 11), (12, 13), (40, 13)])
def test_the_size_is_the_fifth_percentile_between_eight_and_thirteen(shortest: int, size: int, tmp_path: Path) -> None:
    rows = [{"id": n, "text": " ".join(["w"] * (shortest + (n > 2))), "label": 0} for n in range(40)]
    made = Task.from_records("m", evaluation=rows, prompt="{{ text }}", options=["a b", "c"], id="id")
    (found,) = contamination(made, corpus(tmp_path / "c.jsonl")).tasks

    assert found.ngram == size
    assert contamination(made, tmp_path / "c.jsonl", ngram=5).tasks[0].ngram == 5


def test_dirty_examples_are_listed_with_the_ngram_and_its_position(tmp_path: Path) -> None:
    found = contamination(task(), corpus(tmp_path / "c.jsonl"))
    found.write(tmp_path / "found.jsonl")
    (searched,), first = found.tasks, found.overlaps[0]

    assert {int(each.id) for each in found.overlaps} == DIRTY
    assert (searched.examples, searched.dirty) == (len(ASKED), len(DIRTY))
    assert (first.file, first.line, first.offset) == (str(tmp_path / "c.jsonl"), 1, 0)
    assert first.ngram in sentence(0)
    assert len(first.ngram.split()) == searched.ngram == 13
    assert read_contamination(tmp_path / "found.jsonl") == found


def test_short_examples_are_looked_for_as_a_whole_and_prompts_do_not_count(tmp_path: Path) -> None:
    prompt = "Is the following word of the kind that was described in the task above? {{ n }} A:"
    questions = [{**row, "n": f"word{row['n']}"} for row in records(ASKED)]
    toy = Task.from_records("toy", evaluation=questions, prompt=prompt, options=NAMES, id="id")
    (tmp_path / "c.txt").write_text(prompt)
    bare = Task.from_records("bare", evaluation=questions, prompt="{{ n }}", options=NAMES, id="id")
    (tmp_path / "d.txt").write_text("Word3: odd. word5, even")

    assert contamination(toy, tmp_path / "c.txt").tasks[0].dirty == 0
    assert [each.id for each in contamination(bare, tmp_path / "d.txt").overlaps] == ["3"]


def test_what_all_examples_of_one_task_share_counts_for_another(tmp_path: Path) -> None:
    passage = "a passage of ten words that all questions of one task share"
    named = {
        "all": [f"{passage} question {number}" for number in range(3)],
        "one": [f"{passage} in one example", "another example that nobody has ever written down anywhere"],
    }
    tasks = [
        Task.from_records(
            name,
            evaluation=[{"id": index, "text": text, "label": 0} for index, text in enumerate(texts)],
            prompt="{{ text }}",
            options=["yes", "no"],
            id="id",
        )
        for name, texts in named.items()
    ]
    (tmp_path / "c.txt").write_text(passage)

    alone = contamination(tasks[1], tmp_path / "c.txt", ngram=9)
    together = contamination(tasks, tmp_path / "c.txt", ngram=9)

    assert [each.dirty for each in alone.tasks] == [1]
    assert [each.dirty for each in together.tasks] == [0, 1]
    assert contamination(tasks[0], tmp_path / "c.txt", ngram=9).tasks[0].dirty == 0


@pytest.mark.parametrize("cluster", ["id", "part"])
def test_clean_and_dirty_examples_have_scores_and_a_difference(cluster: str, tmp_path: Path) -> None:
    evaluate(knows(), task(cluster=cluster), shots=0, out=tmp_path / "run")
    contamination(task(), corpus(tmp_path / "c.jsonl")).write(tmp_path / "found.jsonl")
    result = rescore(tmp_path / "run", contamination=tmp_path / "found.jsonl")
    right = {
        name: np.array([n in KNOWN for n in ASKED if (n in DIRTY) == (name == "dirty")]) for name in ("clean", "dirty")
    }
    difference = result.score("parity", average="clean - dirty")

    assert [(line.category, line.average) for line in result] == [
        ("", ""),
        ("", "clean - dirty"),
        ("dirty", ""),
        ("clean", ""),
    ]
    for name, values in right.items():
        assert result.score("parity", category=name).value == pytest.approx(values.mean())
        assert result.score("parity", category=name).examples == len(values)
    assert difference.value == pytest.approx(right["clean"].mean() - right["dirty"].mean())
    if cluster == "id":
        expected = math.sqrt(sum(values.var(ddof=1) / len(values) for values in right.values()))
    else:  # the cluster of 15 to 19 has examples of both
        influence = np.zeros(8)
        for n in ASKED:
            name, sign = ("dirty", -1) if n in DIRTY else ("clean", 1)
            influence[n // 5] += sign * ((n in KNOWN) - right[name].mean()) / len(right[name])
        expected = math.sqrt(8 / 7 * float((influence**2).sum()))
    assert difference.standard_error == pytest.approx(expected)
    assert difference.low < difference.value < difference.high
    assert "the accuracy of clean examples minus that of dirty ones" in result.table()


def test_a_run_of_a_sample_is_divided_by_the_search_of_the_whole_split(tmp_path: Path) -> None:
    evaluate(knows(), task(), shots=0, limit=10, out=tmp_path / "run")
    contamination(task(), corpus(tmp_path / "c.jsonl")).write(tmp_path / "found.jsonl")
    parts = [line for line in rescore(tmp_path / "run", contamination=tmp_path / "found.jsonl") if line.category]

    assert sum(line.examples for line in parts) == 10


def test_without_dirty_examples_there_is_no_difference(tmp_path: Path) -> None:
    evaluate(knows(), task(), shots=0, out=tmp_path / "run")
    contamination(task(), corpus(tmp_path / "c.jsonl", {99})).write(tmp_path / "found.jsonl")

    assert [line.category for line in rescore(tmp_path / "run", contamination=tmp_path / "found.jsonl")] == [
        "",
        "clean",
    ]


def test_a_file_that_does_not_belong_to_the_run_is_one_sentence(tmp_path: Path) -> None:
    evaluate(knows(), task(), shots=0, out=tmp_path / "run")
    line = {"task": "parity", "split": "", "ngram": 13, "examples": 7, "dirty": 0}
    for found, words in (
        ([{**line, "task": "other"}], "this file is about other, but the run evaluates none of these"),
        ([line], "parity had 7 examples when it was searched, but has 40 in the run"),
        ([{**line, "ngram": 0}], "found.jsonl:1: this line is not from a file of `icl-eval contamination`"),
        ([], "this file names no task"),
    ):
        (tmp_path / "found.jsonl").write_text("".join(json.dumps(each) + "\n" for each in found))
        with pytest.raises(RunError, match=words):
            rescore(tmp_path / "run", contamination=tmp_path / "found.jsonl")
    with pytest.raises(RunError, match="cannot be read"):
        rescore(tmp_path / "run", contamination=tmp_path / "missing.jsonl")


def test_examples_without_words_cannot_be_searched(tmp_path: Path) -> None:
    bare = Task.from_records(
        "bare", evaluation=records(ASKED), prompt="?{{ '' if n else '' }}", options=["!", "."], id="id"
    )
    with pytest.raises(DataError, match="bare: no example has a word to look for"):
        contamination(bare, corpus(tmp_path / "c.jsonl"))


def test_a_difference_of_independent_parts_has_welchs_interval() -> None:
    draw = np.random.default_rng(3)
    parts = []
    for count, name in ((9, "a"), (30, "b")):
        found = [
            Prediction(f"{name}{n}", ("x", "y"), (0,), int(draw.random() < 0.4), f"{name}{n}", f"{name}{n}")
            for n in range(count)
        ]
        parts.append(found)
    values = [np.array([float(each.chosen == 0) for each in found]) for found in parts]
    expected = stats.ttest_ind(*values, equal_var=False).confidence_interval(0.95)
    difference = difference_of_parts(*(estimate(metric("accuracy"), [each]) for each in parts))

    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high))
