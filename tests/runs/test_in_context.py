"""Tasks and scores of in-context learning itself, of models that copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from icl_eval import Library, Task, evaluate
from icl_eval.results.examples import LikelihoodResult, read_examples
from icl_eval.tasks import HubSource
from icl_eval.testing import FakeLM


def test_a_model_that_copies_expects_the_second_half_only() -> None:
    task = Library().task("in-context/repeated-words")
    copies = {each.fields["before"]: each.options[0] for each in task.evaluation(HubSource()) if each.fields["before"]}
    found = evaluate(FakeLM(copies), task, limit=10)
    first, second = (found.score(task.name, metric="token_loss", category=half) for half in ("first", "second"))

    assert first.value > 4  # nats a byte, of a model that knows nothing
    assert second.value < 0.011  # it gives each byte 0.99
    assert found.score(task.name, metric="greedy_accuracy", category="second").value == 1
    assert (first.examples, second.examples) == (10, 10)  # a sequence is sampled whole


def test_a_model_that_copies_writes_every_list_again() -> None:
    task = Library().task("in-context/copied-words")
    lists = [each.options[0] for each in task.evaluation(HubSource())]
    some = {f"Words: {each}\nCopy:": f" {each}\n" for each in lists if len(each.split()) < 20}
    found = evaluate(FakeLM(some), task, limit=9, shots=1, decode={"max_tokens": 100})
    lengths = {score.category: score.value for score in found if score.category}

    assert lengths == {"5 words": 1, "10 words": 1, "20 words": 0}


def test_the_in_context_score_is_taken_from_the_stored_tokens_of_one_pass(tmp_path: Path) -> None:
    texts = [{"text": "abcdefgh" * n} for n in (2, 3, 4)]
    task = Task.from_records(
        "texts",
        evaluation=texts,
        prompt="{% block query %}{% endblock %}{% block answer %}{{ option }}{% endblock %}",
        answer="likelihood",
        references="text",
        metrics=["in_context_score:early=3:late=20"],
    )
    (score,) = evaluate(FakeLM(window=30), task, shots=0, out=tmp_path)
    stored = [each for each in read_examples(tmp_path / "examples.jsonl") if isinstance(each, LikelihoodResult)]
    long = [each.parts[0] for each in stored if len(each.parts[0]) >= 20]

    assert len(long) == 2
    assert score.value == pytest.approx(np.mean([each[2] - each[19] for each in long]))
