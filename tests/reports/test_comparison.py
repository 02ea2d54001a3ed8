from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from icl_eval.errors import UnknownName
from icl_eval.results.pair import Pair
from icl_eval.results.result import Comparison

from .lines import MANIFEST, RTE, RTE_32

STEP = MANIFEST.model_copy(update={"config": MANIFEST.config.model_copy(update={"revision": "step1000"})})
PAIR = Pair(RTE, replace(RTE, value=0.6132), 0.05, 0.0123, 0.0259, 0.0741, "normal", "delta", None)


def table(*pairs: Pair, other: Any = STEP) -> str:
    return Comparison(pairs or (PAIR,), (), MANIFEST, other).table()


def row(text: str) -> list[str]:
    (found,) = [line.split() for line in text.splitlines() if line.startswith(" superglue/rte")]
    return found


def test_both_runs_are_named_and_their_scores_stand_side_by_side() -> None:
    lines = Comparison((PAIR,), (), MANIFEST, STEP).table(signatures=True).splitlines()

    assert lines[0].startswith(f"one: model {MANIFEST.model_name} (")
    assert lines[1].startswith(f"other: model {MANIFEST.model_name}@step1000 (")
    assert row(table())[2:] == ["0", "0.563", "0.613", "0.050", "0.012", "0.026", "to", "0.074", "277"]
    assert [line.split()[:4] for line in lines if RTE.signature in line] == [
        ["one:", "superglue/rte", "accuracy", "0.563"],
        ["other:", "superglue/rte", "accuracy", "0.613"],
    ]


def test_nothing_is_printed_where_nothing_is_known_of_the_spread() -> None:
    unknown = replace(PAIR, standard_error=math.nan, low=-1.0, high=1.0, interval="bounds")

    assert row(table(unknown))[2:] == ["0", "0.563", "0.613", "0.050", "277"]


def test_errors_by_the_jackknife_are_distinguished_from_the_others() -> None:
    of_whole_lists = replace(PAIR, one=replace(RTE, metric="evaluate:mcc"), method="jackknife")

    assert "± of the differences of evaluate:mcc is the jackknife's over clusters" in table(PAIR, of_whole_lists)
    assert "jackknife" not in table(PAIR)


def test_what_scores_had_to_do_without_is_reported_of_its_run() -> None:
    whole = replace(RTE_32, shortened=0, truncated=0, ties=0, effective_shots=32.0)
    lost = replace(PAIR, one=RTE_32, other=whole)
    lines = table(lost).splitlines()

    assert "31.2, 32.0" in Comparison((lost,), (), MANIFEST, STEP).table("md")
    assert [line.split(" ")[:3] for line in lines if "the first of them was chosen" in line] == [
        ["one:", "3", "answers"]
    ]


@pytest.mark.parametrize(
    ("scoring", "inputs", "sentence"),
    [
        ("contextual", {"content_free": ("N/A", "")}, "by 'N/A', '' in one run and by 'none' in the other"),
        ("dc-pmi", {"domain_premise": " answer:"}, "by ' answer:' in one run and by ' true?' in the other"),
    ],
)
def test_calibrations_by_other_inputs_are_named(scoring: Any, inputs: dict[str, Any], sentence: str) -> None:
    calibrated = replace(PAIR, one=replace(RTE, normalization=scoring), other=replace(RTE, normalization=scoring))
    one, other = (
        MANIFEST.model_copy(update={"tasks": (MANIFEST.tasks[0].model_copy(update=each),)})
        for each in (inputs, {"content_free": ("none",), "domain_premise": " true?"})
    )

    assert (
        f"superglue/rte: the {scoring} scores are calibrated {sentence}"
        in Comparison((calibrated,), (), one, other).table()
    )
    assert "calibrated" not in Comparison((calibrated,), (), one, one).table()
    assert "calibrated" not in Comparison((PAIR,), (), one, other).table()


def test_unknown_format_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no format is named 'jsonl'; did you mean json\?"):
        Comparison((PAIR,), (), MANIFEST, STEP).table("jsonl")
