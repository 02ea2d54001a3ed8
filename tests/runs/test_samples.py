"""Majority vote and pass@k over several samples of a prompt."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icl_eval import Library, Task, evaluate, rescore
from icl_eval.errors import MetricError, UnknownName
from icl_eval.metrics import estimate, metric
from icl_eval.metrics.derived import Extracted
from icl_eval.metrics.prediction import TextPrediction
from icl_eval.results.examples import TextResult, read_examples
from icl_eval.testing import FakeLM

SAMPLED = {"samples": 6, "temperature": 1.0, "max_tokens": 3}
VOTE, TWO = "number_match:vote=majority", "number_match:pass_at=2"


def sums(**keys: Any) -> Task:
    records = [{"n": str(n), "q": f"{n} + {n}?", "answer": str(2 * n)} for n in range(4)]
    keys = {"decode": SAMPLED, "metrics": ["number_match", VOTE, TWO], **keys}
    return Task.from_records(
        "sums", evaluation=records, prompt="{{ q }}", answer="text", references="answer", id="n", **keys
    )


MODEL = FakeLM({f"{n} + {n}?": f" {2 * n}\n" for n in range(4)})


def stored(folder: Path) -> list[TextResult]:
    return [each for each in read_examples(folder / "examples.jsonl") if isinstance(each, TextResult)]


def prediction(*samples: str, id: str = "0") -> TextPrediction:
    return TextPrediction(id, samples[0], ("4",), id, id, True, samples)


def value(name: str, *samples: str) -> float:
    return estimate(metric(name), [[prediction(*samples)]]).value


def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(tmp_path: Path) -> None:
    result = evaluate(MODEL, sums(), shots=0, out=tmp_path)
    right = [[float(text.strip() == each.references[0]) for text in each.generated] for each in stored(tmp_path)]
    expected = [np.mean([max(subset) for subset in combinations(each, 2)]) for each in right]
    (line,) = [score for score in result.scores if score.metric == TWO]

    assert 0 < line.value < 1
    assert line.value == pytest.approx(np.mean(expected))
    assert line.standard_error == pytest.approx(np.std(expected, ddof=1) / np.sqrt(4))
    assert line.seed_values == (line.value,)
    assert "|pass_at=2|" in line.signature


def test_pass_at_1_is_the_mean_over_samples() -> None:
    result = evaluate(MODEL, sums(metrics=["number_match", "number_match:pass_at=1"]), shots=0)

    assert result.scores[0].value == pytest.approx(result.scores[1].value)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (("4", "5", "4.0", "5", " 4"), 1.0),  # equal numbers are one answer
        (("5", "4"), 0.0),  # of equally frequent answers the first is taken
        (("4", "5"), 1.0),
        (("", "", "4"), 1.0),  # an empty text has no vote
        (("", " "), 0.0),
    ],
)
def test_the_majority_answer_is_scored(samples: tuple[str, ...], expected: float) -> None:
    assert value(VOTE, *samples) == expected


def test_answers_that_squad_takes_for_equal_vote_together() -> None:
    texts = ("5", "The cat", "a CAT.", "5 ")

    assert (
        estimate(
            metric("squad_em:vote=majority"), [[TextPrediction("0", "5", ("cat",), "0", "0", True, (*texts, "cat"))]]
        ).value
        == 1
    )


def test_votes_are_counted_after_extraction() -> None:
    samples = ("so #### 4", "7", "thus #### 5", "hence #### 4", "7")
    rules = {"final": [{"pattern": "#### (.*)"}]}
    task = sums(extract=rules, metrics=[VOTE])
    measure = metric(task.definition.metric_names[0], task.definition.extract)

    assert estimate(measure, [[prediction(*samples)]]).value == 1
    passed = metric("number_match:pass_at=3@final", task.definition.extract)
    assert estimate(passed, [[prediction(*samples)]]).value == pytest.approx(9 / 10)  # of the 10 subsets of 3


def test_votes_without_a_single_winner_are_counted(tmp_path: Path) -> None:
    rules = {"final": [{"pattern": "#### (.*)"}]}
    tied, won = ("#### 4", "#### 5", "5"), ("#### 4", "#### 5", "#### 4 ")
    measure = metric(f"{VOTE}@final", sums(extract=rules).definition.extract)
    assert isinstance(measure, Extracted)
    assert measure.ties([prediction(*tied), prediction(*won), prediction("", "")]) == 1

    result = evaluate(MODEL, sums(), shots=0, out=tmp_path)
    answers = [sorted(Counter(filter(None, map(str.strip, each.texts))).values()) for each in stored(tmp_path)]
    expected = sum(len(votes) > 1 and votes[-1] == votes[-2] for votes in answers)
    assert [result.score("sums", metric=name).ties for name in ("number_match", VOTE)] == [0, expected]
    assert result.score("sums", metric=TWO).ties == 0


def test_stored_samples_are_scored_without_a_model(tmp_path: Path) -> None:
    full = evaluate(MODEL, sums(), shots=0, out=tmp_path / "full")
    evaluate(MODEL, sums(metrics=["number_match"]), shots=0, out=tmp_path / "plain")
    again = rescore(tmp_path / "plain", metrics=["number_match", VOTE, TWO])

    assert [(s.metric, s.value, s.standard_error) for s in again.scores] == [
        (s.metric, s.value, s.standard_error) for s in full.scores
    ]
    with pytest.raises(MetricError, match=r"pass@7 needs at least 7 samples of each example; `decode.samples` is 6"):
        rescore(tmp_path / "plain", metrics="number_match:pass_at=7")


def test_pass_at_k_needs_right_and_wrong_answers() -> None:
    with pytest.raises(
        MetricError, match=r"pass@1 counts right samples, but squad_f1 scores one of example '0' 0\.666"
    ):
        value("squad_f1:pass_at=1", "4 b")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("number_match:pass_at=0", "`pass_at` must be a number of samples of at least 1, not '0'"),
        ("number_match:pass_at=x", "`pass_at` must be a number of samples of at least 1, not 'x'"),
        ("number_match:vote=mean", "no value of `vote` is named 'mean'"),
        ("number_match:pass_at=2:vote=majority", "give either `vote` or `pass_at`"),
        ("bleu:vote=majority", "need a metric that scores each text, which bleu:vote=majority does not"),
        ("accuracy:pass_at=2", "need a metric that scores each text"),
        ("number_match:pass@2", "no extraction is named '2'"),
        ("number_match:vot=majority", "no setting of number_match is named 'vot'; did you mean vote"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises((MetricError, UnknownName), match=sentence):
        metric(name)


def test_too_few_samples_are_named_with_file_and_line_before_a_model_answers(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "prompts/few").mkdir(parents=True)
    (tmp_path / "few.jsonl").write_text('{"q": "1 + 1?", "a": "2"}\n')
    (tmp_path / "prompts/few/plain.jinja").write_text("{% block query %}{{ q }}{% endblock %}")
    (tmp_path / "tasks/few.yaml").write_text(
        "task: few\nanswer: text\ndata: {local: {test: few.jsonl}}\nsplits: {evaluation: test}\nreferences: a\n"
        "decode: {samples: 3, temperature: 0.7}\nprompts: [plain]\n"
        "metrics:\n- exact_match\n- exact_match: {pass_at: 5}\n"
    )
    model = FakeLM()

    with pytest.raises(
        MetricError, match=r"few\.yaml:10: few cannot be scored with exact_match:pass_at=5: pass@5 needs"
    ):
        evaluate(model, "few", data=tmp_path, library=Library([tmp_path]))
    assert model.answered == 0
