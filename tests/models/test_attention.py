from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers.integrations import sdpa_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama import modeling_llama

from icl_eval.engine import Engine
from icl_eval.errors import ModelError
from icl_eval.models import Decoding, GenerateAnswer, GenerateRequest, load_model
from icl_eval.models.causal.sharing import sharing
from icl_eval.models.loading import placement
from icl_eval.models.options import LoadConfig

from .architectures import build
from .checkpoints import byte_tokenizer, refusal
from .reference import random_requests

NAMES = ("llama", "gpt2", "gemma3", "falcon")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    for name in (*NAMES, "mpt"):
        build(name, vocab_size=258, sharpness=2.0).save_pretrained(folder / name)
        byte_tokenizer().save_pretrained(folder / name)
    return folder


def texts(lm: Any) -> list[GenerateAnswer]:
    found: dict[int, GenerateAnswer] = {}
    requests = [GenerateRequest.of([5, 6, *tail], Decoding(8, beams=2)) for tail in ([7], [8, 9])]
    lm.generate(requests, found.__setitem__)
    return [found[index] for index in range(len(requests))]


@pytest.mark.parametrize("name", NAMES)
def test_eager_and_sdpa_and_pieces_agree(saved: Path, name: str) -> None:
    requests = random_requests(np.random.default_rng(2))
    models = [load_model(str(saved / name), device="cpu", attn=attn) for attn in (None, "eager", "sdpa")]
    first, *others = ([each.logprobs for each in Engine(lm).answer(requests)] for lm in models)

    for answers in others:
        for mine, theirs in zip(answers, first, strict=True):
            assert mine == pytest.approx(theirs, abs=1e-4)
    written = [texts(lm) for lm in models]
    assert [each.texts for each in written[1]] == [each.texts for each in written[2]]
    assert [each.texts for each in written[1]] == [each.texts for each in written[0]]


@pytest.mark.parametrize("attn", ["eager", "sdpa"])
def test_the_requested_attention_does_everything(saved: Path, attn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lm: Any = load_model(str(saved / "llama"), device="cpu", attn=attn)
    calls = {"eager": 0, "sdpa": 0}

    def counted(name: str, attention: Any) -> Any:
        def attend(*given: Any, **settings: Any) -> Any:
            calls[name] += 1
            return attention(*given, **settings)

        return attend

    monkeypatch.setattr(
        modeling_llama, "eager_attention_forward", counted("eager", modeling_llama.eager_attention_forward)
    )
    monkeypatch.setitem(
        ALL_ATTENTION_FUNCTIONS._global_mapping, "sdpa", counted("sdpa", sdpa_attention.sdpa_attention_forward)
    )
    forwards = 0

    def forward(*_: Any) -> None:
        nonlocal forwards
        forwards += 1

    lm.model.model.layers[0].register_forward_hook(forward)
    Engine(lm).answer(random_requests(np.random.default_rng(2)))
    texts(lm)

    other = "sdpa" if attn == "eager" else "eager"
    assert lm.shares_prefixes
    assert not lm.has_tree_attention
    assert type(lm.generation.decoders((0, 0))).__name__ == "BatchDecoder"
    assert forwards > 0
    assert calls == {attn: forwards * len(lm.model.model.layers), other: 0}


def test_attention_that_takes_no_mask_is_not_given_one() -> None:
    def logits(*_: Any, **__: Any) -> Any:
        raise AssertionError("a mask would end the process")

    config = SimpleNamespace(_attn_implementation="flash_attention_2", vocab_size=100, to_dict=dict)
    found = sharing(config, False, 64, "bfloat16", logits)

    assert (found.works, found.prefix_sharing_limit) == (False, "flash_attention_2 does not support masks")


@pytest.mark.skipif(find_spec("flash_attn") is not None, reason="flash_attn is installed")
@pytest.mark.parametrize("attn", ["flash_attention_2", "flash_attention_3"])
def test_attention_that_is_not_installed_is_reported(saved: Path, attn: str) -> None:
    assert refusal(saved / "llama", attn=attn).startswith(
        f"'{saved / 'llama'}' cannot be loaded: --attn {attn} cannot be used: "
    )


def test_attention_that_an_architecture_lacks_is_reported(saved: Path) -> None:
    assert refusal(saved / "mpt", attn="sdpa") == (
        f"'{saved / 'mpt'}' cannot be loaded: --attn sdpa cannot be used: MptForCausalLM does not support an attention "
        "implementation through torch.nn.functional.scaled_dot_product_attention yet"
    )


def test_attention_that_is_not_taken_is_reported() -> None:
    config = SimpleNamespace(_attn_implementation="eager")
    model = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: config), dtype=torch.float32)

    with pytest.raises(ModelError, match=r"^--attn sdpa cannot be used: SimpleNamespace uses eager$"):
        placement.check_attention(model, LoadConfig(attn="sdpa"))
    config._attn_implementation = "flash_attention_2"
    with pytest.raises(ModelError, match=r"^--attn flash_attention_2 needs --dtype bfloat16 or float16$"):
        placement.check_attention(model, LoadConfig(attn="flash_attention_2"))


def test_attention_that_there_is_not() -> None:
    with pytest.raises(ModelError, match="`attn` cannot be 'flashy'"):
        load_model("tiny", attn="flashy")
