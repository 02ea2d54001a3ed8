from __future__ import annotations

import math
import re
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from toy_tasks import knowing, parity

from icl_eval import Result, compare, evaluate
from icl_eval.analysis.spread import with_spreads
from icl_eval.metrics import METRICS, Prediction, estimate
from icl_eval.results.score import Score
from icl_eval.testing import FakeLM

PROMPTS = {"a": "Q: {{ n }}\nA:", "b": "B: {{ n }}\nA:", "c": "C: {{ n }}\nA:"}
RIGHT = {"Q": (0, 1, 2, 4, 5), "B": (0, 1, 2, 3, 4, 5, 7), "C": (0, 6)}  # of 8


@pytest.fixture(scope="module")
def result() -> Result:
    known = {
        f"{name}: {n}\nA:": f" {['even', 'odd'][n % 2 if n in right else 1 - n % 2]}"
        for name, right in RIGHT.items()
        for n in range(8)
    }
    return evaluate(FakeLM(known), parity(prompt=PROMPTS), shots=0, prompts=["a", "b", "c"])


def test_means_are_compared_if_they_are_of_the_same_prompts(tmp_path: Path) -> None:
    for name, prompts in (("one", ["a", "b"]), ("same", ["b", "a"]), ("other", ["a", "c"])):
        evaluate(knowing(0), parity(prompt=PROMPTS), shots=0, prompts=prompts, out=tmp_path / name)
    same, other = (compare(tmp_path / "one", tmp_path / name) for name in ("same", "other"))

    assert {pair.one.prompt for pair in same.pairs} == {"a", "b", "mean of 2 prompts"}
    assert {pair.one.prompt for pair in other.pairs} == {"a"}


def test_losses_of_demonstrations_are_not_mistaken_for_scores_with_their_shots(tmp_path: Path) -> None:
    evaluate(FakeLM(), parity(), shots=[1, 3], out=tmp_path / "one")
    evaluate(FakeLM(), parity(), shots=3, per_shot_loss=True, out=tmp_path / "other")

    table = compare(tmp_path / "one", tmp_path / "other").table()

    assert [line.removeprefix("not compared: parity was scored only in the ") for line in table.splitlines()[-2:]] == [
        "first run (shots 1); the second has shots 3",
        "second run (metric per_shot_loss); the first has metric accuracy",
    ]


def test_ranges_leave_out_single_permutations_and_name_no_best_of_equal_scores() -> None:
    found = evaluate(
        FakeLM(), parity(), shots=3, order=["drawn", "permutations:4"], select=["random", "balanced"], seeds=1
    )
    notes = [line for line in found.table().splitlines() if "median" in line]

    assert any("mean of 4 orders" in note for note in notes)
    assert not any("order=permutation" in note.partition(": median")[0] for note in notes)
    assert all(("best" in note) == (len(set(re.findall(r"range (\S+) to (\S+)", note)[0])) == 2) for note in notes)


def test_prompts_are_summarised_by_mean_and_range(result: Result) -> None:
    *single, mean = result
    right = [len(RIGHT[name]) / 8 for name in "QBC"]

    assert [line.value for line in single] == right
    assert (mean.axis, mean.variants, mean.prompt) == ("prompts", 3, "mean of 3 prompts")
    assert mean.value == pytest.approx(statistics.fmean(right))
    assert (mean.median, mean.minimum, mean.maximum) == (statistics.median(right), min(right), max(right))
    assert (mean.best, mean.worst) == ("b", "c")


def test_error_of_the_mean_over_prompts_is_that_of_the_means_of_examples(result: Result) -> None:
    means = [statistics.fmean(n in RIGHT[name] for name in "QBC") for n in range(8)]

    assert result.scores[-1].standard_error == pytest.approx(statistics.stdev(means) / math.sqrt(8))


def test_each_prompt_has_its_paired_difference_from_the_first(result: Result) -> None:
    first, other, *_ = result
    differences = [(n in RIGHT["B"]) - (n in RIGHT["Q"]) for n in range(8)]

    assert (first.baseline, first.difference) == ("", None)
    assert (other.axis, other.baseline) == ("prompts", "a")
    assert other.difference == pytest.approx(statistics.fmean(differences))
    assert other.difference_error == pytest.approx(statistics.stdev(differences) / math.sqrt(8))


def test_the_range_stands_below_the_table_and_signatures_differ(result: Result) -> None:
    table = result.table()

    assert (
        "parity accuracy (0 shots), mean of 3 prompts: median 0.625, range 0.250 to 0.875 (best b, worst c)\n" in table
    )
    assert "+0.250 ± 0.164" in result.table(columns="from-baseline")
    assert len({line.signature for line in result}) == 4
    assert "|mean of 3 prompts#" in result.scores[-1].signature


def test_one_prompt_has_no_spread() -> None:
    (line,) = evaluate(knowing(0), parity(), shots=0)

    assert (line.axis, line.variants, line.difference) == ("", 0, None)


def test_best_is_the_least_where_less_is_better() -> None:
    task = parity(prompt={"a": "{{ n }}", "b": "{{ n }} or more"}, answer="likelihood", references="n", options=None)
    one, other, mean = evaluate(knowing(), task, shots=0, prompts=["a", "b"], metrics="bits_per_byte")

    assert one.value != other.value
    assert mean.best == min(one, other, key=lambda line: line.value).prompt != mean.worst


def spreads(**right: int) -> list[Score]:
    """The scores of prompts by name that answer so many of eight examples, with what follows from them."""
    base = evaluate(knowing(0), parity(), shots=0).scores[0]
    lines = []
    for prompt, known in right.items():
        choices = [Prediction(str(n), ("x", "y"), (0,), int(n >= known), str(n), str(n)) for n in range(8)]
        found = estimate(METRICS["accuracy"], [choices])
        lines.append((found, replace(base, prompt=prompt, value=found.value)))
    return [score for _, score in with_spreads(lines)]


def test_formats_have_a_range_for_each_prompt_and_prompts_that_of_the_prompts_themselves() -> None:
    found = spreads(**{"a": 4, "a~f1": 6, "a~f2s7": 2, "b": 5, "b~f1": 5})

    assert [score.prompt for score in found[5:]] == ["mean of 2 prompts", "a~mean of 3 formats", "b~mean of 2 formats"]
    assert [(score.baseline, score.difference) for score in found[:5]] == [
        ("", None),
        ("a", 0.25),
        ("a", -0.25),
        ("a", 0.125),
        ("b", 0.0),
    ]
    assert (found[6].best, found[6].worst, found[6].median) == ("a~f1", "a~f2s7", 0.5)
    assert [score.is_variant for score in found] == [False, True, True, False, True, False, False, False]


def test_labels_and_orders_have_differences_along_one_axis_each_and_only_orders_a_mean() -> None:
    names = ["a", "a~order=reversed", "a~labels=random", "a~labels=random,order=reversed", "a~f1~labels=random"]
    found = spreads(**dict(zip(names, (8, 6, 4, 1, 3), strict=True)))

    assert [(score.axis, score.baseline, score.difference) for score in found[1:5]] == [
        ("orders", "a", -2 / 8),
        ("labels", "a", -4 / 8),
        ("orders", "a~labels=random", -3 / 8),
        ("formats", "a~labels=random", -1 / 8),
    ]
    assert [(score.prompt, score.value) for score in found[5:]] == [
        ("a~mean of 2 formats~labels=random", 3.5 / 8),
        ("a~mean of 2 orders", 7 / 8),
        ("a~labels=random~mean of 2 orders", 2.5 / 8),
    ]


@pytest.mark.parametrize(
    ("name", "parts", "is_variant"),
    [
        ("gpt3", {"base": "gpt3"}, False),
        ("gpt3~f3s1", {"base": "gpt3", "format": "f3s1"}, True),
        ("gpt3~f3-best", {"base": "gpt3", "format": "f3-best"}, False),
        ("gpt3~labels=abstract:a/b", {"base": "gpt3", "labels": "abstract:a/b"}, False),
        (
            "p~f1~labels=random,order=reversed",
            {"base": "p", "format": "f1", "labels": "random", "order": "reversed"},
            True,
        ),
        ("gpt3~mean of 3 formats~order=permutation:2of4", {"base": "gpt3", "order": "permutation:2of4"}, True),
        ("gpt3~labels=random~mean of 4 orders", {"base": "gpt3", "labels": "random"}, False),
        ("mean of 2 prompts~labels=random", {"base": "mean of 2 prompts", "labels": "random"}, False),
    ],
)
def test_parts_of_the_name_of_a_prompt(name: str, parts: dict[str, str], is_variant: bool, result: Result) -> None:
    score = replace(result.scores[0], prompt=name)

    assert {part: value for part, value in score.prompt_parts.items() if value} == parts
    assert score.is_variant is is_variant
