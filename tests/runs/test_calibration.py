from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from toy_tasks import knowing, parity

from icl_eval import Task, evaluate, rescore
from icl_eval.errors import RunError

from .folders import examples


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
    result = evaluate(knowing(0, 1, 2), parity(), shots=[0, 2], normalizations=names, out=tmp_path)

    assert rescore(tmp_path, names).scores == result.scores
    assert [line.normalization for line in result] == names * 2
    assert {line.close_calls is None for line in result if line.normalization == "prototypical"} == {True}


def test_all_are_the_normalisations_to_which_a_calibration_may_be_added(tmp_path: Path) -> None:
    evaluate(knowing(0), parity(), shots=0, out=tmp_path)

    assert len(rescore(tmp_path, "all")) == 5
    assert [line.normalization for line in rescore(tmp_path, ["all", "batch"])][-1] == "batch"


def other_options() -> Task:
    records = [{"q": "a", "options": ["x", "y"], "label": 0}, {"q": "b", "options": ["x", "z"], "label": 1}]
    return Task.from_records("other", evaluation=records, prompt="{{ q }}:", options="options", id="q")


def test_options_that_differ_between_examples_are_told_before_the_model_runs(tmp_path: Path) -> None:
    lm = knowing()

    with pytest.raises(RunError) as error:
        evaluate(lm, other_options(), shots=0, normalizations="batch")
    assert str(error.value) == (
        "other: batch calibration needs examples with the same options, each with another text, but those of 'b' are "
        "' x', ' z', not ' x', ' y'"
    )
    assert lm.answered == 0


def test_options_that_differ_between_stored_examples_are_told(tmp_path: Path) -> None:
    evaluate(knowing(), other_options(), shots=0, out=tmp_path)

    with pytest.raises(RunError, match="other: prototypical calibration needs examples with the same options"):
        rescore(tmp_path, "prototypical")


def test_too_few_examples_name_their_cell(tmp_path: Path) -> None:
    evaluate(knowing(), parity(asked=[0]), shots=0, out=tmp_path)

    with pytest.raises(RunError, match=r"parity \(inline, 0 shots, seed 0\): prototypical calibration of 2 labels"):
        rescore(tmp_path, "prototypical")
