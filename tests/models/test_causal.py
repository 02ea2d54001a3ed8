from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import transformers as hf

from icl_eval.engine import Engine
from icl_eval.errors import ModelError
from icl_eval.models import OutOfMemory, ScoreRequest, wrap_model
from icl_eval.models.causal.model import ARITHMETIC, CausalLM
from icl_eval.models.causal.rows import Row
from icl_eval.models.causal.sharing import line
from icl_eval.models.generation.generation import Limits
from icl_eval.models.network import CPU_ROW_BUDGET
from icl_eval.models.protocol import LOGITS

from .architectures import VOCABULARY, WINDOW, build
from .black_boxes import Waits
from .checkpoints import byte_tokenizer
from .reference import moments, random_requests


def causal(model: Any, **changes: Any) -> CausalLM:
    return CausalLM(model, byte_tokenizer(), "tiny", "weights", **{"bos": False, "window": WINDOW, **changes})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_coarse_weights_give_fine_log_probabilities(dtype: torch.dtype) -> None:
    model = build("llama").to(dtype)
    requests = [ScoreRequest.of([5, 6, 7], [token]) for token in range(100)]

    logprobs = [answer.logprobs[0] for answer in Engine(causal(model)).answer(requests)]

    rounded = torch.tensor(logprobs).to(dtype).double().tolist()
    assert len(set(logprobs)) > len(set(rounded))
    assert max(abs(np.array(rounded) - np.array(logprobs))) > 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_coarse_answers_are_the_hidden_states_of_the_coarse_model_under_its_head_in_float32(dtype: torch.dtype) -> None:
    model = build("gpt2").to(dtype)
    with torch.no_grad():
        hidden = model.transformer(torch.tensor([[5, 6, 7]])).last_hidden_state[0, -1]
        expected = (model.lm_head.weight.double() @ hidden.double()).log_softmax(0)

    answers = Engine(causal(model)).answer([ScoreRequest.of([5, 6, 7], [token]) for token in range(100)])

    assert np.array([a.logprobs[0] for a in answers]) == pytest.approx(expected[:100].numpy(), abs=1e-6)


def test_probabilities_sum_to_one() -> None:
    lm = causal(build("gemma2_capped"))

    answers = Engine(lm).answer([ScoreRequest.of([5, 6], [token]) for token in range(lm.vocabulary)])

    assert sum(np.exp(answer.logprobs[0]) for answer in answers) == pytest.approx(1, abs=1e-5)
    assert sum(answer.greedy for answer in answers) == 1


def test_requests_with_moments_have_those_of_each_next_token_and_the_others_none() -> None:
    model = build("llama")
    requests = random_requests(np.random.default_rng(4), sequences=3)
    mixed = [replace(each, moments=index % 2 == 0) for index, each in enumerate(requests)]

    for request, answer, plain in zip(
        mixed, *(Engine(causal(model)).answer(each) for each in (mixed, requests)), strict=True
    ):
        assert answer.logprobs == plain.logprobs
        if not request.moments:
            assert answer == plain
            continue
        with torch.no_grad():
            rows = model(torch.tensor([list(request.tokens)[:-1]])).logits[0].log_softmax(-1)
        expected = np.array([moments(row) for row in rows[request.boundary - 1 :]])
        assert pytest.approx(expected, abs=1e-5) == np.array([answer.means, answer.sds]).T


def test_greedy_means_every_token_was_the_most_likely() -> None:
    model = build("llama", sharpness=3.0)
    with torch.no_grad():
        first = int(model(torch.tensor([[5, 6]])).logits[0, -1].argmax())
        second = int(model(torch.tensor([[5, 6, first]])).logits[0, -1].argmax())

    answers = Engine(causal(model)).answer(
        [ScoreRequest.of([5, 6], tail) for tail in ([first], [first, second], [first, second ^ 1], [first ^ 1, second])]
    )

    assert [answer.greedy for answer in answers] == [True, True, False, False]


@pytest.mark.parametrize(
    ("adds_bos", "bos", "start"),
    [(True, None, (0,)), (False, None, ()), (True, False, ()), (False, True, (0,)), (True, True, (0,))],
)
def test_bos_is_as_the_tokenizer_does_it_by_default(adds_bos: bool, bos: bool | None, start: tuple[int, ...]) -> None:
    lm = wrap_model(build("llama"), byte_tokenizer(adds_bos=adds_bos), bos=bos)

    assert lm.start == start
    assert lm.fingerprint.endswith(f"|float32|bos{len(start)}|arithmetic{ARITHMETIC}")


def test_encoding_never_adds_special_tokens() -> None:
    lm = wrap_model(build("llama"), byte_tokenizer(adds_bos=True))

    assert lm.encode([]) == []
    assert [len(ids) for ids in lm.encode(["", "a", "hé"])] == [0, 1, 3]
    assert lm.decode(lm.encode(["ab"])[0]) == ["a", "b"]


def test_a_bos_token_that_is_missing_cannot_be_requested() -> None:
    with pytest.raises(ModelError, match="--bos yes was requested, but the tokenizer has no BOS token"):
        wrap_model(build("llama"), byte_tokenizer(bos_token=None), bos=True)


def test_an_empty_context_is_conditioned_on_bos_else_eos() -> None:
    assert wrap_model(build("llama"), byte_tokenizer()).fallback == 0
    assert wrap_model(build("llama"), byte_tokenizer(bos_token=None)).fallback == 1
    with pytest.raises(ModelError, match="neither a BOS nor an EOS token"):
        wrap_model(build("llama"), byte_tokenizer(bos_token=None, eos_token=None))


@pytest.mark.parametrize("name", ["gpt2", "gptj", "llama", "opt", "mpt", "falcon", "rwkv"])
def test_the_window_is_what_the_configuration_says(name: str) -> None:
    assert CausalLM(build(name), byte_tokenizer(), "tiny", "weights").window == WINDOW


def test_a_window_that_nothing_says_must_be_passed() -> None:
    with pytest.raises(ModelError, match="pass --max-length"):
        wrap_model(build("mamba"), byte_tokenizer())

    assert wrap_model(build("mamba"), byte_tokenizer(), max_length=20).window == 20
    assert wrap_model(build("mamba"), byte_tokenizer(model_max_length=48)).window == 48


def test_a_model_that_sees_what_follows_is_refused() -> None:
    config = hf.BertConfig(
        vocab_size=200, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    torch.manual_seed(0)

    with pytest.raises(ModelError, match="BertLMHeadModel attends to later tokens"):
        causal(hf.BertLMHeadModel(config))

    assert causal(hf.BertLMHeadModel(hf.BertConfig(**{**config.to_dict(), "is_decoder": True}))).name == "tiny"


def test_weights_that_are_not_numbers_are_reported_when_it_runs() -> None:
    model = build("llama")
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))

    with pytest.raises(ModelError, match="its weights may be damaged"):
        Engine(causal(model)).answer([ScoreRequest.of([5], [6])])


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported at another call"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    ],
)
def test_a_full_device_is_distinguished_from_other_errors(error: RuntimeError, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = causal(build("llama"))

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(lm.model, "forward", fail)
    with pytest.raises(OutOfMemory):
        lm.forward([line([1, 2])])


def test_other_errors_of_a_forward_pass_are_raised_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = causal(build("llama"))

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(lm.model, "forward", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        lm.forward([line([1, 2])])


def test_only_scored_positions_reach_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = causal(build("llama"))
    seen: list[Sequence[int]] = []
    lm.model.lm_head.register_forward_hook(lambda _, inputs, output: seen.append(tuple(output.shape)))

    Engine(lm).answer([ScoreRequest.of(list(range(3, 40)), [5, 6]), ScoreRequest.of(list(range(3, 40)), [7])])

    assert [shape[-2] for shape in seen] == [3]


def test_equal_models_have_equal_fingerprints() -> None:
    tokenizer = byte_tokenizer()
    first = wrap_model(build("llama"), tokenizer).fingerprint
    other = build("llama")
    with torch.no_grad():
        other.model.norm.weight[0] += 1e-6

    assert wrap_model(build("llama"), tokenizer).fingerprint == first
    assert (
        len({first, *(wrap_model(m, tokenizer).fingerprint for m in (other, build("llama").to(torch.bfloat16)))}) == 3
    )
    assert wrap_model(build("llama"), tokenizer, bos=True).fingerprint != first


def test_answers_of_a_wrapped_model_do_not_depend_on_its_mode() -> None:
    requests = random_requests(np.random.default_rng(0), sequences=2)
    model = build("gpt2").train()

    assert Engine(causal(model)).answer(requests) == Engine(causal(build("gpt2"))).answer(requests)


def test_a_window_longer_than_that_of_the_model_is_refused() -> None:
    with pytest.raises(ModelError, match="a context length of 100000 was requested, but that of the model is"):
        wrap_model(build("llama"), byte_tokenizer(), max_length=100_000)


def test_the_budget_is_half_of_what_is_free_and_at_least_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("llama")
    token = causal(model).token_bytes

    for free, budget in [(0, WINDOW), (2 * token * 1000, 1000), (2**50, CPU_ROW_BUDGET)]:
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
        assert causal(model).budget.size == budget


def test_the_states_of_generated_texts_may_take_half_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("llama")
    state = causal(model).state_bytes

    for free, states in [(0, WINDOW), (2 * state * 1000, 1000)]:
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free, total=2**40))
        lm = causal(model)
        lm.budget.size = 77
        assert lm.generation.limits == Limits(LOGITS // VOCABULARY, 77, states)


@pytest.mark.parametrize("own_attention", [False, True])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_nothing_but_reading_the_answers_waits_for_a_device(
    name: str, own_attention: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = causal(build(name), own_attention=own_attention)
    lm.queue_depth = 2
    row = replace(
        line([1, 2, 3, 4, 5, 6]), parents=np.array([-1, 0, 1, 2, 1, 4], np.int32), scored=np.array([5], np.int32)
    )
    rows = [row, replace(row, prefix_length=2), replace(row, prefix_length=3)]
    rows += [] if own_attention else [line([1, 2, 3, 4, 5, 6])]  # `transformers` waits for a plain row
    expected = [lm.forward([each])[0].logprobs for each in rows]
    read: list[int] = []

    def to_host(tensor: torch.Tensor) -> Any:
        def wait() -> Any:
            read.append(len(pending))
            return tensor.numpy()

        return wait

    monkeypatch.setattr("icl_eval.models.network.to_host", to_host)
    lm.clear_cache()
    with Waits() as waits:
        pending = [lm.enqueue([each]) for each in rows]

    assert (waits.found, read) == ([], [])
    np.testing.assert_array_equal([each()[0].logprobs for each in pending], expected)
    assert read == [len(rows)] * len(rows)


@pytest.mark.parametrize("operation", [lambda x: x.item(), bool, lambda x: x[x > 0], lambda x: x.nonzero()])
def test_waiting_is_seen(operation: Any) -> None:
    with Waits() as waits:
        operation(torch.ones(()) if operation is bool else torch.ones(1))

    assert waits.found


def test_positions_go_on_after_a_cached_prefix_and_each_prefix_is_computed_once() -> None:
    lm: Any = causal(build("llama"))
    lm.clear_cache()
    seen: list[tuple[list[int], list[int]]] = []
    lm.model.model.register_forward_pre_hook(
        lambda _, __, given: seen.append((given["input_ids"][0].tolist(), given["position_ids"][0].tolist())),
        with_kwargs=True,
    )

    def row(tokens: list[int], prefix_length: int) -> Row:
        parents = [*range(-1, len(tokens) - 2), prefix_length - 1]  # the last token branches off the prefix
        inputs, before = np.array(tokens, np.int32), np.array(parents, np.int32)
        return Row(inputs, before, np.array([len(tokens) - 1], np.int32), np.array([9], np.int32), prefix_length)

    for tokens, prefix_length in (
        ([5, 6, 7, 8, 9], 2),
        ([5, 6, 4, 3, 8, 9], 4),
        ([5, 6, 4, 3, 7, 8], 4),
        ([5, 6, 1, 2, 8], 3),
    ):
        lm.forward([row(tokens, prefix_length)])

    assert seen == [
        ([5, 6], [0, 1]),
        ([7, 8, 9], [2, 3, 2]),
        ([4, 3], [2, 3]),
        ([8, 9], [4, 4]),
        ([7, 8], [4, 4]),
        ([1], [2]),
        ([2, 8], [3, 3]),
    ]
