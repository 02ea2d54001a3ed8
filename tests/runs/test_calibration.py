from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from toy_tasks import answers, knowing, parity

from icl_eval import Task, evaluate, rescore
from icl_eval.errors import PromptError, RunError, UnknownName, WindowError
from icl_eval.models import ScoreRequest, Sink
from icl_eval.results.examples import ChoiceResult, read_examples
from icl_eval.results.outcomes import outcomes
from icl_eval.scoring import CALIBRATIONS
from icl_eval.testing import FakeLM

from .folders import examples, journal


def probabilities(folder: Path, shots: int, seed: int) -> NDArray[np.float64]:
    """Of the options of every example of a cell, normalised; computed from the stored lines alone."""
    cells = [each for each in examples(folder) if (each["cell"]["shots"], each["cell"]["seed"]) == (shots, seed)]
    raw = np.exp([[sum(option["logprobs"]) for option in each["options"]] for each in cells])
    return np.asarray(raw / raw.sum(axis=1, keepdims=True))


def test_batch_calibration_is_of_the_examples_of_each_seed(tmp_path: Path) -> None:
    evaluate(knowing(0, 1, 2), parity(), shots=2, seeds=2, out=tmp_path)
    gold = np.arange(8) % 2
    tables = [probabilities(tmp_path, 2, seed) for seed in (0, 1)]
    expected = [float(np.mean((table - table.mean(axis=0)).argmax(axis=1) == gold)) for table in tables]

    (line,) = rescore(tmp_path, "batch")

    assert line.seed_values == pytest.approx(expected)
    assert line.normalization == "batch"
    assert "|batch|" in line.signature
    assert line.close_calls is not None


def test_calibrations_of_a_run_are_those_of_its_stored_answers(tmp_path: Path) -> None:
    names = ["sum", "batch", "prototypical"]
    result = evaluate(knowing(0, 1, 2), parity(), shots=2, normalizations=names, out=tmp_path)

    assert rescore(tmp_path, names).scores == result.scores
    assert [line.normalization for line in result] == names
    assert {line.close_calls is None for line in result if line.normalization == "prototypical"} == {True}


def test_all_are_the_normalisations_to_which_a_calibration_may_be_added(tmp_path: Path) -> None:
    evaluate(knowing(0), parity(), shots=0, out=tmp_path)

    assert len(rescore(tmp_path, "all")) == 5
    assert [line.normalization for line in rescore(tmp_path, ["all", "batch"])][-1] == "batch"


def other_options(premise: str | None = None) -> Task:
    records = [{"q": "a", "options": ["x", "y"], "label": 0}, {"q": "b", "options": ["x", "z"], "label": 1}]
    definition: dict[str, Any] = {"prompt": "{{ q }}:", "options": "options", "id": "q", "domain_premise": premise}
    return Task.from_records("other", evaluation=records, **definition)


def test_options_that_differ_between_examples_are_reported_before_the_model_runs(tmp_path: Path) -> None:
    lm = knowing()

    with pytest.raises(RunError) as error:
        evaluate(lm, other_options(), shots=0, normalizations="batch")
    assert str(error.value) == (
        "other: batch calibration needs the same options in all examples, "
        "but those of 'b' are ' x', ' z', not ' x', ' y'"
    )
    assert lm.answered == 0


def test_options_that_differ_between_stored_examples_are_reported(tmp_path: Path) -> None:
    evaluate(knowing(), other_options(), shots=0, out=tmp_path)

    with pytest.raises(RunError, match="other: prototypical calibration needs the same options in all examples"):
        rescore(tmp_path, "prototypical")


def test_too_few_examples_name_their_cell(tmp_path: Path) -> None:
    evaluate(knowing(), parity(queries=[0]), shots=0, out=tmp_path)

    with pytest.raises(RunError, match=r"parity \(inline, 0 shots, seed 0\): prototypical calibration of 2 labels"):
        rescore(tmp_path, "prototypical")
    lm = knowing()
    with pytest.raises(RunError, match="parity: prototypical calibration of 2 labels needs at least 2 examples"):
        evaluate(lm, parity(queries=[0]), shots=0, calibrate="prototypical")
    assert lm.answered == 0


class Noted(FakeLM):
    """A FakeLM that keeps the texts of its requests."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.texts: list[str] = []

    def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
        self.texts += [bytes(list(request.tokens)).decode() for request in requests]
        super().score(requests, sink)


BIAS = {" even": -500.0}
CONTENT_FREE = ("N/A", "", "[MASK]")


def contextual(folder: Path) -> NDArray[np.float64]:
    """The contextually calibrated scores of all examples, shape (examples, options)."""
    found = [each.options for each in read_examples(folder / "examples.jsonl") if isinstance(each, ChoiceResult)]
    return CALIBRATIONS["contextual"](found).scores


@pytest.mark.parametrize("draw", ["per_example", "fixed"])
def test_contextual_calibration_removes_a_planted_bias_exactly(draw: str, tmp_path: Path) -> None:
    fair, biased = FakeLM(answers(range(8))), FakeLM(answers(range(8)), bias=BIAS)
    task, names = parity(draw=draw), ["sum", "contextual"]

    expected = evaluate(fair, task, shots=[0, 2], calibrate="contextual", normalizations=names, out=tmp_path / "fair")
    found = evaluate(biased, task, shots=[0, 2], calibrate="contextual", normalizations=names, out=tmp_path / "biased")

    assert [line.value for line in found] == [0.5, 1.0, 0.5, 1.0]
    assert [line.value for line in expected] == [1.0, 1.0, 1.0, 1.0]
    margins = [np.diff(contextual(tmp_path / name)) for name in ("biased", "fair")]  # W p is not normalised again
    assert margins[0] == pytest.approx(margins[1], abs=1e-9)


def test_content_free_inputs_replace_the_query_after_its_demonstrations(tmp_path: Path) -> None:
    plain, lm = Noted(), Noted()
    task = parity(queries=[0, 1], draw="first")
    evaluate(plain, task, shots=2)
    evaluate(lm, task, shots=2, calibrate="contextual", out=tmp_path)
    demonstrations = "Q: 100\nA: even\n\nQ: 101\nA: odd\n\n"

    added = {f"{demonstrations}Q: {content}\nA: {name}" for content in CONTENT_FREE for name in ("even", "odd")}
    assert set(lm.texts) - set(plain.texts) == added
    assert len(lm.texts) == len(plain.texts) + 6  # shared by both queries


def test_queries_with_different_demonstrations_have_different_content_free_prompts() -> None:
    plain, lm = Noted(), Noted()
    evaluate(plain, parity(), shots=2)
    evaluate(lm, parity(), shots=2, calibrate="contextual", content_free="nothing")
    added = [text for text in lm.texts if "Q: nothing\n" in text]

    assert len(lm.texts) == len(plain.texts) + len(added) == len(plain.texts) + 8 * 2
    assert {text.split("Q: nothing")[0] for text in added} == {
        text[: text.rindex("Q:")] for text in plain.texts if text.count("Q:") == 3
    }


def test_a_calibrated_score_has_its_paired_difference_from_the_normalisation(tmp_path: Path) -> None:
    lm = FakeLM(answers(range(8)), bias=BIAS)
    result = evaluate(lm, parity(), shots=2, calibrate="contextual", normalizations=["contextual", "sum", "byte"])
    calibrated, plain, other = sorted(result, key=lambda line: ("contextual", "sum", "byte").index(line.normalization))
    gains = np.array([1.0, 0.0] * 4)  # the examples with even numbers

    assert [line.difference for line in (plain, other)] == [None, None]
    assert (calibrated.axis, calibrated.baseline, calibrated.difference) == ("calibrations", "sum", 0.5)
    assert calibrated.difference_error == pytest.approx(gains.std(ddof=1) / math.sqrt(8))


def test_what_a_run_does_not_collect_is_not_stored(tmp_path: Path) -> None:
    evaluate(FakeLM(), parity(queries=[0]), shots=0, out=tmp_path / "plain")
    evaluate(FakeLM(), parity(queries=[0]), shots=0, calibrate="contextual", out=tmp_path / "calibrated")
    (plain,), (calibrated,) = examples(tmp_path / "plain"), examples(tmp_path / "calibrated")

    assert {*plain["options"][0]} == {"text", "logprobs", "unconditional"}
    assert {*calibrated["options"][0]} - {*plain["options"][0]} == {"content_free"}
    assert len(calibrated["options"][0]["content_free"]) == 3


def test_a_folder_goes_on_with_what_calibration_needs(tmp_path: Path) -> None:
    evaluate(FakeLM(), parity(), shots=0, out=tmp_path)
    lm = FakeLM()
    result = evaluate(lm, parity(), shots=0, calibrate="contextual", out=tmp_path)

    assert lm.answered == 3 * 2
    assert [line.normalization for line in result] == ["token", "contextual"]
    assert rescore(tmp_path).scores == result.scores
    assert len(rescore(tmp_path, ["contextual-identity", "sum"])) == 2
    assert len(journal(tmp_path)) == 8 * 2 + 2 + 3 * 2


def test_the_signature_of_contextual_calibration_knows_its_inputs() -> None:
    (_, usual), (_, other) = (
        evaluate(FakeLM(), parity(), shots=0, calibrate="contextual", content_free=texts) for texts in ((), ["", "-"])
    )

    assert usual.signature != other.signature
    assert [line.normalization for line in (usual, other)] == ["contextual", "contextual"]


def test_the_demonstrations_of_content_free_prompts_are_those_that_fit_the_query(tmp_path: Path) -> None:
    long = Task.from_records(
        "long",
        evaluation=[{"text": "x" * 60, "label": 0}],
        demonstrations=[{"text": f"{n}" * 9, "label": n % 2} for n in range(4)],
        prompt="{{ text }}:",
        options=["a", "b"],
        draw="first",
    )
    lm = Noted(window=100)
    evaluate(lm, long, shots=4, calibrate="contextual", content_free="-")

    (line,) = {text[:-1] for text in lm.texts if "-" in text}
    assert line == "000000000: a\n\n111111111: b\n\n-: "  # two of four fit with the query
    with pytest.raises(WindowError, match=r"content-free input '-{90}' takes \d+ tokens but the context length is 100"):
        evaluate(FakeLM(window=100), long, shots=4, calibrate="contextual", content_free="-" * 90)


def test_fields_in_lists_are_replaced_and_those_that_only_choose_words_are_not(tmp_path: Path) -> None:
    task = Task.from_records(
        "nested",
        evaluation=[{"kind": "b", "turns": [{"text": "one", "n": 1}, {"text": "two", "n": 2}], "label": 0}],
        prompt="{{ 'A' if kind == 'a' else 'B' }}{% for t in turns %} {{ t.text }}{{ t.n }}{% endfor %}:",
        options=["x", "y"],
    )
    lm = Noted()
    evaluate(lm, task, shots=0, calibrate="contextual", content_free="?")

    assert "B ?? ??: x" in lm.texts


def test_a_template_that_cannot_show_a_content_free_input_names_it() -> None:
    task = Task.from_records(
        "cut",
        evaluation=[{"text": "a _ b", "label": 0}],
        prompt="{{ text.split('_')[1] + 'x' }}:",
        options=["x", "y"],
    )

    with pytest.raises(PromptError, match=r"cannot be rendered.*with the content-free input 'N/A' \(cut, example"):
        evaluate(FakeLM(), task, shots=0, calibrate="contextual")


def test_a_domain_premise_may_be_a_template_of_the_record(tmp_path: Path) -> None:
    lm = Noted()
    task = other_options("because {{ q }}")
    result = evaluate(lm, task, shots=0, calibrate="dc-pmi", normalizations=["sum", "dc-pmi"], out=tmp_path)

    assert {"because a x", "because a y", "because b x", "because b z"} <= set(lm.texts)
    assert "|dc-pmi#" in result.scores[1].signature
    for entry in examples(tmp_path):
        assert all(len(option["domain"]) == 2 for option in entry["options"])
    expected = [
        np.argmax([sum(option["logprobs"]) - sum(option["domain"]) for option in entry["options"]]) in entry["gold"]
        for entry in examples(tmp_path)
    ]
    assert result.scores[1].value == np.mean(expected)


def test_a_domain_premise_changes_no_other_signature() -> None:
    (plain,), (premised,) = (evaluate(FakeLM(), other_options(premise), shots=0) for premise in (None, "So"))

    assert plain.signature == premised.signature


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"calibrate": "dc-pmi"}, RunError, "has no domain premise, which dc-pmi needs; add `score.domain_premise`"),
        (
            {"normalizations": "contextual"},
            RunError,
            "`icl-eval run --calibrate contextual` in the same folder adds them",
        ),
        (
            {"normalizations": "contextual-identity"},
            RunError,
            "contextual-identity needs answers that this run does not",
        ),
        ({"calibrate": "contextul"}, RunError, "no calibration is named 'contextul'; did you mean contextual"),
        ({"content_free": "N/A"}, RunError, "`content_free` has no effect unless `calibrate` names contextual"),
    ],
)
def test_what_cannot_be_calibrated_is_one_sentence(options: Any, kind: Any, message: str) -> None:
    lm = FakeLM()

    with pytest.raises(kind, match=message):
        evaluate(lm, parity(), shots=0, **options)
    assert lm.answered == 0


def test_a_premise_with_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no field of the example is named 'qq'"):
        evaluate(FakeLM(), other_options("{{ qq }}"), shots=0, calibrate="dc-pmi")


def test_a_run_without_content_free_answers_names_the_option_that_stores_them(tmp_path: Path) -> None:
    evaluate(FakeLM(), parity(), shots=0, out=tmp_path)

    with pytest.raises(RunError) as error:
        rescore(tmp_path, "contextual")
    assert str(error.value) == (
        "parity: contextual needs answers that this run does not have; `icl-eval run --calibrate contextual` in the "
        "same folder adds them"
    )


def test_generated_answers_cannot_be_calibrated(tmp_path: Path) -> None:
    records = [{"q": "a", "a": "b"}]
    task = Task.from_records("text", evaluation=records, prompt="{{ q }}:", answer="text", references="a")
    evaluate(FakeLM(), task, shots=0, decode={"max_tokens": 1}, out=tmp_path)
    message = r"batch needs a task and prompt that score the texts of options, not text \(inline\)"

    with pytest.raises(RunError, match=message):
        rescore(tmp_path, "batch")
    with pytest.raises(RunError, match=message):
        evaluate(FakeLM(), task, shots=0, normalizations="batch")


def test_a_line_without_the_answers_for_calibration_is_named(tmp_path: Path) -> None:
    evaluate(FakeLM(), parity(), shots=0, calibrate="contextual", out=tmp_path)
    file = tmp_path / "examples.jsonl"
    first, *rest = file.read_text().splitlines()
    start, end = first.index(',"content_free"'), first.index("}", first.index(',"content_free"'))
    cut = first[:start] + first[end:]
    file.write_text("\n".join([cut, *rest]))

    with pytest.raises(RunError, match=r"examples.jsonl:1: this line is damaged"):  # its options differ
        rescore(tmp_path, "contextual")
    start, end = cut.index(',"content_free"'), cut.index("}", cut.index(',"content_free"'))
    file.write_text("\n".join([cut[:start] + cut[end:], *rest]))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"examples_digest": None}))
    with pytest.raises(
        RunError, match=r"example '0' lacks answers that calibration needs; run the same command again to rewrite it"
    ):
        rescore(tmp_path, "contextual")


def test_examples_of_a_run_have_the_scores_by_its_calibrations(tmp_path: Path) -> None:
    task = parity(queries=[0], domain_premise="So")
    result = evaluate(FakeLM(), task, shots=0, calibrate=["contextual", "dc-pmi"], out=tmp_path)
    (outcome,) = outcomes(tmp_path, result.manifest)
    (entry,) = examples(tmp_path)

    assert [each.scores["contextual"] for each in outcome.options] == pytest.approx(contextual(tmp_path)[0].tolist())
    assert [each.scores["dc-pmi"] for each in outcome.options] == pytest.approx(
        [sum(each["logprobs"]) - sum(each["domain"]) for each in entry["options"]]
    )
    assert sum(outcome.row()["p_contextual"]) == pytest.approx(1)


CHANNEL = "{% block query %}A: {{ option }}\nQ:{% endblock %}{% block answer %} {{ n }}{% endblock %}"


def test_a_channel_prompt_scores_the_input_after_each_label_and_is_not_calibrated(tmp_path: Path) -> None:
    lm = Noted()
    task = parity(queries=[0, 1], draw="first", prompt={"plain": "Q: {{ n }}\nA:", "channel": CHANNEL})
    result = evaluate(lm, task, shots=1, prompts=["plain", "channel"], calibrate=["contextual", "batch"], out=tmp_path)

    assert "A: even\nQ: 100\n\nA: odd\nQ: 1" in lm.texts
    assert [(line.prompt, line.normalization) for line in result if line.prompt in task.prompts] == [
        ("plain", "token"),
        ("plain", "contextual"),
        ("plain", "batch"),
        ("channel", "token"),
    ]
    assert rescore(tmp_path).scores == result.scores
    with pytest.raises(
        RunError, match=r"contextual needs a task and prompt that score the texts of options, not parity"
    ):
        evaluate(lm, task, shots=1, prompts="channel", calibrate="contextual")


def test_the_line_of_a_difference_names_the_calibration() -> None:
    lm = FakeLM(answers(range(8)), bias=BIAS)
    two = parity(prompt={"a": "Q: {{ n }}\nA:", "b": "P: {{ n }}\nA:"})
    tables = [
        evaluate(lm, parity(), shots=2, calibrate=["contextual", "batch"]).table(),
        evaluate(lm, two, shots=0, prompts=["a", "b"], calibrate="batch").table(),
        evaluate(lm, two, shots=0, prompts=["a", "b"], normalizations=["sum", "token"]).table(),
    ]
    lines = [[line.split(":")[0] for line in table.splitlines() if " minus " in line] for table in tables]

    assert lines[0] == ["parity accuracy, contextual minus token", "parity accuracy, batch minus token"]
    assert set(lines[1]) >= {f"parity accuracy ({prompt}), batch minus token" for prompt in "ab"}
    assert lines[2] == ["parity accuracy (sum), b minus a", "parity accuracy (token), b minus a"]
