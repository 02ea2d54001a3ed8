from __future__ import annotations

from copy import copy
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from icl_eval.engine import Engine
from icl_eval.models import Budget, ScoreRequest
from icl_eval.models.causal import model as module
from icl_eval.models.causal.blocks import TreePlan
from icl_eval.models.causal.model import CausalLM
from icl_eval.models.causal.rows import Packing, RowSizes, pack
from icl_eval.models.causal.tree_attention import efficient_sequences, flash_sequences, plain_blocks

from .architectures import CONFIGS, UNHEEDED, VOCABULARY, WHY_NOT, WINDOW, build
from .checkpoints import byte_tokenizer
from .cuda_kernels import emulated
from .reference import furthest, random_requests, references, worst

MASKED = {
    "gptj",
    "falcon",
}  # share behind masks: their attention is not the registry's
CAPPED = {"gemma2", "gemma2_capped"}
BY_KERNEL = ["gemma2", "gemma2_capped", "gemma3", "gpt_oss", "llama", "mistral_sliding"]  # caps, windows, sinks, groups


def causal(model: Any) -> CausalLM:
    return CausalLM(model, byte_tokenizer(), "tiny", "weights", bos=False, window=WINDOW)


@cache
def sharp(name: str) -> Any:
    return build(name, sharpness=3.0)


@cache
def paths(name: str) -> dict[str, CausalLM]:
    """One model that goes by pieces if it can, by masks if it can, and sequence by sequence."""
    pieces = causal(sharp(name))
    masks, plain = copy(pieces), copy(pieces)
    masks.max_shared_length, masks.has_tree_attention = masks._sharing(None).max_shared_length, False
    plain.shares_prefixes = False
    return {"pieces": pieces, "masks": masks, "plain": plain}


def probed(name: str) -> CausalLM:
    """One model that is probed once, with a budget of its own."""
    lm = copy(paths(name)["pieces"])
    lm.budget = replace(lm.budget)
    return lm


@pytest.mark.parametrize("name", CONFIGS)
def test_every_path_equals_the_reference(name: str) -> None:
    """Requests that share beginnings, are prefixes of others, repeat them, and score other parts of the same tokens."""
    requests = random_requests(np.random.default_rng(len(name)))
    answers = {path: Engine(lm).answer(requests) for path, lm in paths(name).items()}

    expected = references(sharp(name), requests)
    for found in answers.values():
        assert furthest(expected, found) < 1e-4
        assert [answer.greedy for answer in found] == [answer.greedy for answer in answers["plain"]]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_says_which_path_it_takes(name: str) -> None:
    lm = paths(name)["pieces"]

    assert lm.prefix_sharing_limit == WHY_NOT.get(name, "")
    assert lm.has_tree_attention == (lm.shares_prefixes and name not in MASKED)
    assert name in WHY_NOT or (lm.shares_prefixes and lm.max_shared_length == WINDOW)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in WHY_NOT])
def test_rows_on_cached_prefixes_equal_the_reference(name: str) -> None:
    lm = copy(paths(name)["pieces"])
    lm.budget, lm.row_sizes = Budget(16), RowSizes(min_prefix=4, after_prefix=16)
    requests = random_requests(np.random.default_rng(len(name)), sequences=10)
    packing = Packing(
        share=True,
        limit=16,
        width=32,
        cache_prefixes=True,
        tree_attention=lm.has_tree_attention,
        sizes=lm.row_sizes,
    )
    used = [row for row in pack(dict(enumerate(requests)), packing) if row.row.prefix_length]

    answers = Engine(lm).answer(requests)

    assert lm.caches_prefixes
    assert len(used) > 3
    assert worst(sharp(name), requests, answers) < 1e-4


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        *((name, flash_sequences) for name in ("gpt2", "opt", "phi", "qwen3", *BY_KERNEL)),
        *((name, efficient_sequences) for name in BY_KERNEL),
    ],
)
def test_what_the_kernels_of_cuda_compute_equals_the_reference(
    name: str, kernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "kernels_of", lambda _: [kernel, plain_blocks])
    requests = random_requests(np.random.default_rng(len(name)), sequences=8)
    with emulated():
        lm = causal(sharp(name))
        lm.budget.size, lm.row_sizes = 48, RowSizes(min_prefix=4)
        answers = Engine(lm).answer(requests)

    assert lm._kernel is (plain_blocks if name in CAPPED else kernel)
    assert lm.has_tree_attention
    assert lm.max_shared_length == WINDOW
    assert worst(sharp(name), requests, answers) < 1e-4


@pytest.mark.parametrize("name", sorted(name for name, why in WHY_NOT.items() if why == UNHEEDED))
def test_siblings_never_leak_into_one_another_through_a_recurrent_state(name: str) -> None:
    """They get separate sequences: the tokens of a sibling change nothing, to the last bit."""
    lm, context = probed(name), list(range(3, 20))
    found = {
        sibling: Engine(lm).answer([ScoreRequest.of(context, [sibling] * 6), ScoreRequest.of(context, [9, 8, 7])])[1]
        for sibling in (5, 100)
    }

    assert not lm.shares_prefixes
    assert found[5] == found[100]


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "mistral_sliding", "phi3_sliding", "qwen2_sliding", "gpt_oss"])
def test_rows_branch_beyond_a_window_and_compute_the_tokens_of_the_trie(name: str) -> None:
    context = np.random.default_rng(1).integers(3, VOCABULARY, 40).tolist()
    requests = [ScoreRequest.of(context, [token, *context[:5]]) for token in range(3, 9)]
    engine = Engine(probed(name))

    answers = engine.answer(requests)

    assert engine.tokens == 40 + 6 * 5
    assert worst(sharp(name), requests, answers) < 1e-4


def test_a_layer_that_hides_its_window_does_not_branch_beyond_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("gemma3", sharpness=3.0)
    for layer in model.model.layers:
        layer.self_attn.sliding_window = None  # the mask still slides
    lm = causal(model)
    requests = random_requests(np.random.default_rng(2))

    assert (lm.shares_prefixes, lm.max_shared_length, lm.prefix_sharing_limit) == (
        True,
        12,
        "beyond 12 tokens its attention uses a sliding window",
    )
    assert worst(model, requests, Engine(lm).answer(requests)) < 1e-4


def test_a_kernel_that_fails_later_gives_way_to_matrix_products(monkeypatch: pytest.MonkeyPatch) -> None:
    def limited(plan: TreePlan, *given: Any) -> Any:
        if len(plan.parents) > 30:
            raise RuntimeError("head dimension not supported\n  in a file")
        return plain_blocks(plan, *given)

    monkeypatch.setattr(module, "kernels_of", lambda _: [limited, plain_blocks])
    lm, requests = causal(sharp("llama")), random_requests(np.random.default_rng(2))

    with pytest.warns(
        RuntimeWarning, match=r"an attention kernel failed \(head dimension not supported\); slower matrix"
    ):
        answers = Engine(lm).answer(requests)

    assert worst(sharp("llama"), requests, answers) < 1e-4


@pytest.mark.parametrize("budget", [1, 48, 100_000])
@pytest.mark.parametrize("name", ["llama", "gemma3", "phi3_longrope", "mpt", "jamba"])
def test_answers_do_not_depend_on_budget_order_or_company(name: str, budget: int) -> None:
    lm = probed(name)
    requests = random_requests(np.random.default_rng(budget))
    together = Engine(lm).answer(requests)
    shuffled = np.random.default_rng(1).permutation(len(requests))

    lm.budget.size = budget
    half = shuffled[: len(requests) // 2].tolist()
    apart = dict(zip(half, Engine(lm).answer([requests[index] for index in half]), strict=True))

    for index, answer in apart.items():
        assert answer.logprobs == pytest.approx(together[index].logprobs, abs=1e-4)
        assert answer.greedy == together[index].greedy


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, torch.bfloat16) for name in CONFIGS] + [(name, torch.float16) for name in ("gpt2", "gemma3", "jamba")],
)
def test_rounding_does_not_change_what_is_shared(name: str, dtype: torch.dtype) -> None:
    lm = causal(build(name).to(dtype))

    assert lm.prefix_sharing_limit == WHY_NOT.get(name, "")
    assert name in WHY_NOT or (lm.shares_prefixes and lm.max_shared_length == WINDOW)


@pytest.mark.parametrize("name", ["phi3_longrope", "mpt", "jamba", "rwkv", "lfm2"])
def test_sharing_regardless_would_be_wrong(name: str) -> None:
    lm, requests = probed(name), random_requests(np.random.default_rng(7), longest=30)

    lm.shares_prefixes, lm.max_shared_length, lm.budget.size = True, WINDOW, WINDOW - 4
    answers = Engine(lm).answer(requests)

    assert worst(sharp(name), requests, answers) > 1e-3


@pytest.mark.parametrize("kind", ["inlined", "by_keyword", "mixing", "reshaping"])
def test_a_head_that_does_not_take_single_positions_gets_all_positions(kind: str) -> None:
    model = build("llama", sharpness=3.0)
    head = model.lm_head
    model.lm_head = _HEADS[kind](head)
    model.get_output_embeddings = lambda: head if kind in ("inlined", "by_keyword") else model.lm_head
    model.register_forward_pre_hook(lambda _, __, inputs: _batch.append(len(inputs["input_ids"])), with_kwargs=True)
    lm = causal(model)
    requests = random_requests(np.random.default_rng(3))

    answers = Engine(lm).answer(requests)

    assert worst(lambda ids: model(input_ids=ids), requests, answers) < 1e-4


_batch: list[int] = []  # sizes of the batches that models were given


class _Inlined(torch.nn.Module):
    """Uses a head's weights without calling it."""

    def __init__(self, head: torch.nn.Linear) -> None:
        super().__init__()
        self.inner, self.weight = head, head.weight

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden @ self.weight.T


class _ByKeyword(_Inlined):
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.inner(input=hidden)
        return logits


class _Mixing(_Inlined):
    """Its logits also depend on the first position of the sequence."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden @ self.weight.T + (hidden[:, :1] @ self.weight.T).roll(1, dims=-1)


class _Reshaping(_Inlined):
    """Splits its input by the batch that the model was given."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if len(hidden) != _batch[-1]:
            raise RuntimeError(f"shape {tuple(hidden.shape)} is invalid for a batch of {_batch[-1]}")
        return hidden @ self.weight.T


_HEADS = {"inlined": _Inlined, "by_keyword": _ByKeyword, "mixing": _Mixing, "reshaping": _Reshaping}


def test_vocabulary_size_is_that_of_the_model() -> None:
    assert causal(build("gpt2")).vocabulary == VOCABULARY


@pytest.mark.parametrize("name", ["gemma2", "mpt"])
def test_answers_do_not_depend_on_the_number_of_threads(name: str) -> None:
    requests = random_requests(np.random.default_rng(5))
    before = torch.get_num_threads()
    found = {}
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found[threads] = Engine(causal(sharp(name))).answer(requests)
    finally:
        torch.set_num_threads(before)

    for answers in found.values():
        for one, other in zip(answers, found[1], strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
            assert one.greedy == other.greedy
