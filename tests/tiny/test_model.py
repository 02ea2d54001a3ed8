"""The bundled model: what it promises on its card."""

from __future__ import annotations

import pytest
import torch

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
def test_causes_and_effects_of_the_small_world_are_known(tiny: TinyModel) -> None:
    assert task_accuracy(tiny, "COPA", shots=0) > 0.8
