from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from toy_tasks import ASKED, NAMES, PROMPT, answers, knowing, parity, records, write_library

from icl_eval import Comparison, Library, Task, compare, evaluate, sweep
from icl_eval.analysis.compare import compare_with_first
from icl_eval.errors import RunError, UnknownName
from icl_eval.testing import FakeLM

from .folders import scores

LONG = range(40)
CHATTY = "Even or odd?\nQ: {{ n }}\nA:"


def numbers(*, queries: Iterable[int] = LONG, size: int = 1, **overrides: Any) -> Task:
    """Parity of numbers, so many of which are a cluster."""
    evaluated, demonstrations = (
        [{**row, "part": row["n"] // size} for row in records(each)] for each in (queries, range(100, 112))
    )
    overrides = {"prompt": PROMPT, "options": NAMES, "id": "id", "cluster": "part"} | overrides
    return Task.from_records("numbers", evaluation=evaluated, demonstrations=demonstrations, **overrides)


def knows(right: Iterable[int], name: str = "fake") -> FakeLM:
    return FakeLM({queries: f"{answer}\n" for queries, answer in answers(right, LONG).items()}, name=name)


FEW, MANY = [n for n in LONG if n % 3 == 0], [n for n in LONG if n % 3 == 0 or n % 7 < 3]
GAIN = np.array([(n in MANY) - (n in FEW) for n in LONG], float)


def ran(folder: Path, right: Iterable[int], task: Task, **options: Any) -> Path:
    evaluate(knows(right), task, out=folder, **{"shots": 0, **options})
    return folder


def two(root: Path, task: Task, other: Task | None = None, **options: Any) -> Comparison:
    return compare(ran(root / "one", FEW, task, **options), ran(root / "other", MANY, other or task, **options))


def test_error_of_a_difference_is_that_of_the_differences_of_the_examples(tmp_path: Path) -> None:
    (pair,) = two(tmp_path, numbers())

    assert pair.value == pytest.approx(GAIN.mean())
    assert pair.standard_error == pytest.approx(GAIN.std(ddof=1) / math.sqrt(len(GAIN)))
    assert (pair.one.value, pair.other.value) == (len(FEW) / 40, len(MANY) / 40)
    assert pair.standard_error < pair.one.standard_error
    assert (pair.interval, pair.method, pair.seed_sd) == ("normal", "delta", None)


def test_clustered_examples_are_paired_by_clusters(tmp_path: Path) -> None:
    (pair,) = two(tmp_path, numbers(size=4))
    sums = (GAIN - GAIN.mean()).reshape(10, 4).sum(axis=1)

    assert pair.standard_error == pytest.approx(math.sqrt(10 / 9 * (sums**2).sum()) / 40)
    assert (pair.one.units, pair.one.clusters) == (40, 10)


def test_generated_answers_are_paired_too(tmp_path: Path) -> None:
    rows = [{"n": n, "r": NAMES[n % 2]} for n in LONG]
    task = Task.from_records(
        "written", evaluation=rows, prompt=PROMPT, answer="text", references="r", metrics=["squad_em"],
        decode={"max_tokens": 6}, id="n",
    )  # fmt: skip
    (pair,) = two(tmp_path, task)

    assert pair.one.metric == "squad_em"
    assert pair.value == pytest.approx(GAIN.mean())
    assert pair.standard_error == pytest.approx(GAIN.std(ddof=1) / math.sqrt(len(GAIN)))


def test_a_run_does_not_differ_from_itself(tmp_path: Path) -> None:
    folder = ran(tmp_path / "run", FEW, numbers(metrics=["accuracy", "macro_f1"]))

    assert [(pair.value, pair.standard_error) for pair in compare(folder, folder)] == [(0, 0), (0, 0)]
    assert compare(folder, folder).unpaired == ()


def test_exchanging_the_runs_turns_the_sign_alone(tmp_path: Path) -> None:
    (there,) = two(tmp_path, numbers())
    (back,) = compare(tmp_path / "other", tmp_path / "one")

    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))
    assert back.standard_error == pytest.approx(there.standard_error)


def test_draws_are_paired_where_they_are_the_same(tmp_path: Path) -> None:
    """The first model is right after an odd number, the second always: their difference is the first one's errors."""
    first = FakeLM(answers(ASKED, after=" odd\n\n") | answers([], after=" even\n\n"))
    evaluate(first, parity(), shots=1, seeds=3, out=tmp_path / "one")
    evaluate(knowing(*ASKED), parity(), shots=1, seeds=3, out=tmp_path / "other")
    evaluate(knowing(*ASKED), parity(), shots=1, seeds=[1, 2, 3], out=tmp_path / "others")
    wrong = 1 - np.array(scores(tmp_path / "one")[0]["seed_values"])

    (same,), (shifted,) = (compare(tmp_path / "one", tmp_path / each) for each in ("other", "others"))
    assert wrong.std() > 0
    assert same.seed_sd == pytest.approx(wrong.std(ddof=1))
    assert same.value == pytest.approx(wrong.mean())
    assert shifted.value == pytest.approx(wrong.mean())
    assert shifted.seed_sd is None


def test_different_prompts_pair_where_each_run_has_one(tmp_path: Path) -> None:
    task = numbers(prompt={"plain": PROMPT, "chatty": CHATTY})
    ran(tmp_path / "plain", FEW, task, prompts="plain")
    ran(tmp_path / "chatty", MANY, task, prompts="chatty")
    ran(tmp_path / "both", MANY, task, prompts=["plain", "chatty"])
    found = compare(tmp_path / "plain", tmp_path / "chatty")

    assert [(pair.one.prompt, pair.other.prompt) for pair in found] == [("plain", "chatty")]
    assert found.pairs[0].value == pytest.approx(GAIN.mean())
    assert "  plain, chatty  " in found.table()
    beside = compare(tmp_path / "plain", tmp_path / "both")
    assert [(pair.one.prompt, pair.other.prompt) for pair in beside] == [("plain", "plain")]
    assert [(each.run, each.line.prompt) for each in beside.unpaired] == [("other", "chatty")]


def test_what_only_one_run_has_is_named(tmp_path: Path) -> None:
    ran(tmp_path / "one", FEW, numbers(metrics=["accuracy", "macro_f1"]), shots=[0, 1])
    ran(tmp_path / "other", MANY, numbers(metrics=["accuracy", "matthews_correlation"]))
    found = compare(tmp_path / "one", tmp_path / "other")

    assert [(pair.one.metric, pair.one.shots) for pair in found] == [("accuracy", 0)]
    sentences = [
        f"numbers was scored only in the {each}"
        for each in (
            "first run (metric macro_f1); the second has metrics accuracy, matthews_correlation",
            "first run (shots 1); the second has shots 0",
            "second run (metric matthews_correlation); the first has metrics accuracy, macro_f1",
        )
    ]
    assert found.table().splitlines()[-3:] == [f"not compared: {each}" for each in sentences]
    rows = list(csv.DictReader(io.StringIO(found.table("csv"))))
    assert [row["not_compared"] for row in rows] == ["", sentences[0], *[sentences[1]] * 2, sentences[2]]
    assert [(row["one"] == "", row["other"] == "") for row in rows[1:]] == [(False, True)] * 3 + [(True, False)]


def moved(n: int) -> list[dict[str, Any]]:
    return [{**row, "label": 1 - row["label"] if row["n"] == n else row["label"]} for row in records(LONG)]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (numbers(queries=range(1, 41)), "on other examples: '0' is not the same in both runs"),
        (numbers(queries=range(39)), "on all 40 in the first run and on all 39 in the second"),
        (numbers(size=2), "on other examples: '1' is not the same in both runs"),
        (numbers(group="label"), "on other examples: '10' is not the same in both runs"),
        (numbers(options=["even", "uneven"]), "on other examples: '0' is not the same in both runs"),
        (
            Task.from_records("numbers", evaluation=moved(17), prompt=PROMPT, options=NAMES, id="id"),
            "on other examples: '17' is not the same in both runs",
        ),
    ],
)
def test_runs_over_different_examples_are_refused(other: Task, why: str, tmp_path: Path) -> None:
    with pytest.raises(RunError) as error:
        two(tmp_path, numbers(), other)

    nothing = f"no score of this run can be compared with one of {tmp_path / 'other'}"
    assert str(error.value) == f"{tmp_path / 'one'}: {nothing}: numbers was scored {why}"


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ((10, 20), "a sample of 10 of 40 in the first run and on a sample of 20 of 40"),
        ((10, "first:10"), "a sample of 10 of 40 in the first run and on the first 10 of 40"),
        (("first:10", None), "the first 10 of 40 in the first run and on all 40"),
    ],
)
def test_another_limit_is_another_set_of_examples(
    limits: tuple[int | str | None, ...], why: str, tmp_path: Path
) -> None:
    for name, limit in zip(("one", "other"), limits, strict=True):
        ran(tmp_path / name, FEW, numbers(), limit=limit)

    with pytest.raises(RunError) as error:
        compare(tmp_path / "one", tmp_path / "other")
    assert str(error.value).endswith(f": numbers was scored on {why} in the second")


def test_the_same_examples_of_another_total_are_another_set(tmp_path: Path) -> None:
    ran(tmp_path / "one", FEW, numbers(), limit="first:10")
    ran(tmp_path / "other", FEW, numbers(queries=range(10)))

    with pytest.raises(RunError, match=r"on the first 10 of 40 in the first run and on all 10 in the second$"):
        compare(tmp_path / "one", tmp_path / "other")


def test_the_same_sample_of_another_file_order_is_compared(tmp_path: Path) -> None:
    ran(tmp_path / "one", FEW, numbers(), limit=10)
    ran(tmp_path / "other", FEW, numbers(queries=reversed(range(40))), limit=10)

    assert [pair.value for pair in compare(tmp_path / "one", tmp_path / "other")] == [0]


def test_another_split_is_another_set_of_examples(tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": write_library(tmp_path) / "data", "library": Library([tmp_path]), "shots": 0}
    evaluate(knowing(0), "toy/parity", out=tmp_path / "one", **options)
    evaluate(knowing(0), "toy/parity", out=tmp_path / "other", split="train", **options)

    with pytest.raises(
        RunError, match="toy/parity was scored on the task's own split in the first run and on train in the second"
    ):
        compare(tmp_path / "one", tmp_path / "other")


def test_a_task_over_other_examples_is_named_beside_one_that_pairs(tmp_path: Path) -> None:
    evaluate(knows(FEW), [numbers(), parity()], shots=0, out=tmp_path / "one")
    evaluate(knows(FEW), [numbers(), parity(range(1, 9))], shots=0, out=tmp_path / "other")
    found = compare(tmp_path / "one", tmp_path / "other")

    assert [pair.one.task for pair in found] == ["numbers"]
    assert found.table().splitlines()[-1] == (
        "not compared: parity was scored on other examples: '0' is not the same in both runs"
    )


def test_runs_of_other_tasks_are_refused(tmp_path: Path) -> None:
    evaluate(knowing(0), parity(), shots=0, out=tmp_path / "one")
    ran(tmp_path / "other", FEW, numbers())

    sentences = "parity was scored only in the first run; numbers was scored only in the second run"
    with pytest.raises(RunError, match=f": {sentences}$"):
        compare(tmp_path / "one", tmp_path / "other")


@pytest.mark.parametrize(
    ("one", "other", "sentence"),
    [
        ({"shots": [0, 1, 4]}, {"shots": 8}, "first run (shots 0, 1, 4); the second has shots 8"),
        ({"shots": 1}, {"shots": [2, 1]}, "second run (shots 2); the first has shots 1"),
        ({"prompts": "b"}, {"prompts": ["a", "c"]}, "first run (prompt b); the second has prompts a, c"),
    ],
)
def test_what_two_runs_do_not_share_is_reported_once(
    one: dict[str, Any], other: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    task = numbers(prompt={"a": PROMPT, "b": CHATTY, "c": f"Hm.\n{PROMPT}"})
    ran(tmp_path / "one", FEW, task, **one)
    ran(tmp_path / "other", MANY, task, **other)
    try:
        reasons = {each.why for each in compare(tmp_path / "one", tmp_path / "other").unpaired}
    except RunError as error:
        reasons = {str(error).split(": ", 2)[2]}

    assert reasons == {f"numbers was scored only in the {sentence}"}


def test_another_normalisation_is_named(tmp_path: Path) -> None:
    ran(tmp_path / "one", FEW, numbers(normalization="byte"))
    ran(tmp_path / "other", FEW, numbers(normalization="sum"))

    with pytest.raises(RunError, match=r"in the first run \(scoring byte\); the second has scoring sum$"):
        compare(tmp_path / "one", tmp_path / "other")


def test_a_task_that_failed_in_one_run_is_not_compared(tmp_path: Path) -> None:
    wordy = parity([0, int("1" * 90)])
    evaluate(knows(FEW), [numbers(), wordy], shots=0, out=tmp_path / "one")
    evaluate(FakeLM(window=40), [numbers(), wordy], shots=0, out=tmp_path / "other")
    reason = compare(tmp_path / "one", tmp_path / "other").unpaired[0].why

    failed = "; it failed in the second: parity, example '1111"
    assert reason.startswith(f"parity was scored only in the first run{failed}")


def test_averages_of_suites_are_paired_as_their_tasks_are(tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": write_library(tmp_path) / "data", "library": Library([tmp_path]), "shots": 0}
    for folder, right in (("one", (0, 1)), ("other", (0, 1, 2))):
        evaluate(knowing(*right), "toy", out=tmp_path / folder, **options)
    found = compare(tmp_path / "one", tmp_path / "other")

    parity, pairs, _, average = found.pairs
    assert [pair.one.task for pair in found] == ["toy/parity", "toy/pairs", "toy/pairs", "toy"]
    assert average.value == pytest.approx((parity.value + pairs.value) / 2)
    assert average.standard_error == pytest.approx(math.hypot(parity.standard_error, pairs.standard_error) / 2)
    assert average.standard_error > 0
    assert found.unpaired == ()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("average: macro", "average: micro", "of other tasks, metrics or weights in the second run"),
        ("[toy/parity, toy/pairs]", "[toy/parity]", "of other tasks, metrics or weights in the second run"),
        (
            '"label": 0',
            '"label": 1',
            "of other examples: toy/parity was scored on other examples: '0' is not the same in both runs",
        ),
    ],
)
def test_averages_of_something_else_are_not_compared(old: str, new: str, why: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": write_library(tmp_path) / "data", "shots": 0}
    suite = tmp_path / "tasks/toy.yaml"
    suite.write_text(suite.read_text().replace("suite: toy\n", "suite: toy\naverage: macro\n"))
    short = tmp_path / "data/pairs/val.jsonl"
    short.write_text("".join(short.read_text().splitlines(keepends=True)[:6]))
    evaluate(knowing(0, 1), "toy", out=tmp_path / "one", library=Library([tmp_path]), **options)
    changed = suite if old in suite.read_text() else tmp_path / "data/parity/val.jsonl"
    changed.write_text(changed.read_text().replace(old, new, 1))
    evaluate(knowing(0, 2), ["toy", "toy/pairs"], out=tmp_path / "other", library=Library([tmp_path]), **options)
    found = {each.line.task: each.why for each in compare(tmp_path / "one", tmp_path / "other").unpaired}

    assert found["toy"] == f"the average of toy is {why}"


def test_other_normalisations_are_compared_without_a_model(tmp_path: Path) -> None:
    two(tmp_path, numbers())
    found = compare(tmp_path / "one", tmp_path / "other", ["sum", "byte"])

    assert [pair.one.normalization for pair in found] == ["sum", "byte"]
    with pytest.raises(UnknownName, match=r"did you mean byte\?"):
        compare(tmp_path / "one", tmp_path / "other", "bytes")


def test_the_folder_of_a_sweep_is_not_that_of_a_run(tmp_path: Path) -> None:
    sweep([knows(FEW, "weak"), knows(MANY, "strong")], numbers(), shots=0, out=tmp_path / "sweep")
    weak, strong = sorted((path for path in (tmp_path / "sweep").iterdir() if path.is_dir()), reverse=True)

    assert compare(weak, strong).pairs[0].value == pytest.approx(GAIN.mean())
    with pytest.raises(RunError, match="this folder contains a sweep; the run of each model is in a folder inside it"):
        compare(weak, tmp_path / "sweep")


def test_json_and_a_frame_have_every_figure(tmp_path: Path) -> None:
    found = two(tmp_path, numbers())
    document = json.loads(found.table("json"))
    (entry,) = document["differences"]
    score = found.pairs[0].other

    assert [document[run]["model"] for run in ("one", "other")] == ["fake", "fake"]
    assert [document[run]["folder"] for run in ("one", "other")] == list(found.folders)
    assert [line.partition(", run ")[2] for line in found.table().splitlines()[:2]] == list(found.folders)
    assert all((Path(folder) / "scores.json").is_file() for folder in found.folders)
    assert document["one"]["fingerprint"] != document["other"]["fingerprint"]
    assert entry["difference"] == pytest.approx(GAIN.mean())
    assert (entry["other"], entry["signature_other"]) == (score.value, score.signature)
    assert found.to_frame()["standard_error"].tolist() == [found.pairs[0].standard_error]


def test_runs_over_data_from_different_sources_are_refused(tmp_path: Path) -> None:
    for name in ("one", "other"):
        ran(tmp_path / name, FEW, numbers())
    path = tmp_path / "other/manifest.json"
    path.write_text(path.read_text().replace('"data": "memory"', '"data": "local"'))

    with pytest.raises(RunError, match="numbers has memory data in the first run and local data in the second"):
        compare(tmp_path / "one", tmp_path / "other")


def test_wins_and_losses_are_counted_and_tested_exactly(tmp_path: Path) -> None:
    for name, right in (("one", (0, 1, 2)), ("other", (0, 3, 4, 5, 6))):
        evaluate(knowing(*right), parity(), shots=0, out=tmp_path / name)
    (pair,) = compare(tmp_path / "one", tmp_path / "other")

    assert (pair.wins, pair.losses, pair.equal) == (4, 2, 2)  # 3, 4, 5 and 6; 1 and 2; 0 and 7
    assert pair.test == "exact"
    assert pair.p_value == pytest.approx(stats.binomtest(4, 6).pvalue)


def test_clusters_of_several_examples_are_exchanged_whole(tmp_path: Path) -> None:
    task = numbers(size=4)
    ran(tmp_path / "one", range(0, 20), task)
    ran(tmp_path / "other", range(7, 40), task)
    (pair,) = compare(tmp_path / "one", tmp_path / "other")
    gains = np.array([(n >= 7) - (n < 20.0) for n in LONG]).reshape(10, 4).sum(axis=1)
    flips = np.array(list(itertools.product([1, -1], repeat=10)))

    assert pair.test == "exact"
    assert (pair.wins, pair.losses, pair.equal) == (None, None, None)
    assert pair.p_value == pytest.approx((abs(flips @ gains) >= abs(gains.sum())).mean())
    assert pair.p_holm == pair.p_value


@pytest.mark.parametrize(("seeds", "test"), [([0, 1, 2], "exact"), ([0, 1], "t")])
def test_means_over_draws_are_exchanged_where_both_have_as_many(seeds: list[int], test: str, tmp_path: Path) -> None:
    first = FakeLM(answers(ASKED, after=" odd\n\n") | answers([], after=" even\n\n"))
    evaluate(first, parity(), shots=1, seeds=3, out=tmp_path / "one")
    evaluate(knowing(*ASKED), parity(), shots=1, seeds=seeds, out=tmp_path / "other")
    (pair,) = compare(tmp_path / "one", tmp_path / "other")

    assert pair.test == test
    if test == "exact":  # every example that is not always right is a loss of the first
        assert pair.p_value == pytest.approx(2 ** (1 - (pair.wins or 0)))


def test_each_of_several_runs_is_compared_with_the_first(tmp_path: Path) -> None:
    for name, right in (("one", (0, 1, 2)), ("two", (0, 3, 4, 5, 6)), ("three", ASKED)):
        evaluate(knowing(*right), parity(), shots=[0, 1], out=tmp_path / name)
    paths = [tmp_path / name for name in ("one", "two", "three")]
    alone = [compare(paths[0], other) for other in paths[1:]]
    together = compare_with_first(paths)
    p_values = [pair.p_value for found in alone for pair in found]

    assert [[pair.value for pair in each] for each in together] == [[pair.value for pair in each] for each in alone]
    assert [pair.p_holm for each in together for pair in each] == pytest.approx(
        list(multipletests(p_values, method="holm")[1])
    )
    with pytest.raises(RunError, match="a comparison takes at least two runs"):
        compare_with_first(paths[:1])


def test_p_values_are_adjusted_for_the_number_of_differences(tmp_path: Path) -> None:
    for name, right in (("one", (0, 1, 2)), ("other", (0, 3, 4, 5, 6))):
        evaluate(knowing(*right), parity(), shots=[0, 1, 2], out=tmp_path / name)
    pairs = compare(tmp_path / "one", tmp_path / "other").pairs
    expected = multipletests([pair.p_value for pair in pairs], method="holm")[1]

    assert [pair.p_holm for pair in pairs] == pytest.approx(list(expected))
