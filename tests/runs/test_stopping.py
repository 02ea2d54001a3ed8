"""The rule `until`: which examples are evaluated, and how it is reported."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rank_threads import together
from toy_tasks import NAMES, PROMPT, answers, records

from icl_eval import Result, Task, compare, evaluate
from icl_eval.engine import SINGLE_PROCESS
from icl_eval.errors import RunError
from icl_eval.metrics.sequence import MeanSequence
from icl_eval.results.records import KnownScore, Stopped
from icl_eval.runs.evaluate import planned
from icl_eval.testing import FakeLM

from .dying import Stopping
from .folders import examples, journal, manifest

MANY = range(120)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icl_eval.analysis.stopping.BLOCK", 10)


def numbers(queries: Iterable[int] = MANY, **overrides: Any) -> Task:
    rows, demonstrations = (
        [{**row, "pair": row["n"] // 2} for row in records(each)] for each in (queries, range(200, 212))
    )
    overrides = {"prompt": PROMPT, "options": NAMES, "id": "id"} | overrides
    return Task.from_records("numbers", evaluation=rows, demonstrations=demonstrations, **overrides)


def knowing(right: Iterable[int]) -> FakeLM:
    return FakeLM(answers(right, MANY))


GOOD = [n for n in MANY if n % 20]


def ids(folder: Path) -> list[str]:
    return sorted({each["id"] for each in examples(folder)})


def in_order(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: hashlib.blake2b(f"limit\x1fnumbers\x1f{name}".encode()).digest())


def test_a_run_stops_when_its_score_is_known_and_says_so(tmp_path: Path) -> None:
    result = evaluate(knowing(GOOD), numbers(), shots=0, until=0.1, out=tmp_path / "run")
    (score,) = result
    n = score.examples
    (record,) = manifest(tmp_path / "run")["tasks"]
    known = record["stopped"]

    assert 10 <= n < 120
    assert (record["examples"], known["planned"], score.total_examples) == (n, 120, 120)
    assert f"|sample{n}of120|until0.1|" in score.signature
    assert known["scores"][0]["low"] <= len(GOOD) / 120 <= known["scores"][0]["high"]
    half = (known["scores"][0]["high"] - known["scores"][0]["low"]) / 2
    assert half <= 0.1
    assert (
        f"numbers: stopped after {n} examples, because its accuracy on all 120 is known to ±{half:.3f} "
        "(95 %, at any stopping time)"
    ) in result.table()


def test_it_stops_at_the_first_block_after_which_the_interval_is_small(tmp_path: Path) -> None:
    evaluate(knowing(GOOD), numbers(), shots=0, until=0.1, out=tmp_path)
    order, sequence, blocks = in_order(map(str, MANY)), MeanSequence(120, 0.1), 0
    while sequence.half_width > 0.1:
        block = order[10 * blocks : 10 * blocks + 10]
        sequence.add(np.array([float(int(name) in GOOD) for name in block]))
        blocks += 1

    assert ids(tmp_path) == sorted(order[: 10 * blocks])
    (known,) = manifest(tmp_path)["tasks"][0]["stopped"]["scores"]
    assert (known["low"], known["high"]) == (sequence.low, sequence.high)


def test_the_examples_are_those_of_a_limit_whatever_their_order(tmp_path: Path) -> None:
    first = evaluate(knowing(GOOD), numbers(), shots=0, until=0.1, out=tmp_path / "one")
    evaluate(knowing(GOOD), numbers(reversed(MANY)), shots=0, until=0.1, out=tmp_path / "other")
    n = first.scores[0].examples
    evaluate(knowing(GOOD), numbers(), shots=0, limit=n, out=tmp_path / "limit")

    assert ids(tmp_path / "one") == ids(tmp_path / "other") == ids(tmp_path / "limit")
    assert [pair.value for pair in compare(tmp_path / "one", tmp_path / "limit")] == [0]


def test_all_cells_of_a_task_stop_together(tmp_path: Path) -> None:
    """Without demonstrations the model knows little, and with one it knows much."""
    first = answers(MANY[::2], MANY) | {f"Q: {n}\nA: {NAMES[n % 2]}\n\nQ: {m}\nA:": f" {NAMES[m % 2]}"
                                        for n in range(200, 212) for m in MANY}  # fmt: skip
    task = numbers(prompt={"plain": PROMPT, "other": f"Hm.\n{PROMPT}"})
    evaluate(FakeLM(first), task, shots=[0, 1], seeds=2, prompts=["plain", "other"], until=0.15, out=tmp_path)
    cells: dict[tuple[Any, ...], set[str]] = {}
    for each in examples(tmp_path):
        cells.setdefault(tuple(each["cell"].values()), set()).add(each["id"])

    assert len(cells) == 6
    assert len({frozenset(names) for names in cells.values()}) == 1
    records = manifest(tmp_path)["tasks"]
    assert len({record["examples"] for record in records}) == 1
    widths = [score["high"] - score["low"] for record in records for score in record["stopped"]["scores"]]
    assert len(widths) == 4
    assert max(widths) <= 0.3
    assert min(widths) < max(widths)


def test_an_interrupted_run_stops_where_it_would_have(tmp_path: Path) -> None:
    whole = evaluate(knowing(GOOD), numbers(), shots=0, until=0.1, out=tmp_path / "whole")
    broken = Stopping(answers(GOOD, MANY), RuntimeError("no power"), after=30)
    with pytest.raises(RuntimeError, match="no power"):
        evaluate(broken, numbers(), shots=0, until=0.1, out=tmp_path / "run")
    model = knowing(GOOD)
    evaluate(model, numbers(), shots=0, until=0.1, out=tmp_path / "run")

    assert (tmp_path / "run/examples.jsonl").read_bytes() == (tmp_path / "whole/examples.jsonl").read_bytes()
    assert model.answered < len(journal(tmp_path / "run"))
    assert whole.manifest.tasks[0].model_dump()["stopped"] == manifest(tmp_path / "run")["tasks"][0]["stopped"] | {
        "scores": tuple(manifest(tmp_path / "run")["tasks"][0]["stopped"]["scores"])
    }


def test_several_processes_stop_where_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(knowing(GOOD), numbers(), shots=[0, 1], until=0.1, out=tmp_path / "alone")
    thread = threading.local()
    monkeypatch.setattr("icl_eval.runs.evaluate.launched", lambda **_: getattr(thread, "ranks", SINGLE_PROCESS))

    def work(ranks: Any) -> Result:
        thread.ranks = ranks
        return evaluate(knowing(GOOD), numbers(), shots=[0, 1], until=0.1, out=tmp_path / "together")

    together(2, work)
    for name in ("examples.jsonl", "scores.json"):
        assert (tmp_path / "together" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_a_stopped_run_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icl_eval.runs.run.is_current", lambda *_: True)
    options: dict[str, Any] = {"shots": 0, "until": 0.1, "out": tmp_path}
    result = evaluate(knowing(GOOD), numbers(), **options)

    assert result.scores[0].examples < 120
    assert planned(knowing(GOOD), numbers(), None, **options)._is_current(result.manifest, "fake")
    other = planned(knowing(GOOD), numbers(), None, **options | {"until": 0.2})
    assert not other._is_current(result.manifest, "fake")


def test_a_limit_is_a_cap(tmp_path: Path) -> None:
    result = evaluate(knowing(MANY[::2]), numbers(), shots=0, until=0.02, limit=25, out=tmp_path)

    assert result.scores[0].examples == 25
    assert "numbers: all 25 examples of --limit were evaluated; its accuracy on all 120 is known to ±" in result.table()
    assert ", not yet to ±0.02" in result.table()


def test_a_task_is_known_as_well_as_its_least_known_score() -> None:
    manifest = evaluate(knowing(MANY), numbers(), shots=0, until=0.2, limit=25).manifest
    (record,) = manifest.tasks

    def note(until: float) -> str:
        scores = (KnownScore(shots=0, low=0.25, high=0.75), KnownScore(shots=1, low=0.5, high=0.75))
        stopped = Stopped(until=until, metric="accuracy", planned=120, scores=scores)
        tasks = (record.model_copy(update={"stopped": stopped, "examples": 25}),)
        return manifest.model_copy(update={"tasks": tasks}).stopping_notes[0]

    assert note(0.25).startswith(
        "numbers: stopped after 25 examples, because its accuracy on all 120 is known to ±0.250"
    )
    assert note(0.24).endswith("not yet to ±0.24")


def test_a_small_half_width_takes_all_examples() -> None:
    result = evaluate(knowing(MANY[::2]), numbers(), shots=0, until=0.02)

    assert "numbers: all 120 examples were evaluated before its accuracy was known to ±0.02 (--until)" in result.table()
    assert "until" not in result.scores[0].signature


def test_groups_are_taken_whole_and_their_metric_is_bounded(tmp_path: Path) -> None:
    task = numbers(group="pair", cluster="pair", metrics=["group_exact_match", "macro_f1"])
    result = evaluate(knowing(GOOD), task, shots=0, until=0.15, out=tmp_path)
    right = np.mean([{2 * pair, 2 * pair + 1} <= set(GOOD) for pair in range(60)])
    stopped = result.manifest.tasks[0].stopped
    assert stopped is not None

    assert stopped.metric == "group_exact_match"
    assert result.scores[0].examples % 20 == 0
    assert result.scores[0].examples < 120
    assert stopped.scores[0].low <= right <= stopped.scores[0].high
    assert len({int(name) // 2 for name in ids(tmp_path)}) == result.scores[0].examples / 2


def test_groups_of_unequal_size_bound_the_mean_over_examples() -> None:
    """Multiples of 3 are in groups of two, the others alone."""
    rows = [{**row, "pair": row["n"] // 6 if row["n"] % 3 == 0 else 1000 + row["n"]} for row in records(MANY)]
    task = Task.from_records("numbers", evaluation=rows, prompt=PROMPT, options=NAMES, id="id", group="pair")
    wrong = {n for n in MANY if n % 3 == 0 and n % 2}
    result = evaluate(knowing(set(MANY) - wrong), task, shots=0, until=0.15)
    stopped = result.manifest.tasks[0].stopped
    assert stopped is not None

    assert result.scores[0].examples < 120
    assert stopped.half_width <= 0.15
    assert stopped.scores[0].low <= 1 - len(wrong) / 120 <= stopped.scores[0].high


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"until": 0.1, "limit": "first:3"},
            "`until` takes examples in pseudo-random order, so `limit` cannot be first:3",
        ),
        ({"until": 0.0}, "`until`: Input should be greater than 0"),
        (
            {"until": 0.1, "metrics": "macro_f1"},
            "`until` needs a metric that is a mean of scores between 0 and 1, and numbers has only macro_f1; "
            "choose one with `metrics`",
        ),
    ],
)
def test_what_cannot_be_stopped_is_refused(options: dict[str, Any], message: str) -> None:
    model = knowing([])
    with pytest.raises(RunError) as error:
        evaluate(model, numbers(), shots=0, **options)

    assert message in str(error.value)
    assert model.answered == 0
