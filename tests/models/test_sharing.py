from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from icl_eval.errors import ModelError
from icl_eval.models.causal.model import CausalLM
from icl_eval.models.causal.rows import Row, depths, visibility
from icl_eval.models.causal.sharing import sharing

from .architectures import build
from .checkpoints import byte_tokenizer

WINDOW = 64


class Settings(SimpleNamespace):
    def to_dict(self) -> dict[str, Any]:
        return vars(self)


def toy(row: Row, positions: np.ndarray | None = None) -> np.ndarray:
    """A layer that does everything right: ancestors weighted by distance in positions."""
    indices = depths(row.parents) if positions is None else positions
    weights = np.where(visibility(row.parents)[-1], 0.9 ** (indices[-1] - indices), 0)
    return np.outer(weights @ np.sin(row.tokens), np.arange(1, 4)).astype(np.float32)


def by_position(row: Row, positions: np.ndarray | None = None) -> np.ndarray:
    return toy(row, np.arange(len(row.tokens)))


def heedless(row: Row, positions: np.ndarray | None = None) -> np.ndarray:
    line = Row(row.tokens, np.arange(-1, len(row.tokens) - 1, dtype=np.int32), row.scored, row.targets)
    return toy(line, positions)


def refusing(row: Row, positions: np.ndarray | None = None) -> np.ndarray:
    if row.is_linear:
        return toy(row)
    raise ValueError("4D masks are not supported")


@pytest.mark.parametrize(
    ("logits", "prefix_sharing_limit"),
    [
        (toy, ""),
        (by_position, "its attention depends on positions in the row"),
        (heedless, "its layers ignore an ancestor mask"),
        (refusing, "its forward pass does not accept an ancestor mask (ValueError)"),
    ],
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_probe_tells_what_a_model_makes_of_a_branching_row(
    logits: Any, prefix_sharing_limit: str, precision: str
) -> None:
    found = sharing(Settings(vocab_size=100), False, WINDOW, precision, logits)

    assert found.prefix_sharing_limit == prefix_sharing_limit
    assert found.works == (prefix_sharing_limit == "")


@pytest.mark.parametrize(
    ("settings", "max_shared_length"),
    [
        ({}, WINDOW),
        ({"sliding_window": None}, WINDOW),
        ({"sliding_window": 16}, 16),
        ({"sliding_window": 16, "use_sliding_window": False}, WINDOW),
        ({"sliding_window": 4096}, WINDOW),
        ({"attention_chunk_size": 8}, 8),
        ({"local_attention": 32}, 32),
        ({"attention_window": [16, 8]}, 8),
        ({"sliding_window_pattern": 6, "max_window_layers": 7, "num_windows": 6}, WINDOW),
        ({"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 32}}, 32),
        ({"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 32}}, WINDOW),
        ({"rope_parameters": {"full": {"rope_type": "longrope", "original_max_position_embeddings": 32}}}, 32),
    ],
)
def test_max_shared_length_is_the_smallest_size_that_the_configuration_names(
    settings: dict[str, Any], max_shared_length: int
) -> None:
    found = sharing(Settings(vocab_size=100, **settings), False, WINDOW, "float32", toy)

    assert (found.works, found.max_shared_length) == (True, max_shared_length)


def test_dynamic_rotary_embeddings_limit_the_window() -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0, "original_max_position_embeddings": 64}
    model = build("llama", rope_parameters=rope)

    assert CausalLM(model, byte_tokenizer(), "tiny", "weights", window=64).max_shared_length == 64
    with pytest.raises(ModelError, match="a context length of 128 was requested, but that of the model is 64"):
        CausalLM(model, byte_tokenizer(), "tiny", "weights", window=128)
