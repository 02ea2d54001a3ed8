from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from icl_eval.errors import UnknownName
from icl_eval.results.members import Member
from icl_eval.results.result import Result, Sweep
from icl_eval.results.score import Score

from .lines import AVERAGE, MANIFEST, RTE, RTE_32

GOLDEN = Path(__file__).parent / "golden"
SMALL = MANIFEST.model_copy(update={"note": "mind the gap", "parameters": 124_439_808})
LARGE = SMALL.model_copy(update={"model_name": "large", "model_fingerprint": "f2", "parameters": 1_557_611_200})
STEP = SMALL.model_copy(update={"config": SMALL.config.model_copy(update={"revision": "step1000"})})
OTHER_RULES = LARGE.model_copy(update={"model_words": "bos1|w1024|float32", "window": 1024})
GONE = Member(model="huge", revision=None, folder="huge-1", failed="'huge' cannot be loaded: it is not there")
SWEEP = Sweep(
    (Result((RTE, RTE_32, AVERAGE), SMALL), Result((replace(RTE, value=0.61), RTE_32, AVERAGE), LARGE)), (GONE,)
)


def one(score: Score = RTE) -> Sweep:
    return Sweep((Result((score,), SMALL), Result((score,), LARGE)))


@pytest.mark.parametrize("format", ["table", "md", "latex", "csv", "json"])
def test_a_sweep_is_printed_as_its_golden_file(format: str) -> None:
    assert SWEEP.table(format) == (GOLDEN / f"sweep.{format}").read_text("utf-8")


def test_unknown_format_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no format is named 'jsonl'; did you mean json\?"):
        SWEEP.table("jsonl")


def cells(sweep: Sweep) -> list[list[str]]:
    """The rows of the table, head first."""
    rows = [line for line in sweep.table("md").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in rows if "---" not in row]


def test_the_model_and_its_size_stand_in_front() -> None:
    head, small, large = cells(one())

    assert head[:3] == ["model", "parameters", "task"]
    assert small[:3] == ["small", "124,439,808", "superglue/rte"]
    assert large[:3] == ["large", "1,557,611,200", "superglue/rte"]


def test_a_revision_stands_beside_its_model() -> None:
    head, first, second = cells(Sweep((Result((RTE,), STEP), Result((RTE,), SMALL))))

    assert head[:2] == ["model", "revision"]
    assert (first[:2], second[:2]) == (["small", "step1000"], ["small", ""])


def test_parameters_that_no_model_says_have_no_column() -> None:
    unsaid = MANIFEST.model_copy(update={"note": None})

    assert cells(Sweep((Result((RTE,), unsaid),)))[0][:2] == ["model", "task"]


def test_what_is_true_of_all_models_is_reported_once_above_the_table() -> None:
    lines = one().table().splitlines()

    assert lines[:3] == ["2 models (bos0, w2048, float32), data data", "note: mind the gap", ""]


def test_rules_that_differ_are_reported_of_each_model() -> None:
    lines = Sweep((Result((RTE,), SMALL), Result((RTE,), OTHER_RULES))).table().splitlines()

    assert lines[:3] == [
        "2 models, data data",
        "model small (bos0, w2048, float32)",
        "model large (bos1, w1024, float32)",
    ]


def test_a_note_on_some_models_names_them() -> None:
    alone = LARGE.model_copy(update={"prefix_sharing_limit": "its attention is its own"})
    lines = Sweep((Result((RTE,), SMALL), Result((RTE,), alone))).table().splitlines()

    assert lines[2] == "note: large: prefixes are not all shared, because its attention is its own"


def test_what_scores_had_to_do_without_is_reported_of_each_model() -> None:
    sweep = Sweep((Result((RTE_32,), STEP), Result((replace(RTE_32, shortened=0, truncated=0, ties=2),), OTHER_RULES)))
    notes = [line for line in sweep.table("md").splitlines() if not line.startswith("signal/noise")][-7:]

    assert notes[0].startswith("GPT-3: Table H.1")  # of both
    assert notes[1].startswith("small@step1000: 1007 prompts have fewer demonstrations than requested")
    assert [notes[3], notes[5]] == [
        "small@step1000: 3 answers had several best options; the first of them was chosen",
        "large: 2 answers had several best options; the first of them was chosen",
    ]
    assert notes[4].startswith("small@step1000: superglue/rte accuracy (32 shots): 4 of 1385 decisions are within")


def test_differences_from_a_baseline_are_those_of_each_model() -> None:
    variant = replace(RTE, prompt="gpt3~labels=random", axis="labels", baseline="gpt3", difference=-0.1)
    results = [Result((RTE, replace(variant, difference_error=error)), SMALL) for error in (0.02, 0.03)]
    rendered = Sweep((results[0], replace(results[1], manifest=LARGE))).table().splitlines()

    assert [line for line in rendered if " minus " in line] == [
        "small: superglue/rte accuracy, gpt3~labels=random minus gpt3: -0.100 ± 0.020 (0 shots)",
        "large: superglue/rte accuracy, gpt3~labels=random minus gpt3: -0.100 ± 0.030 (0 shots)",
    ]


def test_every_signature_is_led_by_its_model() -> None:
    lines = one().table(signatures=True).splitlines()

    for name in ("small", "large"):
        assert f"{name}: superglue/rte accuracy 0.563 ± 0.030 (0 shots)  {RTE.signature}" in lines


def test_a_failure_is_reported_below() -> None:
    for format in ("table", "md"):
        last = SWEEP.table(format).splitlines()[-1]
        assert last == "huge was not evaluated: 'huge' cannot be loaded: it is not there"


def test_csv_has_the_columns_of_a_single_run() -> None:
    rows = list(csv.DictReader(io.StringIO(SWEEP.table("csv"))))
    single = csv.DictReader(io.StringIO(SWEEP.results[0].table("csv")))

    assert [{name: row[name] for name in single.fieldnames or ()} for row in rows[:3]] == list(single)
    assert [(row["model"], int(row["parameters"])) for row in rows] == [
        *[("small", 124_439_808)] * 3,
        *[("large", 1_557_611_200)] * 3,
    ]


def test_json_names_models_failures_and_the_model_of_every_score() -> None:
    document = json.loads(SWEEP.table("json"))

    assert [(each["model"], each["fingerprint"], each["parameters"]) for each in document["models"]] == [
        ("small", "f1", 124_439_808),
        ("large", "f2", 1_557_611_200),
    ]
    assert document["failures"] == [
        {"model": "huge", "revision": None, "failed": "'huge' cannot be loaded: it is not there"}
    ]
    assert [(line["model"], line["revision"], line["shots"]) for line in document["scores"]] == [
        (name, None, shots) for name in ("small", "large") for shots in (0, 32, 0)
    ]
