"""Texts that run from right to left, or without spaces, come out of a run as they went in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from icl_eval import Task, evaluate
from icl_eval.testing import FakeLM

TEXTS = {
    "arabic": ("عاصمة {} هي", "اليابان", ["طوكيو", "باريس"]),
    "hebrew": ("בירת {} היא", "יפן", ["טוקיו", "פריז"]),
    "chinese": ("{}的首都是", "日本", ["东京", "巴黎"]),
}


def _task(name: str) -> Task:
    prompt, country, options = TEXTS[name]
    return Task.from_records(
        name,
        evaluation=[{"country": country, "label": 0}],
        prompt=prompt.format("{{ country }}"),
        options=options,
    )


@pytest.mark.parametrize("name", TEXTS)
def test_text_survives_prompt_and_answer(name: str, tmp_path: Path) -> None:
    prompt, country, options = TEXTS[name]
    result = evaluate(FakeLM({prompt.format(country): f" {options[1]}"}), _task(name), shots=0, out=tmp_path)
    (line,) = (tmp_path / "examples.jsonl").read_text(encoding="utf-8").splitlines()

    assert result.score(name).value == 0.0  # only if the whole prompt arrived is the wrong option preferred
    assert all(option in line for option in options)
    assert json.loads(line)


@pytest.mark.parametrize("format", ["table", "md", "csv", "json"])
@pytest.mark.parametrize("model", ["模型", "نموذج"])
def test_name_of_a_model_survives_every_table(model: str, format: str) -> None:
    result = evaluate(FakeLM(name=model), [_task(name) for name in TEXTS], shots=0)

    assert model in result.table(format)
