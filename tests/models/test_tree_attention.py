from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_eval.models import ScoreRequest
from icl_eval.models.causal.blocks import DENSE, Block, TreePlan
from icl_eval.models.causal.rows import Packing, Row, RowSizes, pack
from icl_eval.models.causal.tree_attention import (
    QUERIES,
    Kernel,
    Scores,
    attending,
    checked,
    efficient_sequences,
    flash_blocks,
    flash_sequences,
    plain_blocks,
)

from .cuda_kernels import emulated
from .test_network import Exponentials

TEXTS = st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=14), min_size=1, max_size=20)


def rows(texts: list[list[int]], limit: int) -> list[Row]:
    requests = {index: ScoreRequest.of(text[:-1], text[-1:]) for index, text in enumerate(texts)}
    sizes = RowSizes(min_prefix=2)
    packing = Packing(share=True, limit=limit, width=8, cache_prefixes=True, tree_attention=True, sizes=sizes)
    return [packed.row for packed in pack(requests, packing)]


def seen_by(block: Block) -> np.ndarray:
    """Which of its keys each query of a block sees, 0 or 1."""
    shape = block.queries.stop - block.queries.start, block.keys.stop - block.keys.start
    if block.visible is not None:
        return block.visible.astype(int)
    return np.tri(*shape, dtype=int) if block.causal else np.ones(shape, int)


def ancestors_within(row: Row, window: int | None) -> np.ndarray:
    """Which tokens each new one sees, counted from child to parent."""
    sees = np.zeros((len(row.tokens), len(row.tokens)), int)
    for token in range(len(sees)):
        index, left = token, window or len(sees)
        while index >= 0 and left:
            sees[token, index] = 1
            index, left = int(row.parents[index]), left - 1
    return sees[row.prefix_length :]


@settings(max_examples=60)
@given(TEXTS, st.sampled_from([6, 40]), st.sampled_from([1, 4, 256]), st.sampled_from([None, 1, 2, 5]))
def test_blocks_show_every_token_its_ancestors_within_the_window_exactly_once(
    texts: list[list[int]], limit: int, dense: int, window: int | None
) -> None:
    for row in rows(texts, limit):
        check_blocks(row, dense, window)


def check_blocks(row: Row, dense: int, window: int | None) -> None:
    seen = np.zeros((len(row.tokens) - row.prefix_length, len(row.tokens)), int)
    started = np.zeros(len(seen), bool)
    plan = TreePlan(row.parents, row.prefix_length, dense=dense)
    for block in plan.blocks(window):
        seen[block.queries, block.keys] += seen_by(block)
        assert (started[block.queries] == (not block.includes_queries)).all()
        started[block.queries] = True

    expected = ancestors_within(row, window)
    assert (seen == expected).all()
    assert (plan.visible(window) == expected).all()


SCORES = st.builds(
    Scores,
    scaling=st.sampled_from([None, 0.3]),
    softcap=st.sampled_from([None, 0.5]),
    window=st.sampled_from([None, 1, 3]),
    sinks=st.sampled_from([None, torch.tensor([0.5, -1.0, 2.0, 0.0])]),
)


@settings(max_examples=25)
@given(TEXTS, st.sampled_from([1, 4, 256]), st.sampled_from([1, 2]), SCORES)
def test_every_kernel_equals_attention_behind_a_mask(
    texts: list[list[int]], dense: int, shared: int, scores: Scores
) -> None:
    with emulated():
        for row in rows(texts, limit=12):
            torch.manual_seed(len(texts))
            check_kernels(row, dense, shared, scores)


def check_kernels(row: Row, dense: int, shared: int, scores: Scores) -> None:
    query = torch.randn(1, 4, len(row.tokens) - row.prefix_length, 8)
    key, value = torch.randn(2, 1, 4 // shared, len(row.tokens), 8)
    sees = torch.from_numpy(ancestors_within(row, scores.window) > 0)
    products = query @ key.repeat_interleave(shared, dim=1).transpose(2, 3) * (scores.scaling or 8**-0.5)
    if scores.softcap:
        products = scores.softcap * torch.tanh(products / scores.softcap)
    weights = products.masked_fill(~sees, -torch.inf).exp()
    total = weights.sum(dim=-1, keepdim=True)
    if scores.sinks is not None:
        total = total + scores.sinks.exp()[:, None, None]
    expected = weights / total @ value.repeat_interleave(shared, dim=1)

    for kernel in (flash_blocks, plain_blocks, flash_sequences, efficient_sequences):
        if scores.softcap and kernel is not plain_blocks:
            with pytest.raises(ValueError, match="does not support soft caps"):
                run(query, key, value, row, scores, kernel, dense)
        else:
            output = run(query, key, value, row, scores, kernel, dense)
            assert (output.transpose(1, 2) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("prefix_length", [0, 40])
@pytest.mark.parametrize(("dense", "window"), [(4, None), (4, 270), (1000, None), (1000, 270)])
def test_branches_of_more_tokens_than_are_computed_at_once(dense: int, window: int | None, prefix_length: int) -> None:
    trunk, size = 40, QUERIES + 44
    ends = [trunk + size, trunk + 2 * size]
    parents = np.array([*range(-1, ends[0] - 1), trunk - 1, *range(ends[0], ends[1] - 1)], np.int32)
    row = Row(np.zeros(ends[1], np.int32), parents, np.array(ends, np.int32) - 1, np.zeros(2, np.int32), prefix_length)
    torch.manual_seed(0)

    check_blocks(row, dense, window)
    with emulated():
        check_kernels(row, dense, 2, Scores(window=window))


def test_matrix_products_hold_the_scores_of_few_queries_and_of_no_later_keys() -> None:
    length = 2 * QUERIES + 8
    states, plan = torch.zeros(1, 1, length, 4), TreePlan(np.arange(-1, length - 1, dtype=np.int32), 0)

    with Exponentials() as found:
        plain_blocks(plan, Scores(), states, states, states)

    assert found.sizes == [QUERIES * QUERIES, QUERIES * 2 * QUERIES, 8 * length]


def test_adjacent_segments_share_a_block_of_at_most_so_many_tokens() -> None:
    parents = np.array([*range(-1, 9), 9, 10, 11, 9, 13, 14, 9, 16, 17], np.int32)  # three branches of three tokens

    def found(dense: int) -> list[tuple[int, int]]:
        blocks = TreePlan(parents, 0, dense=dense).blocks()
        return [(block.queries.start, block.queries.stop) for block in blocks if block.includes_queries]

    assert found(19) == [(0, 19)]
    assert found(18) == found(6) == [(0, 13), (13, 19)]  # the first branch goes on in the trunk's block
    assert found(5) == [(0, 13), (13, 16), (16, 19)]


def test_a_long_trunk_and_what_branches_off_it_need_three_calls() -> None:
    trunk = list(range(400))
    (row,) = rows([[*trunk, 1, 2, 0], [*trunk, 3, 4, 5], [*trunk, 3, 6, 7]], limit=4096)

    found = TreePlan(row.parents, 0).blocks()

    assert [(block.queries.start, block.keys.start, block.causal) for block in found] == [
        (0, 0, True),
        (402, 402, False),
        (402, 0, False),
    ]


def test_the_trunk_before_the_window_is_not_attended_to() -> None:
    trunk = list(range(1000))
    (row,) = rows([[*trunk, *range(800), 0], [*trunk, 3, 4, 5]], limit=4096)

    found = TreePlan(row.parents, 0).blocks(window=100)

    assert sum(seen_by(block).size for block in found) < 1810 * (100 + 256)


def test_position_biases_are_refused() -> None:
    row = Row(*(np.array([0], np.int32),) * 4)
    states = torch.zeros(1, 4, 1, 8)

    with pytest.raises(ValueError, match="neither masks nor position biases"):
        run(states, states, states, row, Scores(), flash_blocks, position_bias=torch.zeros(1))


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize(
    ("kernel", "dtype"),
    [(flash_sequences, torch.bfloat16), (efficient_sequences, torch.float32), (plain_blocks, torch.float32)],
)
def test_no_kernel_waits_for_values_on_the_device(kernel: Kernel, dtype: torch.dtype, window: int | None) -> None:
    """Tensors on the meta device have no values, so reading one raises an error."""
    (row,) = rows([[0, 1, 2, 0], [0, 1, 1, 2, 2], [0, 2, 2, 1]], limit=40)
    query = torch.empty(1, 4, len(row.tokens), 8, dtype=dtype, device="meta")
    states = torch.empty(1, 2, len(row.tokens), 8, dtype=dtype, device="meta")

    output, logsumexp = kernel(TreePlan(row.parents, 0, dense=2), Scores(window=window), query, states, states)

    assert output.shape == query.shape
    assert logsumexp.shape == query.shape[:3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_kernel_that_is_wrong_is_found_by_its_check(dtype: torch.dtype) -> None:
    (row,) = rows([[0, 1, 2, 0], [0, 1, 1, 2, 2], [0, 2, 2, 1]], limit=40)
    states = torch.randn(3, 1, 4, len(row.tokens), 8, generator=torch.manual_seed(0)).to(dtype)
    plan = TreePlan(row.parents, 0)

    def in_bits(*given: Any) -> Any:
        output, weight = plain_blocks(*given)
        return output, weight / np.log(2)

    def blind(plan: TreePlan, scores: Scores, *given: Any) -> Any:
        return plain_blocks(plan, replace(scores, window=None), *given)

    checked(plain_blocks)(plan, Scores(window=2), *states)
    for wrong in (in_bits, blind):
        with pytest.raises(RuntimeError, match="gives other results than matrix products"):
            checked(wrong)(plan, Scores(window=2), *states)


def run(
    query: Any,
    key: Any,
    value: Any,
    row: Row,
    scores: Scores,
    kernel: Kernel,
    dense: int = DENSE,
    **settings: Any,
) -> torch.Tensor:
    """The layer's attention as `transformers` calls it."""
    from transformers import LlamaConfig
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    config = LlamaConfig()
    config._attn_implementation = "sdpa"
    options = {"softcap": scores.softcap, "sliding_window": scores.window, "s_aux": scores.sinks, **settings}
    with attending(config, TreePlan(row.parents, row.prefix_length, dense=dense), kernel):
        function = ALL_ATTENTION_FUNCTIONS[config._attn_implementation]
        output: torch.Tensor = function(
            torch.nn.Identity(), query, key, value, None, scaling=scores.scaling, **options
        )[0]
    assert config._attn_implementation == "sdpa"
    return output
