"""Tasks and scores of in-context learning itself, of models that copy."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundled_tasks import bundled_task
from toy_tasks import ASKED, parity

from icl_eval import Result, Task, evaluate, rescore
from icl_eval.errors import MetricError, ModelError, PromptError, RunError
from icl_eval.results.examples import LikelihoodResult, read_examples
from icl_eval.tasks import HubSource
from icl_eval.testing import FakeLM


def test_a_model_that_copies_expects_the_second_half_only() -> None:
    task = bundled_task("in-context/repeated-words")
    copies = {each.fields["before"]: each.options[0] for each in task.evaluation(HubSource()) if each.fields["before"]}
    found = evaluate(FakeLM(copies), task, limit=10)
    first, second = (found.score(task.name, metric="token_loss", category=half) for half in ("first", "second"))

    assert first.value > 4  # nats a byte, of a model that knows nothing
    assert second.value < 0.011  # it gives each byte 0.99
    assert found.score(task.name, metric="greedy_accuracy", category="second").value == 1
    assert (first.examples, second.examples) == (10, 10)  # a sequence is sampled whole


def test_a_model_that_copies_writes_every_list_again() -> None:
    task = bundled_task("in-context/copied-words")
    lists = [each.options[0] for each in task.evaluation(HubSource())]
    some = {f"Words: {each}\nCopy:": f" {each}\n" for each in lists if len(each.split()) < 20}
    found = evaluate(FakeLM(some), task, limit=9, shots=1, decode={"max_tokens": 100})
    lengths = {score.category: score.value for score in found if score.category}

    assert lengths == {"5 words": 1, "10 words": 1, "20 words": 0}


def repeated(metrics: list[str]) -> Task:
    return Task.from_records(
        "texts",
        evaluation=[{"text": "abcdefgh" * n} for n in (2, 3, 4)],
        prompt="{% block query %}{% endblock %}{% block answer %}{{ option }}{% endblock %}",
        answer="likelihood",
        references="text",
        metrics=metrics,
    )


def likelihoods(folder: Path) -> list[LikelihoodResult]:
    return [each for each in read_examples(folder / "examples.jsonl") if isinstance(each, LikelihoodResult)]


def test_the_in_context_score_is_taken_from_the_stored_tokens_of_one_pass(tmp_path: Path) -> None:
    task = repeated(["in_context_score:early=3:late=20"])
    (score,) = evaluate(FakeLM(window=30), task, shots=0, out=tmp_path)
    long = [each.parts[0] for each in likelihoods(tmp_path) if len(each.parts[0]) >= 20]

    assert len(long) == 2
    assert score.value == pytest.approx(np.mean([each[2] - each[19] for each in long]))


def test_min_k_is_rescored_from_the_stored_tokens_of_all_windows(tmp_path: Path) -> None:
    evaluate(FakeLM(window=30), repeated(["token_loss"]), shots=0, out=tmp_path)
    found = rescore(tmp_path, metrics=["min_k", "min_k:k=30"])
    texts = [np.sort(np.concatenate(each.parts)) for each in likelihoods(tmp_path)]

    assert [len(each.parts) for each in likelihoods(tmp_path)] == [1, 1, 2]
    for name, ratio in (("min_k", 0.2), ("min_k:k=30", 0.3)):
        expected = np.mean([np.mean(each[: int(len(each) * ratio)]) for each in texts])
        assert found.score("texts", metric=name).value == pytest.approx(expected)


def test_min_k_plus_plus_standardizes_by_the_distribution_of_every_next_token(tmp_path: Path) -> None:
    evaluate(FakeLM(window=30), repeated(["token_loss", "min_k_plus_plus:k=30"]), shots=0, out=tmp_path)
    probabilities = np.arange(1, 257) * 2 / (256 * 257)  # of the next byte, after whatever byte
    mean = np.average(np.log(probabilities), weights=probabilities)
    sd = np.sqrt(np.average((np.log(probabilities) - mean) ** 2, weights=probabilities))
    texts = [np.sort((np.concatenate(each.parts) - mean) / sd) for each in likelihoods(tmp_path)]
    expected = [np.mean(each[: int(len(each) * 0.3)]) for each in texts]

    assert rescore(tmp_path).score("texts", metric="min_k_plus_plus:k=30").value == pytest.approx(np.mean(expected))
    whole = rescore(tmp_path, metrics="min_k_plus_plus:k=100").score("texts").value
    assert whole == pytest.approx(np.mean([each.mean() for each in texts]))


def test_the_zlib_ratio_is_rescored_from_the_stored_size_of_each_text(tmp_path: Path) -> None:
    evaluate(FakeLM(window=30), repeated(["token_loss"]), shots=0, out=tmp_path)
    sizes = [len(zlib.compress(("abcdefgh" * n).encode())) for n in (2, 3, 4)]
    ratios = [np.concatenate(each.parts).sum() / size for each, size in zip(likelihoods(tmp_path), sizes, strict=True)]

    assert rescore(tmp_path, metrics="zlib_ratio").score("texts").value == pytest.approx(np.mean(ratios))


def test_moments_are_stored_only_where_a_metric_needs_them(tmp_path: Path) -> None:
    evaluate(FakeLM(), repeated(["token_loss"]), shots=0, out=tmp_path)

    assert all("means" not in each.entry() for each in likelihoods(tmp_path))
    with pytest.raises(MetricError, match="evaluate the task again with min_k_plus_plus among its metrics"):
        rescore(tmp_path, metrics="min_k_plus_plus")

    evaluate(FakeLM(), repeated(["token_loss"]), shots=0, out=tmp_path, metrics=["min_k_plus_plus"])
    assert all([*map(len, each.means)] == [*map(len, each.parts)] for each in likelihoods(tmp_path))


def test_a_model_that_knows_no_other_tokens_cannot_have_min_k_plus_plus() -> None:
    lm = FakeLM()
    lm.gives_moments = False
    with pytest.raises(
        ModelError, match="fake computes the log-probabilities of scored tokens only, and min_k_plus_plus"
    ):
        evaluate(lm, repeated(["min_k_plus_plus"]), shots=0)

    assert lm.answered == 0


def parity_losses(tmp_path: Path, **options: Any) -> Result:
    return evaluate(FakeLM(), parity(), shots=[0, 2, 4], per_shot_loss=True, out=tmp_path, **options)


def test_the_loss_of_each_demonstration_is_that_of_a_query_after_those_before_it(tmp_path: Path) -> None:
    found = parity_losses(tmp_path, draw="fixed")
    first, *_ = [each for each in read_examples(tmp_path / "examples.jsonl") if each.cell.shots == 4]
    numbers = [int(number) for number in first.demonstrations]
    curve = [line for line in found if line.metric == "per_shot_loss"]

    for before, number in enumerate(numbers):  # the demonstration as a query, after those that stand before it
        task = parity(queries=[number])
        ids = [str(each) for each in numbers[:before]]
        alone = evaluate(FakeLM(), task, shots=before, fewshot_ids=ids, metrics="answer_loss", normalizations="sum")
        assert curve[before].value == pytest.approx(alone.score("parity").value)
        assert (curve[before].shots, curve[before].normalization) == (before, "within 4 shots")


def test_one_request_a_query_reads_all_of_its_demonstrations(tmp_path: Path) -> None:
    lm = FakeLM()
    evaluate(lm, parity(), shots=[0, 2, 4], draw="per_example")
    plain, lm.answered = lm.answered, 0
    found = evaluate(lm, parity(), shots=[0, 2, 4], draw="per_example", per_shot_loss=True)

    assert lm.answered == plain + len(ASKED)
    assert [line.shots for line in found if line.metric == "per_shot_loss"] == [0, 1, 2, 3]


def test_losses_of_demonstrations_have_errors_over_queries_and_spread_over_seeds(tmp_path: Path) -> None:
    found = parity_losses(tmp_path, seeds=3)
    stored = [each for each in read_examples(tmp_path / "examples.jsonl") if each.demonstration_logprobs]
    losses = -np.array([each.demonstration_logprobs for each in stored]).reshape(3, len(ASKED), 4)
    curve = [line for line in found if line.metric == "per_shot_loss"]

    assert {each.cell.shots for each in stored} == {4}
    assert [line.value for line in curve] == pytest.approx(losses.mean(axis=(0, 1)))
    means = losses.mean(axis=0)
    assert [line.standard_error for line in curve] == pytest.approx(means.std(axis=0, ddof=1) / np.sqrt(len(ASKED)))
    assert [line.seed_sd for line in curve] == pytest.approx(losses.mean(axis=1).std(axis=0, ddof=1))
    assert [line.value for line in rescore(tmp_path) if line.metric == "per_shot_loss"] == [x.value for x in curve]


def test_the_curve_is_plotted_and_the_table_stays_short(tmp_path: Path) -> None:
    text = str(parity_losses(tmp_path))

    assert "parity per_shot_loss" in text
    assert "per_shot_loss" not in text.split("parity per_shot_loss")[0]
    assert rescore(tmp_path).table("csv").count("per_shot_loss") == 4


def test_generated_answers_have_losses_too(tmp_path: Path) -> None:
    task = bundled_task("in-context/copied-words")
    found = evaluate(FakeLM(), task, limit=3, shots=2, decode={"max_tokens": 1}, per_shot_loss=True)
    curve = [line for line in found if line.metric == "per_shot_loss"]

    assert [line.shots for line in curve] == [0, 1]


def test_answers_without_a_known_beginning_and_chats_are_refused() -> None:
    blocks = "{% block query %}{{ n }}{% endblock %}{% block demonstration %}is {{ n }}?{% endblock %}"

    with pytest.raises(PromptError, match="a demonstration does not consist of its query and an answer: 'is"):
        evaluate(FakeLM(), parity(prompt=blocks), shots=2, per_shot_loss=True)
    with pytest.raises(RunError, match="`per_shot_loss` does not support chats"):
        evaluate("tiny", parity(), shots=2, per_shot_loss=True, chat=True)


def test_the_bundled_model_learns_symbols_from_demonstrations() -> None:
    options: Any = {"limit": 8, "data": "sample", "per_shot_loss": True}
    learned = evaluate("tiny", "symbols", shots=12, **options)
    losses = [line.value for line in learned if line.metric == "per_shot_loss"]

    assert losses[0] > 3  # nothing says that the answer is a direction
    assert math.log(4) - 0.5 < losses[1] < 3  # one demonstration says that
    assert np.mean(losses[-3:]) < 0.5  # which one, the others
