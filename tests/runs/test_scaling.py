"""Fits of kept runs: models of known sizes and planted answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_tasks import ASKED, answers, parity

from icl_eval import Scaling, Sweep, Task, fit_scaling, rescore, sweep
from icl_eval.errors import RunError, UnknownName
from icl_eval.results.scaling import ScalingFit
from icl_eval.testing import FakeLM

SIZES = (10**6, 10**7, 10**8, 10**9)


def model(size: int, right: int, name: str = "") -> FakeLM:
    lm = FakeLM(answers(range(right)), name=name or f"m{size:.0e}")
    lm.parameter_count = size
    return lm


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("icl_eval.analysis.scaling.RESAMPLES", 50)
        yield


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    models = [model(size, right) for size, right in zip(SIZES, (3, 5, 6, 7), strict=True)]
    return sweep(models, parity(), shots=0, out=tmp_path_factory.mktemp("sweep"), metrics=["accuracy", "answer_loss"])


@pytest.fixture(scope="module")
def fits(kept: Sweep) -> Scaling:
    return fit_scaling(kept)


def of(fits: Scaling, metric: str) -> ScalingFit:
    return next(each for each in fits if each.metric == metric)


def test_every_score_has_a_fit_of_the_form_of_its_metric(fits: Scaling) -> None:
    assert [(each.metric, each.law.form) for each in fits] == [
        ("accuracy", "logistic in loss"),
        ("answer_loss", "power law"),
    ]
    assert of(fits, "accuracy").sizes == SIZES
    assert of(fits, "accuracy").values == (3 / 8, 5 / 8, 6 / 8, 7 / 8)
    assert fits.unfitted == ()


def test_a_loss_has_the_exponent_of_the_line_of_logarithms(fits: Scaling) -> None:
    found = of(fits, "answer_loss")
    slope, _ = np.polyfit(np.log(SIZES), np.log(found.values), 1)

    assert found.law.exponent == pytest.approx(-slope)
    assert found.exponent is not None
    assert found.exponent.low < found.law.exponent < found.exponent.high


def test_the_largest_model_is_predicted_from_the_smaller_ones(fits: Scaling) -> None:
    found = of(fits, "answer_loss")
    line = np.polyfit(np.log(SIZES[:-1]), np.log(found.values[:-1]), 1)
    held_out = found.held_out

    assert held_out is not None
    assert held_out.predicted == pytest.approx(np.exp(np.polyval(line, np.log(SIZES[-1]))))
    assert (held_out.model, held_out.measured) == ("m1e+09", found.values[-1])
    assert held_out.interval is not None
    assert held_out.interval.low < held_out.predicted < held_out.interval.high


def test_folders_of_single_runs_have_the_fit_of_their_sweep(kept: Sweep, fits: Scaling) -> None:
    folders = [result.folder for result in reversed(kept.results) if result.folder]

    assert fit_scaling(folders) == fits == fit_scaling(str(kept.folder))


def test_compute_is_six_times_parameters_and_tokens_in_pf_days(kept: Sweep) -> None:
    found = fit_scaling(kept, "compute", tokens=3e11).fits[0]

    assert found.sizes == pytest.approx([6 * size * 3e11 / 8.64e19 for size in SIZES])
    assert found.by == "compute"


def test_the_answer_loss_is_that_of_the_stored_log_probabilities(kept: Sweep) -> None:
    folder = kept.results[0].folder
    assert folder is not None
    lines = [json.loads(line) for line in (folder / "examples.jsonl").read_text().splitlines()]
    losses = [-sum(e["options"][e["gold"][0]]["logprobs"]) / len(e["names"][e["gold"][0]]) for e in lines]
    score = rescore(folder, "byte", "answer_loss").score("parity")

    assert score.value == pytest.approx(np.mean(losses))
    assert (score.random, score.majority) == (None, None)


def test_tables_have_the_fit_and_the_prediction(fits: Scaling) -> None:
    entry = json.loads(fits.table("json"))["fits"][1]
    held_out = of(fits, "answer_loss").held_out
    assert held_out is not None

    assert entry["predicted"] == held_out.predicted
    assert f"{held_out.predicted:.3f}" in str(fits)
    assert "4 models by parameters: m1e+06 1M, m1e+07 10M, m1e+08 100M, m1e+09 1B" in str(fits)
    assert len(fits.table("csv").splitlines()) == 3
    assert list(fits.to_frame()["metric"]) == ["accuracy", "answer_loss"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"by": "size"}, UnknownName, "parameters"),
        ({"by": "tokens"}, RunError, "give `tokens`"),
        ({"by": "steps"}, RunError, "m1e.06: its training steps are not known"),
        ({"by": "tokens", "tokens": {"m1e+06": 1, "m2": 2}}, UnknownName, "m2"),
        ({"by": "tokens", "tokens": 3e11}, RunError, "3 models of different sizes, not 1"),
    ],
)
def test_sizes_that_are_not_known_are_errors(kept: Sweep, options: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        fit_scaling(kept, **options)


def test_a_sweep_without_a_folder_is_an_error(kept: Sweep) -> None:
    with pytest.raises(RunError, match="give `out` or `keep`"):
        fit_scaling(Sweep(kept.results))


def test_models_with_other_examples_have_no_common_fit(kept: Sweep, tmp_path: Path) -> None:
    other = sweep([model(2 * 10**9, 7)], parity(range(4)), shots=0, out=tmp_path, metrics="accuracy")
    assert kept.folder is not None
    found = fit_scaling([kept.folder, *(each.folder for each in other if each.folder)])

    assert [each.metric for each in found] == ["answer_loss"]
    assert found.unfitted == (
        "parity accuracy (inline, 0 shots) has no fit: the models answered different examples or prompts",
    )


def test_the_average_of_a_suite_is_fitted(tmp_path: Path) -> None:
    models = [model(size, 8) for size in SIZES[:3]]
    found = fit_scaling(sweep(models, "superglue", shots=0, data="sample", limit=4, out=tmp_path))

    assert {"superglue", "superglue/rte"} <= {each.task for each in found}


def test_generated_answers_are_fitted_in_size(tmp_path: Path) -> None:
    task = Task.from_records(
        "copy",
        evaluation=[{"n": n} for n in ASKED],
        prompt="Q: {{ n }}\nA:",
        answer="text",
        references="n",
        decode={"max_tokens": 3},
    )
    models = [FakeLM({f"Q: {n}\nA:": f"{n}\n" for n in range(right)}, name=str(right)) for right in (1, 3, 6)]
    for lm, size in zip(models, SIZES, strict=False):
        lm.parameter_count = size
    (found,) = fit_scaling(sweep(models, task, shots=0, out=tmp_path))

    assert found.law.form == "logistic"
    assert found.values == (1 / 8, 3 / 8, 6 / 8)
