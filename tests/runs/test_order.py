from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from icl_eval import Task, evaluate
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


def shown(folder: Path, lm: FakeLM, shots: int, **protocol: Any) -> list[str]:
    """The ids of the demonstrations of the only example."""
    evaluate(lm, task(**protocol), shots=shots, out=folder)
    (line,) = (folder / "examples.jsonl").read_text().splitlines()
    return list(json.loads(line)["demonstrations"])


def test_reversed_shows_the_first_one_drawn_beside_the_query(tmp_path: Path) -> None:
    drawn = shown(tmp_path / "drawn", FakeLM(), 4)

    assert shown(tmp_path / "reversed", FakeLM(), 4, order="reversed") == drawn[::-1]


def test_reversed_drops_the_last_ones_drawn_where_not_all_fit(tmp_path: Path) -> None:
    lm = FakeLM(window=32)  # bytes
    first = shown(tmp_path / "first", lm, 5, draw="first")

    assert 0 < len(first) < 5
    assert first == [each["n"] for each in TRAIN[: len(first)]]
    assert shown(tmp_path / "reversed", lm, 5, draw="first", order="reversed") == first[::-1]


def test_the_signature_says_how_demonstrations_were_drawn() -> None:
    (line,) = evaluate(FakeLM(), task(ids=["t3", "t1"], order="reversed"), shots=2).scores

    assert "|k2|first-reversed|" in line.signature
