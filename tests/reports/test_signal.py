from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from icl_eval.results.result import Result, Sweep
from icl_eval.results.run_config import RunConfig
from icl_eval.results.signal import of_scores, signals

from .lines import MANIFEST, RTE, RTE_32


def exactly(*values: float) -> list[tuple[float, float]]:
    return [(value, 0.01) for value in values]


def test_the_ratio_is_relative_dispersion_by_relative_deviation_of_the_last_five_checkpoints() -> None:
    small, large = [0.1, 0.3, 0.31, 0.29, 0.32, 0.30], [0.2, 0.5, 0.54, 0.52, 0.53, 0.51]
    found = of_scores([exactly(*small), exactly(*large)])
    assert found is not None
    means = np.array([np.mean(small[-5:]), np.mean(large[-5:])])
    spreads = [np.std(each[-5:], ddof=1) / np.mean(each[-5:]) for each in (small, large)]

    assert found.signal == pytest.approx((means[1] - means[0]) / means.mean())
    assert found.noise == pytest.approx(np.mean(spreads))
    assert found.signal_to_noise == pytest.approx(found.signal / found.noise)
    assert found.noise_of == "checkpoints"


def test_models_without_checkpoints_are_compared_with_their_standard_errors() -> None:
    found = of_scores([[(0.5, 0.03)], [(0.7, 0.01)], [(0.6, 0.02)]])
    assert found is not None

    assert found.signal == pytest.approx(0.2 / 0.6)
    assert found.noise == pytest.approx(np.sqrt(np.mean([0.03**2, 0.01**2, 0.02**2])) / 0.6)
    assert found.noise_of == "examples"


def test_the_noise_is_of_checkpoints_if_a_model_has_at_least_three() -> None:
    three, two = of_scores([exactly(0.1, 0.2, 0.3), exactly(0.5)]), of_scores([exactly(0.1, 0.2), exactly(0.5)])

    assert three is not None
    assert two is not None
    assert (three.noise_of, two.noise_of) == ("checkpoints", "examples")
    assert three.noise == pytest.approx(0.1 / 0.2)


def test_the_signal_of_a_single_model_is_the_range_of_its_checkpoints() -> None:
    found = of_scores([exactly(0.1, 0.2, 0.3, 0.5, 0.6, 0.5)])
    assert found is not None

    assert found.signal == pytest.approx(0.5 / np.mean([0.1, 0.2, 0.3, 0.5, 0.6, 0.5]))
    assert found.noise_of == "checkpoints"


@pytest.mark.parametrize(
    "models", [[], [exactly(0.5)], [exactly(-0.5), exactly(0.5)], [[(0.5, float("nan"))], [(0.6, 0.1)]]]
)
def test_nothing_is_reported_of_what_has_no_ratio(models: list[list[tuple[float, float]]]) -> None:
    assert of_scores(models) is None


def trained(step: int, *values: float) -> Result:
    config = MANIFEST.config.model_copy(update={"revision": f"step{step}"})
    lines = [replace(score, value=value) for score, value in zip((RTE, RTE_32), values, strict=False)]
    return Result(tuple(lines), MANIFEST.model_copy(update={"config": config}))


def test_a_sweep_has_the_ratio_of_each_score_in_order_of_training() -> None:
    values = {100: 0.3, 1000: 0.5, 300: 0.4, 2000: 0.52, 500: 0.45, 900: 0.51}
    sweep = Sweep(tuple(trained(step, value, 0.9) for step, value in values.items()))
    last = [values[step] for step in (300, 500, 900, 1000, 2000)]
    ratio = 0.22 / np.mean(list(values.values())) * np.mean(last) / np.std(last, ddof=1)
    rows = list(csv.DictReader(io.StringIO(sweep.table("csv"))))

    assert [float(row["signal_to_noise"]) for row in rows if row["shots"] == "0"] == [pytest.approx(ratio)] * 6
    assert {row["signal_to_noise"] for row in rows if row["shots"] == "32"} == {""}  # all alike
    assert {row["noise_of"] for row in rows} == {"checkpoints", ""}
    assert json.loads(sweep.table("json"))["scores"][0]["signal_to_noise"] == pytest.approx(ratio)
    assert f"signal/noise of superglue/rte accuracy: {ratio:.1f} (0 shots)" in sweep.table()
    assert " | signal/noise | " in sweep.table("md")
    assert sweep.to_frame()["signal_to_noise"].iloc[0] == pytest.approx(ratio)


def test_scorings_and_prompts_have_a_ratio_each_by_their_names() -> None:
    scores = [
        replace(RTE, prompt=prompt, normalization=by) for prompt in ("gpt3", "other") for by in ("token", "batch")
    ]
    large = MANIFEST.model_copy(update={"model_name": "large"})
    rendered = Sweep((Result(tuple(scores), MANIFEST), Result(tuple(scores), large))).table().splitlines()

    assert [line.partition(":")[0] for line in rendered if line.endswith(" (0 shots)")] == [
        f"signal/noise of superglue/rte accuracy ({by}), {prompt}"
        for prompt in ("gpt3", "other")
        for by in ("token", "batch")
    ]


def test_models_without_steps_are_in_the_order_of_the_sweep() -> None:
    values = [0.9, 0.5, 0.51, 0.52, 0.53, 0.54]
    manifests = [trained(0).manifest.model_copy(update={"config": named(f"r{i}")}) for i in range(len(values))]
    models = [(each, [replace(RTE, value=value)]) for each, value in zip(manifests, values, strict=True)]

    (found,) = signals(models).values()

    assert found.noise == pytest.approx(np.std(values[1:], ddof=1) / np.mean(values[1:]))


def named(revision: str) -> RunConfig:
    return MANIFEST.config.model_copy(update={"revision": revision})
