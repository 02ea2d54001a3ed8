"""Pack sequences into rows that hold shared prefixes once, with the path of each sequence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from icl_eval.models.causal.rows import Row
from icl_eval.models.protocol import common_prefix

Tokens = NDArray[np.int32]
Path = NDArray[np.int32]  # the indices of a sequence's tokens in its row, (length,)


def trie_row(sequences: Sequence[Tokens], prefix_length: int) -> tuple[Row, list[Path]]:
    """A row of sequences that scores the last token of each, in their order; and their paths.

    Args:
        sequences: token sequences, none empty.
        prefix_length: leading tokens that all share and that the model caches; all sequences are longer.
    """
    order = sorted(range(len(sequences)), key=lambda index: sequences[index].tolist())
    paths = [np.empty(0, np.int32)] * len(sequences)
    tokens, parents = list[Tokens](), list[NDArray[np.int32]]()
    path, last, length = np.empty(0, np.int32), np.empty(0, np.int32), 0
    for index in order:
        sequence = sequences[index]
        common = common_prefix(last, sequence)
        new = np.arange(length, length + len(sequence) - common, dtype=np.int32)
        before = path[common - 1] if common else -1
        tokens.append(sequence[common:])
        parents.append(np.concatenate([[before], new])[: len(new)].astype(np.int32))
        path, last, length = np.concatenate([path[:common], new]), sequence, length + len(new)
        paths[index] = path
    scored = np.array([each[-1] for each in paths], np.int32)
    return Row(np.concatenate(tokens), np.concatenate(parents), scored, np.zeros_like(scored), prefix_length), paths
