from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

from icl_eval.errors import ModelError
from icl_eval.models import encoder_words, text_encoder
from icl_eval.models.encoder import _Encoder, _loaded
from icl_eval.models.loading import checkpoint
from icl_eval.tiny import MODEL

from .architectures import build
from .checkpoints import byte_tokenizer

TEXTS = ["a cat", "", "the owl of the wood sleeps", "dog " * 400, "a cat"]


def test_a_vector_is_the_mean_of_the_last_hidden_states_of_a_text_alone() -> None:
    loader: Any = hf.AutoModel
    model, tokenizer = (
        loader.from_pretrained(MODEL, dtype=torch.float32).eval(),
        hf.AutoTokenizer.from_pretrained(MODEL),
    )
    longest = min(model.config.n_positions, 512)

    found = text_encoder("tiny")(TEXTS)

    assert found.shape == (5, model.config.hidden_size)
    assert found.dtype == np.float32
    assert not found[1].any()
    for index in (0, 2, 3, 4):
        ids = torch.tensor([tokenizer(TEXTS[index], verbose=False)["input_ids"][:longest]])
        with torch.inference_mode():
            expected = model(ids).last_hidden_state[0].mean(dim=0).numpy()
        assert found[index] == pytest.approx(expected, abs=1e-5)


def test_no_texts_and_no_tokens_have_no_vectors() -> None:
    encode = _Encoder(build("llama", vocab_size=258).model, byte_tokenizer(), torch.device("cpu"))

    assert encode([]).shape[0] == 0
    assert not encode(["", ""]).any()


def test_an_encoder_is_loaded_once_and_at_its_first_text(tmp_path: Path) -> None:
    missing = text_encoder(str(tmp_path / "none"))

    with pytest.raises(ModelError, match="there is no such model directory"):
        missing(["a"])
    assert _loaded("tiny") is _loaded("tiny")


def test_the_words_of_an_encoder_depend_on_its_name_and_content(tmp_path: Path) -> None:
    found = []
    for folder, content in (("a", "1"), ("b", "1"), ("c", "2")):
        path = tmp_path / folder / "enc|oder"
        path.mkdir(parents=True)
        (path / "config.json").write_text(content)
        found.append(encoder_words(f"{path}/"))

    assert found[0] == found[1] != found[2]
    assert [re.sub("[0-9a-f]{8}$", "", each) for each in found] == ["oder#"] * 3
    assert encoder_words("tiny").startswith("tiny#")
    for name in (str(tmp_path / "none"), "http://localhost:1/v1"):
        with pytest.raises(ModelError):
            encoder_words(name)


def test_the_words_of_an_encoder_on_the_hub_have_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "commit_of", lambda *_: "0123456789abcdef")

    assert encoder_words("some/encoder") == "encoder#01234567"


def test_an_endpoint_is_no_encoder() -> None:
    with pytest.raises(ModelError, match=r"the encoder 'http://localhost:1/v1' is an endpoint"):
        text_encoder("http://localhost:1/v1")(["a"])
