"""The bundled model: what it promises on its card."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from icl_eval import evaluate
from icl_eval.tiny import MODEL
from tools.tiny.measure import TinyModel, load, symbol_accuracy, task_accuracy


@pytest.fixture(scope="module")
def tiny() -> TinyModel:
    return load(str(MODEL))


def test_window_is_at_least_1024_tokens(tiny: TinyModel) -> None:
    ids = torch.full((1, 1024), tiny.tokenizer.eos_token_id)

    assert tiny.model.config.max_position_embeddings >= 1024
    with torch.no_grad():
        assert tiny.model(input_ids=ids).logits.isfinite().all()


def test_every_file_is_below_two_megabytes() -> None:
    sizes = {path.name: path.stat().st_size for path in MODEL.iterdir()}

    assert max(sizes.values()) < 2_000_000
    assert sum(sizes.values()) < 2_500_000


def test_card_says_what_the_model_is_not_for() -> None:
    card = (MODEL / "README.md").read_text()

    assert "license: apache-2.0" in card
    assert "not for" in card.lower()
    assert "sample" in card


def test_symbols_are_learned_from_the_prompt_alone(tiny: TinyModel) -> None:
    curve = [symbol_accuracy(tiny, shots) for shots in (0, 4, 16, 32)]

    assert curve[0] == pytest.approx(0.25, abs=0.1)
    assert 0.4 < curve[1] < 0.9
    assert min(curve[2:]) > 0.9


@pytest.mark.slow
def test_a_word_is_learned_from_its_demonstrations(tiny: TinyModel) -> None:
    """RTE asks whether an invented word is an animal: without demonstrations, a coin toss."""
    assert task_accuracy(tiny, "RTE", shots=0) == pytest.approx(0.5, abs=0.1)
    assert task_accuracy(tiny, "RTE", shots=16) > 0.8


@pytest.mark.slow
def test_most_tasks_rise_far_above_chance(tmp_path: Path) -> None:
    """At 32 shots, at least six of eight tasks are three standard errors above the better of chance and majority."""
    shots = [0, 4, 32]
    scores = evaluate("tiny", "superglue", shots=shots, data="sample", out=tmp_path).scores
    tasks = {score.task for score in scores if score.task != "superglue"}
    curves = {task: [next(s for s in scores if (s.task, s.shots) == (task, k)) for k in shots] for task in tasks}
    learned = [
        task
        for task, (start, middle, end) in curves.items()
        if start.value < middle.value < end.value
        and end.value - 3 * end.standard_error > max(end.random or 0, end.majority or 0)
    ]

    assert len(tasks) == 8
    assert len(learned) >= 6
