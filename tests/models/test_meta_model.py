"""What is counted without weights is what models with weights have."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
import transformers as hf
from torch.utils.flop_counter import FlopCounterMode

from icl_eval.errors import ModelError
from icl_eval.models.causal.model import CausalLM
from icl_eval.models.causal.scheduling import RowModel
from icl_eval.models.meta_model import MetaModel, cache_size

from .architectures import CONFIGS, WINDOW, build
from .checkpoints import byte_tokenizer

NO_CACHE = {"mamba", "rwkv", "recurrent_gemma", "jamba", "lfm2"}  # or one that holds more than keys and values


def drawn(kind: type, settings: dict[str, Any], device: str = "cpu") -> MetaModel:
    maker: Any = hf.AutoModelForCausalLM
    with torch.device("meta"):
        model = maker.from_config(kind(**settings))
    return MetaModel(model, byte_tokenizer(), "drawn", device=device, window=WINDOW)


@cache
def built(name: str) -> Any:
    """A model with weights, not to be changed."""
    return build(name)


@cache
def meta_model(name: str, device: str = "cpu") -> MetaModel:
    return drawn(*CONFIGS[name], device=device)


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_those_of_a_model_with_weights(name: str) -> None:
    model = built(name)

    assert meta_model(name).weights == sum(parameter.nbytes for parameter in model.parameters())
    assert meta_model(name).counts.parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(set(CONFIGS) - NO_CACHE))
def test_cache_takes_what_a_model_with_weights_keeps(name: str, dtype: torch.dtype) -> None:
    model = copy.deepcopy(built(name)).to(dtype)

    def kept(tokens: int) -> int:
        with torch.inference_mode():
            layers = model(input_ids=torch.ones(1, tokens, dtype=torch.long), use_cache=True).past_key_values.layers
        return sum(part.nbytes for layer in layers for part in (layer.keys, layer.values))

    assert meta_model(name).cache_bytes(dtype) == kept(2) - kept(1)
    assert meta_model(name).cache_bytes(dtype, 40) == kept(40)


def test_what_a_token_adds_to_keys_and_values_takes_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass of a large model takes seconds."""
    passes: list[int] = []

    def counted(model: Any, tokens: int) -> Any:
        passes.append(tokens)
        return cache_size(model, tokens)

    monkeypatch.setattr("icl_eval.models.meta_model.cache_size", counted)
    lm = drawn(*CONFIGS["gpt2"])

    assert lm.cache_bytes(torch.float32, 1) == lm.cache_bytes(torch.float32) == lm.state_bytes != 0
    assert passes == [1]


def test_states_that_do_not_grow_take_the_same_for_any_length() -> None:
    lm = meta_model("mamba")

    assert lm.cache_bytes(torch.float32) == 0
    assert lm.cache_bytes(torch.float32, 5) == lm.cache_bytes(torch.float32, 50) != 0


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_assumed_is_what_probes_find(name: str) -> None:
    window = None if name not in {"bloom", "mamba"} else WINDOW
    probed, assumed = CausalLM(built(name), byte_tokenizer(), name, name, window=window), meta_model(name)

    assert isinstance(assumed, RowModel)
    for attribute in (
        "shares_prefixes",
        "max_shared_length",
        "caches_prefixes",
        "has_tree_attention",
        "hidden_size",
        "vocabulary",
    ):
        assert getattr(assumed, attribute) == getattr(probed, attribute), attribute
    assert assumed.token_bytes == probed.token_bytes
    if probed.caches_prefixes:
        assert assumed.state_bytes == probed.state_bytes


def test_rows_of_a_gpu_are_planned_as_those_of_a_cpu() -> None:
    for device in ("cpu", "cuda"):
        assert meta_model("llama", device).has_tree_attention
        assert not meta_model("gptj", device).has_tree_attention
        assert meta_model("gptj", device).shares_prefixes


def test_gpt2_has_as_many_parameters_as_its_release() -> None:
    counts = drawn(hf.GPT2Config, {}).counts

    assert counts.parameters == 124_439_808
    assert counts.head == 50257 * 768
    assert counts.body == 124_439_808 - 50257 * 768 - 1024 * 768
    assert counts.pair == 4 * 12 * 768
    assert counts.active is None


def test_mixtral_has_as_many_parameters_as_its_paper_says() -> None:
    """Jiang et al. 2024, arXiv 2401.04088, section 2: 47B parameters, of which 13B are active."""
    counts = drawn(hf.MixtralConfig, {}).counts

    assert counts.parameters == pytest.approx(47e9, rel=0.01)
    assert counts.active == pytest.approx(13e9, rel=0.01)
    assert counts.active == counts.body + 2 * 32000 * 4096


@pytest.mark.parametrize("name", ["gpt2", "opt", "llama", "llama_tied", "gemma", "qwen3", "gpt_neox", "mistral"])
def test_operations_are_those_that_pytorch_counts(name: str) -> None:
    model, counts = build(name), meta_model(name).counts
    model.set_attn_implementation("eager")  # of which every product is counted

    def operations(tokens: int) -> int:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            model.base_model(input_ids=torch.ones(1, tokens, dtype=torch.long), use_cache=False)
        return int(counter.get_total_flops())

    attention = operations(40) - 2 * operations(20)  # what grows with the square: all 40 x 40 pairs less 2 x 20 x 20
    vectors = sum(parameter.numel() for parameter in model.parameters() if parameter.dim() == 1)
    assert attention == counts.pair * (40**2 - 2 * 20**2)
    assert operations(40) - counts.pair * 40**2 == pytest.approx(2 * 40 * (counts.body - vectors))


def test_a_meta_model_computes_nothing() -> None:
    with pytest.raises(ModelError, match="drawn is loaded without weights"):
        meta_model("llama").enqueue([])
