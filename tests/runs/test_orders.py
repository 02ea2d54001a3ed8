"""Orders of demonstrations ranked by the entropies of labels that a model gives to queries it generated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from icl_eval import Task, order_entropies
from icl_eval.errors import RunError
from icl_eval.runs.orders import entropies_of
from icl_eval.testing import FakeLM

TRAIN = [{"n": f"t{index}", "text": text, "label": index} for index, text in enumerate(["un", "deux"])]
SAMPLED = "trois is low\n\nquatre is high\n\nquatre is low\n\nno answer\n\n low\n\ncinq is lo"
"""What the model makes up: two queries, one of them twice, and three texts that are none."""


def task(**changes: Any) -> Task:
    given: dict[str, Any] = {"evaluation": [{"n": "q", "text": "query", "label": 0}], "demonstrations": TRAIN}
    given |= {"prompt": "{{ text }} is", "options": ["low", "high"], "id": "n"}
    return Task.from_records("levels", **(given | changes))


def test_entropies_by_hand() -> None:
    scores = np.log([[0.2, 0.1, 0.1], [0.3, 0.6, 0.1], [0.5, 0.2, 0.3], [0.25, 0.5, 0.25]])  # a row need not sum to 1
    found = entropies_of("drawn", scores, ["a", "b", "c"])

    rows = [(0.5, 0.25, 0.25), (0.3, 0.6, 0.1), (0.5, 0.2, 0.3), (0.25, 0.5, 0.25)]
    assert found.labels == {"a": 2, "b": 2, "c": 0}
    assert found.global_entropy == pytest.approx(math.log(2))
    assert found.local_entropy == pytest.approx(-sum(p * math.log(p) for row in rows for p in row) / 4)


def test_orders_are_ranked_by_the_labels_of_generated_queries() -> None:
    """After the order that ends with `un` both probes are low, after the other one of them is."""
    first, second = "deux is high\n\nun is low\n\n", "un is low\n\ndeux is high\n\n"
    answers = {first: SAMPLED, second: SAMPLED}
    answers |= {f"{first}{query} is": " low" for query in ("trois", "quatre")}
    answers |= {f"{second}trois is": " high", f"{second}quatre is": " low"}
    found = order_entropies(FakeLM(answers), task(ids=["t0", "t1"]), draw="first", temperature=0.0, shots=2)

    assert (found.task, found.shots, found.draw) == ("levels", 2, "first")
    assert found.probes == ("trois is", "quatre is")
    assert found.discarded == 2 * 6 - 2
    assert [(each.order, dict(each.labels)) for each in found.orders] == [
        ("drawn", {"low": 1, "high": 1}),
        ("permutation:1of24", {"low": 2, "high": 0}),
    ]
    assert [each.global_entropy for each in found.orders] == [pytest.approx(math.log(2)), 0.0]
    assert found.best(1) == ("drawn",)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"shots": 1}, "needs 2 or more demonstrations"),
        ({}, {"draw": "per_example"}, "needs the same demonstrations for every query"),
        ({"within": "label"}, {}, "needs the same demonstrations for every query"),
        ({}, {}, "none of the [0-9]+ sampled examples has the form of an example of levels"),
    ],
)
def test_tasks_and_options_that_do_not_suit(changes: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        order_entropies(FakeLM(), task(**changes), **{"shots": 2, "temperature": 0.0, **options})
