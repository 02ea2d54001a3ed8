"""Log-probabilities and their moments are those of their definitions, and the fused activation is the spelt-out one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from scipy.special import log_softmax
from torch.torch_version import TorchVersion
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from icl_eval.models.network import (
    CACHED_FLOATS,
    _float32_linear,
    fuse_activations,
    gives_float32,
    state_budget,
    token_logprobs,
)


def test_logits_are_the_same() -> None:
    torch.manual_seed(0)
    model: Any = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2, initializer_range=0.5))
    model.eval()
    tokens = torch.randint(64, (2, 20))
    with torch.inference_mode():
        before = model(tokens).logits
        fuse_activations(model)
        after = model(tokens).logits

    assert [type(block.mlp.act) for block in model.transformer.h] == [torch.nn.GELU, torch.nn.GELU]
    assert float((after - before).abs().max()) < 1e-5 * float(before.abs().max())


def test_other_activations_stay() -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
    }
    model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=16, **sizes))
    before = model.model.layers[0].mlp.act_fn
    fuse_activations(model)

    assert model.model.layers[0].mlp.act_fn is before


def test_moments_are_the_weighted_mean_and_spread_of_log_probabilities() -> None:
    logits = torch.randn(5, 64, generator=torch.Generator().manual_seed(0)) * 4
    logits[1, 10:] = -torch.inf  # tokens that a model excludes
    logits[2] = 3.0  # all alike
    logits[3, 1:] = -1e4  # no doubt
    targets = np.array([3, 4, 5, 0, 7], np.int32)
    wide = log_softmax(logits.double().numpy(), axis=1)
    weights, finite = np.exp(wide), np.where(np.isfinite(wide), wide, 0.0)
    means = np.average(finite, axis=1, weights=weights)
    spreads = [np.cov(row, aweights=each, bias=True) ** 0.5 for row, each in zip(finite, weights, strict=True)]
    logprobs, greedy, moments = token_logprobs(logits, targets, moments=True)
    times = 2 * CACHED_FLOATS // logits.numel() + 1  # of the same rows, which are taken in parts
    parts = token_logprobs(logits.repeat(times, 1), np.tile(targets, times), moments=True)
    plain, same, none = token_logprobs(logits, targets)

    for of_part, of_all in zip(parts, (logprobs, greedy, moments), strict=True):
        assert np.allclose(of_part, np.tile(of_all, times), rtol=0, atol=1e-6)
    assert moments[0] == pytest.approx(means, abs=1e-5)
    assert moments[1] == pytest.approx(np.array(spreads), abs=1e-5)
    assert logprobs == pytest.approx(wide[range(5), targets], abs=1e-5)
    assert (plain.tolist(), same.tolist(), none.shape) == (logprobs.tolist(), greedy.tolist(), (0, 5))


class Exponentials(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The sizes of tensors of probabilities."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes: list[int] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        if function.overloadpacket.__name__ == "exp":
            self.sizes.append(found.numel())
        return found


def test_moments_need_the_probabilities_of_few_positions_at_once() -> None:
    vocabulary = CACHED_FLOATS // 8

    with Exponentials() as seen:
        token_logprobs(torch.zeros(20, vocabulary), np.zeros(20, np.int32), moments=True)

    assert seen.sizes == [CACHED_FLOATS, CACHED_FLOATS, CACHED_FLOATS // 2]


class OnGpu(torch.Tensor):
    """A tensor that says that it is on a GPU."""

    is_cuda = True


@pytest.mark.parametrize(
    ("version", "hip", "expected"),
    [("2.7.1+cu126", None, False), ("2.8.0+cu128", None, True), ("2.10.0", None, True), ("2.10.0", "6.4", False)],
)
def test_sixteen_bits_are_multiplied_into_float32_where_torch_can(
    version: str, hip: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    monkeypatch.setattr(torch.version, "hip", hip)

    assert gives_float32(torch.zeros(1).as_subclass(OnGpu)) == expected
    assert not gives_float32(torch.zeros(1))


def test_a_head_on_a_gpu_is_widened_by_an_old_torch_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.4.0"))
    hidden, weight = torch.arange(8.0).view(2, 4).bfloat16(), torch.arange(12.0).view(3, 4).bfloat16()

    found = _float32_linear(hidden, weight.as_subclass(OnGpu))

    assert found.dtype == torch.float32
    assert torch.equal(found, (hidden.float() @ weight.float().T).as_subclass(OnGpu))


def llama(**changes: Any) -> LlamaForCausalLM:
    config = {"vocab_size": 8, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(**{**config, "num_hidden_layers": 1, **changes}))


def test_the_states_of_a_batch_take_half_of_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """One token takes 2 * 3 layers * 2 key heads * 16 numbers of 4 bytes = 768 bytes; heads are wider than 32 / 4."""
    model = llama(num_hidden_layers=3, num_key_value_heads=2, head_dim=16)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2 * 768 * 1000))

    assert state_budget(model, torch.device("cpu"), 10) == 1000
    assert state_budget(model, torch.device("cpu"), 10, state_bytes=2 * 768) == 500
    assert state_budget(model, torch.device("cpu"), 2000) == 2000


def test_memory_that_torch_keeps_on_a_gpu_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 5000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 4000)

    assert state_budget(model, torch.device("cuda:0"), 1, state_bytes=10) == 100  # half of 1000 + 5000 - 4000
