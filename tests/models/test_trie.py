from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from icl_eval.models.causal.rows import depths
from icl_eval.models.generation.kv_pool import trie_row
from icl_eval.models.protocol import common_prefix

PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=12)


@given(PROMPTS)
def test_a_row_holds_every_prefix_once_and_paths_lead_to_every_prompt(prompts: list[list[int]]) -> None:
    row, paths = trie_row([np.array(prompt, np.int32) for prompt in prompts], prefix_length=0)

    assert len(row.tokens) == len({tuple(prompt[:size]) for prompt in prompts for size in range(1, len(prompt) + 1)})
    for number, (prompt, path) in enumerate(zip(prompts, paths, strict=True)):
        assert row.tokens[path].tolist() == prompt
        assert row.parents[path].tolist() == [-1, *path[:-1]]
        assert row.scored[number] == path[-1]
        assert depths(row.parents)[path].tolist() == list(range(len(prompt)))


def test_common_prefix() -> None:
    left, right = np.array([1, 2, 3], np.int32), np.array([1, 2], np.int32)

    assert common_prefix(left, right) == common_prefix(right, left) == 2
    assert common_prefix(left, left) == 3
    assert common_prefix(left, np.array([2, 2], np.int32)) == 0
