from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_tasks import NAMES, PROMPT, knowing, parity, write, write_library

from icl_eval import Library, Prompt, Task, evaluate, rescore
from icl_eval.analysis.averages import suite_score
from icl_eval.analysis.score import score_examples
from icl_eval.errors import RunError
from icl_eval.metrics import Prediction, estimate
from icl_eval.metrics.means import ExampleMean, is_right
from icl_eval.metrics.registry import metric as metric_of
from icl_eval.results.examples import read_examples
from icl_eval.results.score import Score
from icl_eval.tasks import Normalization, SuiteDefinition
from icl_eval.testing import FakeLM

from .folders import examples

ALL: tuple[Normalization, ...] = ("sum", "token", "char", "byte", "unconditional")


def test_every_normalisation_agrees_with_the_stored_log_probabilities(tmp_path: Path) -> None:
    options = ["cccccccc", "bb bb", "ab", "a", "ééééé"]
    task = Task.from_records(
        "uneven",
        evaluation=[{"q": chr(97 + n) + chr(122 - n), "label": n % 5} for n in range(20)],
        prompt="{% block query %}{{ q }}{% endblock %}{% block answer_context %}?{% endblock %}",
        options=options,
    )
    lm = FakeLM({chr(97 + n) + chr(122 - n): f" {options[3 * n % 5][:3]}" for n in range(0, 20, 3)})
    result = evaluate(lm, task, shots=0, normalizations=ALL, out=tmp_path)

    def choices(score: Any) -> list[int]:
        found = []
        for example in examples(tmp_path):
            values = [score(option["text"], option) for option in example["options"]]
            found.append(next(i for i, value in enumerate(values) if max(values) - value < 1e-6))
        return found

    by_hand = {
        "sum": choices(lambda _, o: sum(o["logprobs"])),
        "token": choices(lambda _, o: sum(o["logprobs"]) / len(o["logprobs"])),
        "char": choices(lambda text, o: sum(o["logprobs"]) / len(text[1:])),
        "byte": choices(lambda text, o: sum(o["logprobs"]) / len(text[1:].encode())),
        "unconditional": choices(lambda _, o: sum(o["logprobs"]) - sum(o["unconditional"])),
    }
    gold = [example["gold"][0] for example in examples(tmp_path)]
    expected = {name: sum(map(int.__eq__, chosen, gold)) / 20 for name, chosen in by_hand.items()}
    assert {line.normalization: line.value for line in result} == expected
    assert len({tuple(chosen) for chosen in by_hand.values()}) == 5  # so that mixing two up would show


def test_a_graded_json_file_of_bigbench_is_a_task(tmp_path: Path) -> None:
    examples_of = [
        {"input": "Is it wet?", "target_scores": {"yes": 1, "rather": 0.5, "no": 0}},
        {"input": "Is it dry?", "target_scores": {"no": 0.75, "rather": 0.25, "yes": 0}},
        {"input": "Is it?", "target_scores": {"yes": 0, "no": 0, "maybe": 1}},
    ]
    write(tmp_path, "data/wet/task.json", json.dumps({"name": "wet", "examples": examples_of}))
    write(tmp_path, "prompts/wet/plain.jinja", "{{ input }}")
    write(
        tmp_path,
        "tasks/wet.yaml",
        "task: wet\ndata: {local: {test: wet/task.json}, records: examples}\nsplits: {evaluation: test}\n"
        "fields: {input: input, choices: target_scores}\ngold: {field: target_scores}\noptions: choices\n"
        "prompts: [plain]\nmetrics: [multiple_choice_grade, expected_grade, accuracy]\n",
    )
    lm = FakeLM({"Is it wet?": " rather", "Is it dry?": " no", "Is it?": " yes"})
    given: dict[str, Any] = {"library": Library([tmp_path]), "data": tmp_path / "data"}
    result = evaluate(lm, "wet", shots=0, normalizations="sum", out=tmp_path / "run", **given)
    expected = 0.0
    for example, stored in zip(examples_of, examples(tmp_path / "run"), strict=True):
        mass = np.exp([sum(option["logprobs"]) for option in stored["options"]])
        expected += float(mass @ [*example["target_scores"].values()] / mass.sum()) / 3  # type: ignore[attr-defined]
    grades = {line.metric: line.value for line in result}

    assert grades == pytest.approx(
        {"multiple_choice_grade": (0.5 + 0.75 + 0) / 3, "expected_grade": expected, "accuracy": 1 / 3}
    )
    assert list(rescore(tmp_path / "run", "sum")) == list(result)
    file = tmp_path / "run/examples.jsonl"
    file.write_text(file.read_text().replace('"grades":[1.0,0.5,0.0]', '"grades":[1.0,1.5,0.0]'))
    with pytest.raises(RunError, match="this line is damaged"):
        rescore(tmp_path / "run")


def test_one_pass_serves_all_normalisations() -> None:
    one, five = knowing(0), knowing(0)
    evaluate(one, parity(), shots=0, normalizations="sum")
    evaluate(five, parity(), shots=0, normalizations=ALL)

    assert one.answered == five.answered


def test_the_default_normalization_is_that_of_the_task() -> None:
    (line,) = evaluate(knowing(0), parity(normalization="char"), shots=0)

    assert line.normalization == "char"


@dataclass(frozen=True)
class SignedAccuracy(ExampleMean[Prediction]):
    def signature(self, predictions: Sequence[Prediction]) -> str:
        return f"KNOWN|n:{len(predictions)}"


def test_signature_has_the_words_of_a_metric_with_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    signed = SignedAccuracy("accuracy", "choice", is_right)
    monkeypatch.setattr("icl_eval.analysis.score.metric_of", lambda *_, **__: signed)
    (line,) = evaluate(knowing(0), parity(), shots=0)

    assert "|s0|token|KNOWN|n:8|bos0|" in line.signature


def test_signature_says_how_a_score_was_taken() -> None:
    lines = evaluate(knowing(0), parity(), shots=[0, 2], seeds=[1, 5], limit=3)
    first, second = (line.signature.split("|") for line in lines)

    assert first[:10] == [
        "parity",
        "inline",
        "k0",
        "per_example",
        "s1",
        "token",
        "bos0",
        "w1048576",
        "exact",
        "sample3of8",
    ]
    assert second[:10] == [
        "parity",
        "inline",
        "k2",
        "per_example",
        "s1,5",
        "token",
        "bos0",
        "w1048576",
        "exact",
        "sample3of8",
    ]
    assert first[10] == "memory"
    assert first[11].startswith("v1#")
    assert second[11].startswith(f"{first[11]}+")
    assert first[12] == "icl-eval 0.1.0"


def test_signature_changes_with_the_groups_of_the_examples() -> None:
    def signature(pairs: int) -> str:
        rows = [{"id": n, "n": n, "label": n % 2, "cluster": "all", "pair": n // pairs} for n in range(8)]
        task = Task.from_records(
            "pairs", evaluation=rows, prompt=PROMPT, options=NAMES, id="id", cluster="cluster", group="pair"
        )
        return evaluate(knowing(0), task, shots=0).scores[0].signature

    assert signature(2) == signature(2) != signature(4)


def test_consecutive_seeds_are_abbreviated() -> None:
    (line,) = evaluate(knowing(0), parity(), shots=1, seeds=5)

    assert "|s0-4|" in line.signature


class _Halved(FakeLM):
    precision = "float16"


CHANGES: dict[str, dict[str, Any]] = {
    "template": {"task": {"prompt": "Q:  {{ n }}\nA:"}},
    "template of another block": {
        "task": {"prompt": Prompt("{% block query %}" + PROMPT + "{% endblock %}", "inline")}
    },
    "options": {"task": {"options": ["Even", "odd"]}},
    "draw": {"task": {"draw": "fixed"}},
    "records": {"task": {"queries": range(1, 9)}},
    "a label": {"task": {"names": ["1", "0"]}},
    "demonstrations": {"task": {"demonstrations": range(100, 113)}},
    "normalisation of the task": {"task": {"normalization": "sum"}},
    "normalisation": {"normalizations": "sum"},
    "seeds": {"seeds": [1]},
    "shots": {"shots": 3},
    "limit": {"limit": 7},
    "overflow": {"overflow": "error"},
    "dtype": {"model": _Halved()},
    "bos": {"model": FakeLM(bos=True)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_signature_changes_with_what_can_change_a_score(change: str) -> None:
    def signature(task: dict[str, Any] | None = None, model: FakeLM | None = None, **options: Any) -> str:
        arguments: dict[str, Any] = {"shots": 2} | options
        (line,) = evaluate(model or FakeLM(), parity(**(task or {})), **arguments)
        return line.signature

    assert signature(**CHANGES[change]) != signature()
    assert signature() == signature()


def test_signature_of_a_suite_changes_with_each_task(tmp_path: Path) -> None:
    root = write_library(tmp_path)

    def signature() -> str:
        result = evaluate(knowing(0), "toy", shots=0, data=root / "data", library=Library([root]))
        return result.score("toy").signature

    before = signature()
    write(root, "prompts/toy/pairs/plain.jinja", "Question: {{ n }}\nA:")
    assert before.startswith("toy|macro mean of 2 tasks|k0|s0|local|#")
    assert signature() != before


def test_a_score_on_sample_data_says_so_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_library(tmp_path)
    monkeypatch.setattr("icl_eval.runs.tasks.SAMPLE_PATH", root / "data")
    result = evaluate(knowing(0), "toy", shots=0, data="sample", library=Library([root]))

    assert len(result) == 4
    for line in result:
        assert "|sample|" in line.signature
        assert f"{line.task} (sample)" in result.table()
        assert f"{line.task} (sample)" in result.table("md")
    assert {entry["data"] for entry in json.loads(result.table("json"))["scores"]} == {"sample"}
    assert "these scores are not scores on the benchmarks they are named after" in str(result.manifest.note)


def test_a_directory_called_sample_is_not_the_bundled_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_library(tmp_path)
    (root / "data").rename(root / "sample")
    monkeypatch.chdir(root)
    result = evaluate(knowing(0), "toy/parity", shots=0, data=Path("sample"), library=Library([root]))

    assert result.score("toy/parity").data == "local"
    assert result.manifest.note is None


def test_an_average_adds_up_the_counts_of_its_tasks_and_guesses_only_where_all_can_be() -> None:
    suite = SuiteDefinition(suite="both", about="", tasks=["ranked", "generated"])
    answers = [Prediction(str(n), ("a", "b"), (0,), n % 2, str(n), str(n)) for n in range(4)]
    accuracy = metric_of("accuracy")
    (one,) = evaluate(knowing(0), parity(), shots=0)
    ranked = replace(one, effective_shots=1.0, shortened=1, truncated=2, ties=3, random=0.5)
    of_texts = replace(one, seeds=(0, 1), shots=4, effective_shots=2.0, shortened=4, truncated=8, ties=6)
    generated = replace(of_texts, hit_max_tokens=5, empty=7, random=None)

    def line(*tasks: Score) -> Score:
        found = [(estimate(accuracy, [answers] * len(each.seeds)), each) for each in tasks]
        averaged = suite_score(suite, {}, {name: [each] for name, each in zip(suite.tasks, found, strict=True)})
        assert averaged is not None
        return averaged[1]

    both = line(ranked, generated)
    assert (both.seeds, both.shots) == ((0, 1), 4)
    assert (both.examples, both.total_examples, both.shortened, both.truncated, both.ties) == (16, 16, 5, 10, 9)
    assert (
        (both.hit_max_tokens, both.empty)
        == (line(generated, ranked).hit_max_tokens, line(generated, ranked).empty)
        == (5, 7)
    )
    assert (both.effective_shots, both.random, both.majority) == (1.5, None, None)
    assert line(ranked, replace(generated, random=0.1)).random == pytest.approx(0.3)


def test_lost_examples_are_an_error_and_not_a_score_of_the_others(tmp_path: Path) -> None:
    result = evaluate(knowing(0), parity(), shots=0, out=tmp_path)
    results = list(read_examples(tmp_path / "examples.jsonl"))

    with pytest.raises(RunError, match=r"parity \(inline, 0 shots, seed 0\) has 7 answered examples instead of 8"):
        score_examples(results[:-1], result.manifest.tasks, model_words="")


def test_a_figure_that_is_infinite_is_stored_as_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unbounded:
        name, of, bounds = "unbounded", "choice", (float("-inf"), float("inf"))

        def score(self, predictions: Any) -> float:
            return float(len(predictions))

    monkeypatch.setattr("icl_eval.runs.tasks.metric", lambda name, *_, **__: metric_of(name))
    monkeypatch.setattr("icl_eval.analysis.score.metric_of", lambda *_, **__: Unbounded())
    result = evaluate(knowing(0), parity(queries=[0]), shots=0, out=tmp_path)

    assert (result.scores[0].low, result.scores[0].high) == (float("-inf"), float("inf"))
    assert result.scores[0].stored()["high"] is None
    assert json.loads((tmp_path / "scores.json").read_text())["scores"][0]["low"] is None
    assert json.loads(result.table("json"))["scores"][0]["low"] is None
    assert "inf" not in result.table("csv")


def test_frame_has_a_row_for_every_line_and_numbers_stay_numbers() -> None:
    frame = evaluate(knowing(0, 1), parity(), shots=[0, 1], seeds=2).to_frame()

    assert frame["value"].tolist() == [0.25, 0.25]
    assert frame["shots"].tolist() == [0, 1]
    assert frame["effective_shots"].tolist() == [0, 1]
    assert frame["seed_sd"].dtype == float
    assert frame["seed_sd"].isna().tolist() == [True, False]


def test_gold_may_name_several_right_options() -> None:
    task = Task.from_records(
        "several",
        evaluation=[{"n": n, "label": [0, 1] if n < 4 else [2]} for n in range(8)],
        prompt=PROMPT,
        options=[*NAMES, "neither"],
    )
    lm = FakeLM({f"Q: {n}\nA:": " odd" for n in range(8)})

    assert evaluate(lm, task, shots=0).score("several").value == 4 / 8
