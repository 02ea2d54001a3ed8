from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_tasks import PROMPT, knowing, parity, write_library
from transformers import AutoModelForCausalLM, AutoTokenizer

from icl_eval import Library, evaluate
from icl_eval.errors import RunError
from icl_eval.models.loading.checkpoint import TINY_PATH
from icl_eval.runs.regress import (
    SAFE_MARGIN,
    TOLERANCE,
    Regression,
    make_baseline,
    read_baseline,
    regress,
    write_baseline,
)
from icl_eval.testing import FakeLM

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    root = write_library(tmp_path)
    evaluate(
        knowing(0, 1, 2), "toy", shots=[0, 2], seeds=2, data=root / "data", library=Library([root]), out=root / "run"
    )
    write_baseline(make_baseline(root / "run"), root / "baseline.json")
    return root / "baseline.json"


def again(baseline: Path, lm: FakeLM | None = None) -> Regression:
    library = Library([baseline.parent])
    return regress(read_baseline(baseline), lm or knowing(0, 1, 2), library=library)


def edit(baseline: Path, change: Edit) -> None:
    content = json.loads(baseline.read_text())
    change(content)
    baseline.write_text(json.dumps(content))


def test_a_baseline_made_from_a_run_passes(baseline: Path) -> None:
    found = again(baseline)

    assert not found
    assert (found.changes, found.examples, found.scores) == ((), 2 * 3 * 8, 2 * 4)
    assert found.largest < 1e-6


def test_baseline_is_one_line_an_example_and_reads_back(baseline: Path) -> None:
    made = make_baseline(baseline.parent / "run")

    assert read_baseline(baseline) == made
    assert sum(line.startswith('  {"task"') for line in baseline.read_text().splitlines()) == 48 + 8


def test_a_baseline_of_a_run_with_other_normalizations_passes(baseline: Path) -> None:
    root = baseline.parent
    evaluate(
        knowing(0, 1, 2),
        "toy",
        shots=0,
        normalizations=["token", "sum", "byte"],
        data=root / "data",
        library=Library([root]),
        out=root / "run",
    )
    write_baseline(make_baseline(root / "run"), baseline)

    assert again(baseline).changes == ()


def test_a_baseline_of_a_run_with_chosen_metrics_passes(tmp_path: Path) -> None:
    evaluate(knowing(0, 1), parity(), shots=0, metrics=["macro_f1", "accuracy"], out=tmp_path / "run")
    found = regress(make_baseline(tmp_path / "run"), knowing(0, 1), tasks=parity())

    assert (found.changes, found.scores) == ((), 2)


def test_a_baseline_of_tasks_in_memory_passes_when_they_are_given(tmp_path: Path) -> None:
    evaluate(knowing(0), parity(), shots=2, out=tmp_path)
    baseline = make_baseline(tmp_path)

    assert regress(baseline, knowing(0), tasks=parity()).changes == ()
    assert len(regress(baseline, knowing(0), tasks=parity(prompt="Q {{ n }}\nA:")).changes) >= 8


@pytest.mark.parametrize(("by", "changed"), [(0.9 * TOLERANCE, 0), (1.1 * TOLERANCE, 1), (-1.1 * TOLERANCE, 1)])
def test_a_log_probability_may_differ_by_the_tolerance_and_no_more(by: float, changed: int, baseline: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["examples"][5]["logprobs"][1][2] += by

    edit(baseline, change)
    found = again(baseline)

    assert TOLERANCE == 1e-4
    assert len(found.changes) == changed
    assert found.largest == pytest.approx(abs(by), rel=0.02)


def test_a_changed_log_probability_names_its_example(baseline: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["examples"][5]["logprobs"][1][0] -= 1

    before = json.loads(baseline.read_text())["examples"][5]
    edit(baseline, change)
    (sentence,) = again(baseline).changes

    example = f"toy/parity (plain, {before['shots']} shots, seed {before['seed']}) example {before['id']}"
    then, now = sum(before["logprobs"][1]) - 1, sum(before["logprobs"][1])
    assert sentence == f"{example}: option ' odd' had log-likelihood {then:.5f} and now has {now:.5f}"


def _change_score(content: dict[str, Any]) -> None:
    content["scores"][0]["value"] = 0.5


def _forget_score(content: dict[str, Any]) -> None:
    del content["scores"][0]


def _invent_score(content: dict[str, Any]) -> None:
    content["scores"].append(content["scores"][0] | {"metric": "macro_f1"})


def _forget_example(content: dict[str, Any]) -> None:
    del content["examples"][0]


def _invent_example(content: dict[str, Any]) -> None:
    content["examples"].append(content["examples"][0] | {"id": "99"})


def _lose_option(content: dict[str, Any]) -> None:
    content["examples"][0]["logprobs"].pop()


def _lose_token(content: dict[str, Any]) -> None:
    content["examples"][0]["logprobs"][0].pop()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_change_score, "score toy/parity accuracy (plain, 0 shots, by token) was 0.500000 and is now 0.375000"),
        (_forget_score, "score toy/parity accuracy (plain, 0 shots) is new"),
        (_invent_score, "score toy/parity macro_f1 (plain, 0 shots, by token) is missing"),
        (_forget_example, "toy/parity (plain, 0 shots, seed 0) example 0 was not evaluated before"),
        (_invent_example, "toy/parity (plain, 0 shots, seed 0) example 99 is no longer evaluated"),
        (_lose_option, "toy/parity (plain, 0 shots, seed 0) example 0: it had 1 option and now has 2"),
        (_lose_token, "toy/parity (plain, 0 shots, seed 0) example 0: option ' even' had 4 tokens and now has 5"),
    ],
)
def test_every_difference_is_named(change: Edit, expected: str, baseline: Path) -> None:
    edit(baseline, change)

    assert again(baseline).changes == (expected,)


def test_another_model_moves_examples_and_scores(baseline: Path) -> None:
    found = again(baseline, knowing(0, 1, 2, 3))

    assert sum("example 3:" in sentence for sentence in found.changes) == 2 * 3
    assert sum(sentence.startswith("score ") for sentence in found.changes) == 8
    assert len(found.changes) == 14


def test_an_example_that_another_cpu_may_turn_over_is_refused(tmp_path: Path) -> None:
    evaluate(_Close(SAFE_MARGIN * 0.9), parity(), shots=0, out=tmp_path / "close")
    evaluate(_Close(SAFE_MARGIN * 1.1), parity(), shots=0, out=tmp_path / "clear")
    evaluate(_Close(0.0), parity(), shots=0, out=tmp_path / "equal")
    evaluate(_Close(SAFE_MARGIN * 1.1, noise=2e-3), parity(), shots=0, out=tmp_path / "coarse")

    with pytest.raises(
        RunError, match=r"parity \(inline, 0 shots, seed 0\) example 0 is decided by a margin of 9\.0e-04"
    ):
        make_baseline(tmp_path / "close")
    with pytest.raises(RunError, match=r"example 0 is decided by a margin of 1\.1e-03 \(token\)"):
        make_baseline(tmp_path / "coarse")  # in its arithmetic
    assert len(make_baseline(tmp_path / "clear").examples) == 8
    assert len(make_baseline(tmp_path / "equal").examples) == 8


def test_an_unfinished_run_makes_no_baseline(baseline: Path) -> None:
    manifest = baseline.parent / "run" / "manifest.json"
    content = json.loads(manifest.read_text()) | {"finished": None}
    manifest.write_text(json.dumps(content))

    with pytest.raises(RunError, match="this run is not finished"):
        make_baseline(baseline.parent / "run")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "this is not a baseline: Invalid JSON"),
        (b"[]", "this is not a baseline: Input should be"),
        (b"{}", "this is not a baseline: config: Field required"),
        (b"\xff\xff", "this is not a baseline: Invalid JSON"),
    ],
)
def test_what_is_no_baseline_is_named(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "b.json").write_bytes(content)

    with pytest.raises(RunError) as error:
        read_baseline(tmp_path / "b.json")
    assert str(error.value).startswith(f"{tmp_path / 'b.json'}: {sentence}")
    assert "\n" not in str(error.value)


def test_a_baseline_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"b\.json: the baseline cannot be read: No such file or directory"):
        read_baseline(tmp_path / "b.json")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_baseline_without_finite_numbers_is_refused(number: str, baseline: Path) -> None:
    content = json.loads(baseline.read_text())
    content["examples"][0]["logprobs"][0][0] = float(number.replace("Infinity", "inf"))
    baseline.write_text(json.dumps(content))

    with pytest.raises(
        RunError, match=r"this is not a baseline: examples\.0\.logprobs\.0\.0: Input should be a finite"
    ):
        read_baseline(baseline)


def test_a_changed_template_changes_the_requests(baseline: Path) -> None:
    (baseline.parent / "prompts/toy/pairs/plain.jinja").write_text(PROMPT.replace("A:", "B:"))
    found = again(baseline)

    assert found
    assert all("toy/pairs" in sentence or sentence.startswith("score toy ") for sentence in found.changes)


def test_a_calibrated_decision_that_another_cpu_may_turn_over_is_refused(tmp_path: Path) -> None:
    lm = _Close(0.5, less=SAFE_MARGIN)  # the mean over the batch is as near to each example as these are to each other
    evaluate(lm, parity(), shots=0, calibrate="batch", out=tmp_path / "batch")
    evaluate(lm, parity(), shots=0, out=tmp_path / "plain")

    with pytest.raises(
        RunError, match=r"parity \(inline, 0 shots, seed 0\) example 0 is decided by .*e-\d\d \(batch\)"
    ):
        make_baseline(tmp_path / "batch")
    assert len(make_baseline(tmp_path / "plain").examples) == 8


class _Close(FakeLM):
    """Every option has the same log-probability per token, but the first a little more, and of one question less so."""

    def __init__(self, margin: float, noise: float = 0.0, less: float = 0.0) -> None:
        super().__init__()
        self.margin, self.noise, self.less = margin, noise, less

    def score(self, requests: Any, sink: Any) -> None:
        def even_out(index: int, answer: Any) -> None:
            first = requests[index].tokens[requests[index].boundary + 1] == ord("e")
            less = self.less * (b"Q: 3\n" in bytes(list(requests[index].tokens)))
            value = -1.0 + (self.margin - less) * first
            sink(index, type(answer)((value,) * len(answer.logprobs), answer.greedy))

        super().score(requests, even_out)


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Any]:
    """The bundled model and its tokenizer, loaded by `transformers`."""
    models: Any = AutoModelForCausalLM
    tokenizers: Any = AutoTokenizer
    return models.from_pretrained(TINY_PATH, dtype=torch.float32), tokenizers.from_pretrained(TINY_PATH)


@pytest.mark.parametrize("options", [{"bos": True}, {"max_length": 24}])
def test_a_loaded_pair_is_evaluated_as_the_baseline_was(options: dict[str, Any], tiny: Any, tmp_path: Path) -> None:
    task = parity(queries=range(3))
    evaluate("tiny", task, shots=3, out=tmp_path / "options", **options)
    evaluate("tiny", task, shots=3, out=tmp_path / "plain")

    assert regress(make_baseline(tmp_path / "options"), tiny, tasks=task).changes == ()
    assert regress(make_baseline(tmp_path / "plain"), tiny, tasks=task, **options).changes != ()  # it matters
