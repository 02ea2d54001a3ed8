from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from icl_eval import Task, evaluate
from icl_eval.errors import IclEvalError, RunError
from icl_eval.testing import FakeLM

TRAIN = [{"n": f"t{index}", "text": f"word{index}", "label": index % 2} for index in range(6)]
QUERIES = [{"n": "q", "text": "query", "label": 0}]


def task(**protocol: Any) -> Task:
    return Task.from_records(
        "order",
        evaluation=QUERIES,
        demonstrations=TRAIN,
        prompt="{{ text }} is",
        options=["odd", "even"],
        id="n",
        **protocol,
    )


def demonstrations(folder: Path, lm: FakeLM, shots: int, **protocol: Any) -> list[str]:
    """The ids of the demonstrations of the only example."""
    evaluate(lm, task(**protocol), shots=shots, out=folder)
    (line,) = (folder / "examples.jsonl").read_text().splitlines()
    return list(json.loads(line)["demonstrations"])


@pytest.mark.parametrize(
    ("options", "words"),
    [({"draw": "first"}, "--draw first"), ({"fewshot_ids": ["t0", "t3"]}, "--fewshot-ids t0,t3")],
)
def test_several_seeds_of_the_same_demonstrations_are_an_error(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RunError, match=f"order: {words} selects the same demonstrations for every seed; give one seed"):
        evaluate(FakeLM(), task(), shots=2, seeds=3, **options)


def test_losses_of_demonstrations_need_demonstrations() -> None:
    with pytest.raises(RunError, match="`per_shot_loss` has no effect: it needs 1 or more demonstrations"):
        evaluate(FakeLM(), task(), shots=0, per_shot_loss=True)


def test_reversed_puts_the_first_demonstration_drawn_beside_the_query(tmp_path: Path) -> None:
    drawn = demonstrations(tmp_path / "drawn", FakeLM(), 4)

    assert demonstrations(tmp_path / "reversed", FakeLM(), 4, order="reversed") == drawn[::-1]


def test_reversed_drops_the_last_ones_drawn_where_not_all_fit(tmp_path: Path) -> None:
    lm = FakeLM(window=32)  # bytes
    first = demonstrations(tmp_path / "first", lm, 5, draw="first")

    assert 0 < len(first) < 5
    assert first == [each["n"] for each in TRAIN[: len(first)]]
    assert demonstrations(tmp_path / "reversed", lm, 5, draw="first", order="reversed") == first[::-1]


def test_the_signature_says_how_demonstrations_were_drawn() -> None:
    (line,) = evaluate(FakeLM(), task(ids=["t3", "t1"], order="reversed"), shots=2).scores

    assert "|k2|first-reversed|" in line.signature


@pytest.mark.parametrize(
    "changes",
    [
        {"draw": "first"},
        {"draw": "fixed", "order": "reversed"},
        {"select": "balanced"},
        {"fewshot_ids": ["t5", "t0"]},
        {"fewshot_ids": "t3"},
        {"fewshot_ids": ["t5", "t0"], "order": "reversed"},
    ],
)
def test_an_option_is_the_same_as_the_key_of_the_task(changes: dict[str, Any], tmp_path: Path) -> None:
    keys = {"ids" if name == "fewshot_ids" else name: value for name, value in changes.items()}
    keys |= {"ids": [keys["ids"]]} if isinstance(keys.get("ids"), str) else {}
    shots = 2 if len(keys.get("ids", "two")) > 1 else 1
    by_option = evaluate(FakeLM(), task(), shots=shots, out=tmp_path / "option", **changes)
    by_key = evaluate(FakeLM(), task(**keys), shots=shots, out=tmp_path / "key")

    assert drawn_in(tmp_path / "option") == drawn_in(tmp_path / "key")
    assert by_option.scores[0].draw == by_key.scores[0].draw != evaluate(FakeLM(), task(), shots=shots).scores[0].draw


def drawn_in(folder: Path) -> list[Any]:
    return [json.loads(line)["demonstrations"] for line in (folder / "examples.jsonl").read_text().splitlines()]


def test_all_demonstrations_given_by_id_are_used_unless_fewer_shots_are_requested(tmp_path: Path) -> None:
    (line,) = evaluate(FakeLM(), task(), fewshot_ids=["t5", "t0", "t2"], out=tmp_path).scores

    assert line.shots == 3
    assert drawn_in(tmp_path) == [["t5", "t0", "t2"]]


def test_an_option_replaces_what_the_task_says_of_the_draw() -> None:
    listed, balanced = task(ids=["t3", "t1"]), task(select="balanced")

    assert evaluate(FakeLM(), listed, shots=1, draw="fixed").scores[0].draw == "fixed"
    assert evaluate(FakeLM(), balanced, shots=1, draw="first").scores[0].draw == "first"
    assert evaluate(FakeLM(), listed, shots=1, fewshot_ids=["t2"]).scores[0].draw == "first"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"draw": "first", "select": "balanced"},
            "order: `select` balanced goes with `draw` per_example or per_group or fixed,",
        ),
        ({"draw": "fixed", "fewshot_ids": ["t1"]}, "order: `ids` fixes the demonstrations, but `draw` is fixed"),
        ({"fewshot_ids": ["t1", "t9"]}, "no demonstration of order is named 't9'"),
        ({"draw": "random"}, "`draw`: Input should be 'per_example', 'per_group', 'fixed' or 'first'"),
        (
            {"order": "up"},
            "`order`: 'up' is not an order; choose from drawn, reversed, balanced, similar-last, permutations:N, ",
        ),
        (
            {"select": "near"},
            "`select`: 'near' is not a selection; choose from random, balanced, bm25, .*, vote-k:MofN",
        ),
        (
            {"select": "vote-k:18of9"},
            "'vote-k:18of9': vote-k:MofN annotates M of N candidates, M from 1 to N, and N at most 10,000",
        ),
        (
            {"select": "bm25", "encoder": "tiny"},
            "order: `encoder` goes with `select` knn, dpp, mdl, vote-k, fast-vote-k, diverse, but",
        ),
        (
            {"select": "fast-vote-k", "order": "similar-last"},
            "order: `order` similar-last goes with `select` bm25, knn, ",
        ),
        ({"select": "knn", "draw": "fixed"}, "order: `select` knn goes with `draw` per_example, but `draw` is fixed"),
        (
            {"select": "knn", "seeds": 2, "shots": 1},
            "order: --select knn selects the same demonstrations for every seed; give one",
        ),
        (
            {"select": "diverse", "seeds": 2, "shots": 1},
            "order: --select diverse selects the same demonstrations for every seed",
        ),
    ],
)
def test_options_that_cannot_be_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(IclEvalError, match=message):
        evaluate(FakeLM(), task(), **options)


def test_options_of_demonstrations_need_a_task_that_has_some(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--order needs a task with demonstrations, and there is only truthfulqa/mc1"):
        evaluate(FakeLM(), "truthfulqa/mc1", order="reversed", data=tmp_path)


@pytest.mark.parametrize("name", ["shots", "seeds", "limit", "max_length", "fewshot_ids"])
def test_true_is_no_number_and_no_name(name: str) -> None:
    for value in (True, [0, False]) if name in ("shots", "seeds") else (True,):
        with pytest.raises(RunError, match=f"`{name}` is (True|False), but this option is not a switch"):
            evaluate(FakeLM(), task(), **{name: value})  # type: ignore[arg-type]
