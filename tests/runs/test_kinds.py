"""Tasks whose answers are written, or whose likelihood is taken, from the records to the scores."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_eval import Task, evaluate, explain, rescore
from icl_eval.errors import DataError, MetricError, TaskError, WindowError
from icl_eval.metrics import TextPrediction
from icl_eval.models import ScoreRequest, Sink
from icl_eval.prompts import Scored
from icl_eval.results.examples import SINGLE_ANSWER, parse_example
from icl_eval.runs.regress import make_baseline, regress
from icl_eval.runs.requests import strides
from icl_eval.tasks.definition import Score
from icl_eval.testing import FakeLM

from .folders import examples, journal, manifest

SUMS: list[dict[str, Any]] = [{"id": n, "sum": f"{n}+{n}", "answer": [str(2 * n), f"about {2 * n}"]} for n in range(6)]
PROMPT = "{% block query %}Q: {{ sum }}\nA:{% endblock %}{% block answer %} {{ option }}{% endblock %}"
KNOWN = {f"Q: {each['sum']}\nA:": f" {each['answer'][0]}\n" for each in SUMS[:4]}


def sums(**changes: Any) -> Task:
    given = {"evaluation": SUMS, "prompt": PROMPT, "answer": "text", "references": "answer", "id": "id"}
    return Task.from_records("sums", **{**given, "decode": {"max_tokens": 12}, **changes})


def words(**changes: Any) -> Task:
    records = [{"text": f"one two {word}", "before": "one two", "word": word} for word in ("three", "four", "five")]
    prompt = "{% block query %}{{ before }}{% endblock %}{% block answer %} {{ option }}{% endblock %}"
    given = {"evaluation": records, "prompt": prompt, "answer": "likelihood", "references": "word"}
    return Task.from_records("words", **{**given, "metrics": ["greedy_accuracy", "perplexity"], **changes})


def test_generated_texts_are_compared_with_the_references(tmp_path: Path) -> None:
    (score,) = evaluate(FakeLM(KNOWN), sums(), shots=0, out=tmp_path).scores

    assert score.metric == "squad_em"
    assert score.value == pytest.approx(4 / 6)
    assert score.normalization == "greedy"
    assert "|greedy-max12-stop(\\n)|" in score.signature
    first = examples(tmp_path)[1]
    assert (first["kind"], first["generated"], first["finished"]) == ("text", [" 2"], ["stop"])
    assert first["references"] == ["2", "about 2"]
    unknown = examples(tmp_path)[5]
    assert unknown["finished"] == ["length"]


def test_demonstrations_show_the_first_reference(tmp_path: Path) -> None:
    model = FakeLM({"A: 0\n\nQ: 1+1\nA:": " 2\n"})
    task = sums(evaluation=SUMS[1:2], demonstrations=SUMS[:1])

    (score,) = evaluate(model, task, shots=1).scores

    assert score.value == 1


def test_a_generated_answer_is_computed_once_and_rescored_without_a_model(tmp_path: Path) -> None:
    model = FakeLM(KNOWN)
    first = evaluate(model, sums(), shots=0, out=tmp_path)
    answered = model.answered

    again = evaluate(model, sums(), shots=0, out=tmp_path)

    assert model.answered == answered == len(journal(tmp_path)) == len(SUMS)
    assert manifest(tmp_path)["reused"] == len(SUMS)
    assert again.scores == first.scores == rescore(tmp_path).scores


def test_a_changed_reference_changes_the_signature_and_no_answer(tmp_path: Path) -> None:
    model = FakeLM(KNOWN)
    (before,) = evaluate(model, sums(), shots=0, out=tmp_path).scores
    answered = model.answered
    changed = [{**SUMS[0], "answer": ["nothing", "none"]}, *SUMS[1:]]

    (after,) = evaluate(model, sums(evaluation=changed), shots=0, out=tmp_path).scores

    assert model.answered == answered
    assert after.value == pytest.approx(3 / 6)
    assert after.signature != before.signature


def test_samples_are_draws_whose_spread_is_reported() -> None:
    decode = {"max_tokens": 2, "samples": 4, "temperature": 1.0}
    task = sums(decode=decode, metrics=["contains_match"])

    (score,) = evaluate(FakeLM({"A:": " 2\n"}), task, shots=0).scores
    (again,) = evaluate(FakeLM({"A:": " 2\n"}), task, shots=0).scores

    assert len(score.seed_values) == 4
    assert score.seed_sd is not None
    assert score == again
    assert "sample4-t1-p1-max2" in score.signature


def test_room_to_write_is_kept_free() -> None:
    task = sums(demonstrations=SUMS, evaluation=SUMS)
    model = FakeLM(KNOWN, window=len("Q: 5+5\nA: 10\n\nQ: 1+1\nA:") + 12)

    (score,) = evaluate(model, task, shots=3).scores

    assert score.effective_shots == 1
    with pytest.raises(WindowError, match="sums, example '0'"):
        evaluate(FakeLM(KNOWN, window=20), task, shots=0)


def test_the_likelihood_of_a_last_word(tmp_path: Path) -> None:
    model = FakeLM({"one two": " four"})

    greedy, perplexity = evaluate(model, words(), shots=0, out=tmp_path).scores

    assert greedy.metric == "greedy_accuracy"
    assert greedy.value == pytest.approx(1 / 3)
    assert greedy.normalization == "sum"
    requests = [ScoreRequest.of(list(b"one two"), list(f" {word}".encode())) for word in ("three", "four", "five")]
    sums_: list[float] = []
    FakeLM({"one two": " four"}).score(requests, lambda _, answer: sums_.append(sum(answer.logprobs)))
    assert perplexity.value == pytest.approx(math.exp(-sum(sums_) / 3), rel=1e-5)
    assert [each["words"] for each in examples(tmp_path)] == [1, 1, 1]
    assert [each["bytes"] for each in examples(tmp_path)] == [5, 4, 4]


def test_a_text_longer_than_the_window_is_read_in_several(tmp_path: Path) -> None:
    text = "abcdefghij" * 7
    prompt = "{% block query %}{% endblock %}{% block answer %}{{ option }}{% endblock %}"
    task = words(evaluation=[{"text": text}], prompt=prompt, references="text", metrics=["token_perplexity"])

    (whole,) = evaluate(FakeLM(), task, shots=0).scores
    (parts,) = evaluate(FakeLM(window=16), task, shots=0, out=tmp_path).scores

    (found,) = examples(tmp_path)
    assert [len(part) for part in found["parts"]] == [16, 16, 16, 16, 6]
    assert parts.value == pytest.approx(whole.value)  # a byte depends on the one before it alone
    assert (parts.truncated, parts.effective_shots) == (0, 0)


def test_a_text_that_is_read_in_several_is_greedy_if_all_of_it_is(tmp_path: Path) -> None:
    known, prompt = "0123456789abcdef", "{% block query %}{% endblock %}{% block answer %}{{ option }}{% endblock %}"
    task = words(
        evaluation=[{"text": known + known}, {"text": known + known.upper()}], prompt=prompt, references="text"
    )

    evaluate(FakeLM({"": known}, window=len(known)), task, shots=0, out=tmp_path)

    assert [each["greedy"] for each in examples(tmp_path)] == [True, False]


def test_a_task_says_how_many_tokens_a_further_window_scores(tmp_path: Path) -> None:
    prompt = "{% block query %}{% endblock %}{% block answer %}{{ option }}{% endblock %}"
    task = words(evaluation=[{"text": "abcdefghij" * 3}], prompt=prompt, references="text")
    definition = task.definition.model_copy(update={"score": Score(stride=6)})

    evaluate(FakeLM(window=16), replace(task, definition=definition), shots=0, out=tmp_path)

    assert [len(part) for part in examples(tmp_path)[0]["parts"]] == [16, 6, 6, 2]


def test_a_text_counts_its_words_and_bytes(tmp_path: Path) -> None:
    evaluate(FakeLM(), words(evaluation=[{"before": "one two", "word": "f\u00fcnf \u00e9"}]), shots=0, out=tmp_path)

    assert [(each["words"], each["bytes"]) for each in examples(tmp_path)] == [(2, 8)]


def test_a_text_that_does_not_fit_with_its_demonstrations_is_an_error_if_that_was_requested() -> None:
    task = words(evaluation=[{"before": f"one {n}", "word": "x"} for n in range(3)])

    with pytest.raises(WindowError, match="1 demonstration takes"):
        evaluate(FakeLM(window=10), task, shots=1, overflow="error")
    assert evaluate(FakeLM(window=10), task, shots=1).scores[0].effective_shots == 0


class FirstTokens(FakeLM):
    """A model with a BOS token that records the first tokens of its requests."""

    def __init__(self, window: int) -> None:
        super().__init__(window=window, bos=True)
        self.first: set[int] = set()

    def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
        self.first |= {request.tokens[0] for request in requests}
        super().score(requests, sink)


def test_special_tokens_stay_where_a_query_is_cut() -> None:
    model = FirstTokens(window=20)
    task = Task.from_records("long", evaluation=[{"q": "x" * 50, "label": 0}], prompt="{{ q }}:", options=["a", "b"])

    assert evaluate(model, task, shots=0, overflow="truncate").scores[0].truncated == 1
    assert model.first == set(model.start)


@given(st.integers(1, 40), st.integers(0, 12), st.integers(2, 16), st.data())
def test_strides_score_every_token_once_after_as_many_as_fit(
    size: int, context: int, window: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, window))
    tokens = list(range(1 + context + size))

    requests = list(strides(Scored(tokens[: 1 + context], tokens[1 + context :]), window, stride))

    assert [token for each in requests for token in each.tokens[each.boundary :]] == tokens[1 + context :]
    for each in requests:
        assert each.input_length <= window
        assert list(each.tokens) == list(range(each.tokens[0], each.tokens[-1] + 1))
    for each in requests[1:]:
        assert len(each.tokens) - each.boundary <= stride
        assert each.input_length == min(window, each.tokens[-1])


@given(st.integers(1, 40), st.integers(0, 12), st.integers(2, 16), st.data())
def test_strides_of_an_encoder_decoder_fill_both_windows(
    size: int, context: int, window: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, window))
    tokens = list(range(1 + context + size))

    requests = list(strides(Scored(tokens[: 1 + context], tokens[1 + context :], apart=True), window, stride))

    assert [token for each in requests for token in each.tokens[each.boundary :]] == tokens[1 + context :]
    first, *others = [len(each.tokens) - each.boundary for each in requests]
    assert first == min(size, window)
    assert others[:-1] == [stride] * len(others[:-1])
    for each in requests:
        assert each.boundary == min(window, each.tokens[each.boundary])


def test_a_metric_of_another_kind_is_refused_before_the_model_runs() -> None:
    model = FakeLM()

    with pytest.raises(MetricError, match="accuracy"):
        evaluate(model, sums(metrics=["accuracy"]), shots=0)
    assert model.answered == 0


def test_normalisations_are_of_options_alone() -> None:
    scores = evaluate(FakeLM(KNOWN), sums(), shots=0, normalizations=["sum", "token"]).scores

    assert len(scores) == 1


def test_a_task_without_references_is_an_error() -> None:
    with pytest.raises(TaskError, match="references"):
        sums(references=None)


def test_a_baseline_holds_what_was_generated(tmp_path: Path) -> None:
    evaluate(FakeLM(KNOWN), sums(), shots=0, out=tmp_path)
    baseline = make_baseline(tmp_path)

    assert not regress(baseline, FakeLM(KNOWN), tasks=sums())
    changes = regress(baseline, FakeLM({**KNOWN, "Q: 1+1\nA:": " 3\n"}), tasks=sums()).changes
    assert changes[0] == "sums (inline, 0 shots, seed 0) example 1: the text was (' 2',) and is now (' 3',)"


def test_explain_counts_prompts_and_what_may_be_generated() -> None:
    work = explain(FakeLM(), sums(), shots=0).workload

    assert (work.requests, work.generated) == (6, 6 * 12)
    assert work.one_by_one == 6 * len("Q: 1+1\nA:")
    assert work.computed < work.one_by_one


NOUNS: list[dict[str, Any]] = [
    {"id": 0, "text": "a", "noun": "the fuzzy bunny", "label": 1},  # named in part: right
    {"id": 1, "text": "b", "noun": "cat", "label": 0},  # another is named: right
    {"id": 2, "text": "c", "noun": "dog", "label": 0},  # named: wrong
    {"id": 3, "text": "d", "noun": "hen", "label": 1},  # another is named: wrong
    {"id": 4, "text": "e", "noun": "owl", "label": 0},  # nothing is written: wrong
]
NAMED = {"a:": " bunny\n", "b:": " hen\n", "c:": " a dog\n", "d:": " cat\n", "e:": "\n"}


def nouns(**changes: Any) -> Task:
    prompt = "{% block query %}{{ text }}:{% endblock %}"
    given = {"evaluation": NOUNS, "prompt": prompt, "answer": "text", "references": "noun", "gold": "label", "id": "id"}
    return Task.from_records(
        "nouns", **{**given, "metrics": ["referent_match"], "decode": {"max_tokens": 20}, **changes}
    )


def test_wrong_references_are_to_be_avoided_and_never_demonstrated(tmp_path: Path) -> None:
    task = nouns()
    result = evaluate(FakeLM(NAMED), task, shots=(0, 1), out=tmp_path)
    zero, one = result.scores

    assert zero.value == 2 / 5
    assert "|referent:T5-wsc_simple|" in zero.signature
    lines = examples(tmp_path)
    assert [each["right"] for each in lines if each["cell"]["shots"] == 0] == [True, False, False, True, False]
    assert {name for each in lines for name in each["demonstrations"]} == {"0", "3"}
    assert one.effective_shots == 1
    assert rescore(tmp_path).scores == result.scores


def test_pool_without_a_right_answer_is_refused() -> None:
    task = nouns(demonstrations=[NOUNS[1], NOUNS[2]])

    with pytest.raises(DataError, match="nouns: none of the candidate demonstrations has a right answer"):
        evaluate(FakeLM(NAMED), task, shots=1)
    assert evaluate(FakeLM(NAMED), task, shots=0).scores[0].value == 2 / 5


def test_results_of_earlier_runs_have_right_references() -> None:
    cell = {"task": "t", "prompt": "p", "shots": 0, "seed": 0}
    line = {"kind": "text", "cell": cell, "id": "0", "cluster": "0", "group": "0", "shots": 0, "truncated": 0}
    line |= {"demonstrations": [], "references": ["x"], "generated": ["x"], "finished": ["stop"], "scores": [-1.0]}
    (prediction,) = parse_example(json.dumps(line)).predictions(SINGLE_ANSWER)

    assert prediction == TextPrediction("0", "x", ("x",), "0", "0", right=True)


def test_metric_that_knows_no_wrong_references_is_refused_for_them() -> None:
    with pytest.raises(MetricError, match="squad_em treats every reference as right, but `gold` says which are"):
        evaluate(FakeLM(NAMED), nouns(metrics=["squad_em"]), shots=0)
