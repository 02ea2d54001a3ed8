"""Whether sequences may share a row of a model, and up to which length: from its configuration, and from tests.

Architectures differ in how they treat an ancestor mask: some do not accept it, some ignore it, and in others attention
depends on positions in the row. A test compares small branching rows with plain sequences. It measures differences of
logits relative to the effect of other input tokens, so it works for any weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from icl_eval.models.causal.rows import Row
from icl_eval.models.network import distance, ordinary_tokens, tolerance

TRUNK, UNRELATED, BRANCH = 2, 12, 3  # tokens of the test row: a shared prefix, another branch, and the branch compared
LEAK = 1e-4  # effect of a masked token, relative to that of visible ones: its weight must be 0, not just small
FAR = 9  # tokens of a shared prefix that is longer than a narrowed window
NARROW = 4  # tokens of a window during the test
SLIDING = "sliding_window"  # name of the window that layers pass to the attention, in layers and configurations
WINDOW_SETTINGS = re.compile(r"(window|window_size|window_len|attention_chunk_size|local_attention)$")


class Logits(Protocol):
    """Computes the next-token logits (targets, vocabulary) at the scored tokens of a row."""

    def __call__(self, row: Row, positions: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """The logits; the positions of tokens are their depths by default."""
        ...


@dataclass(frozen=True, slots=True)
class Sharing:
    """Whether sequences may share a row.

    Attributes:
        works: whether any sequences may share a row.
        max_shared_length: the largest number of input tokens of sequences that may share a row or a batch.
        prefix_sharing_limit: why no sequences, or no longer ones, may share a row, in one clause.
        slides: tokens of the smallest sliding window of a layer, or the context length.
    """

    works: bool
    max_shared_length: int
    prefix_sharing_limit: str = ""
    slides: int = 0


def sharing(
    config: Any,
    masks: bool,
    window: int,
    precision: str,
    logits: Logits,
    narrowed: Callable[[int], AbstractContextManager[None]] | None = None,
    size: int = 1,
) -> Sharing:
    """The sharing that a model's configuration allows, if a test confirms it.

    Args:
        config: the configuration of the text model.
        masks: whether layers have causal masks of their own, which only depend on positions in the row.
        window: context length in tokens.
        precision: the precision of the weights, such as `float32`.
        logits: runs one row.
        narrowed: a context in which the sliding windows of the model have at most this number of tokens; None if the
            attention in use does not support windows.
        size: a factor by which the test sequences are longer.
    """
    found = configured_sharing(config, masks, window, windows=narrowed is not None)
    vocabulary, rounding = int(config.vocab_size), tolerance(precision)
    size = max(1, min(size, found.max_shared_length // (FAR + BRANCH)))
    if found.works and (limit := _probe(logits, vocabulary, rounding, TRUNK, size)):
        return replace(found, works=False, prefix_sharing_limit=limit)
    if not found.works or narrowed is None or found.slides >= found.max_shared_length:
        return found
    if _windows_work(logits, narrowed, vocabulary, rounding, size, found.slides):
        return found
    return configured_sharing(config, masks, window)


def configured_sharing(config: Any, masks: bool, window: int, *, windows: bool = False) -> Sharing:
    """The sharing that a model's configuration allows, before any test.

    Args:
        config: the configuration of the text model.
        masks: whether layers have causal masks of their own.
        window: context length in tokens.
        windows: whether the attention in use supports sliding windows, so that they do not limit the length of rows.
    """
    settings = config.to_dict()
    slides = min(_window_sizes(settings), default=window)
    rope_limit = min(longrope_lengths(config), default=window)
    fixed = {name: value for name, value in settings.items() if name != SLIDING} if windows else settings
    limit = min(_window_sizes(fixed), default=window)
    length = min(limit, rope_limit, window)
    slides = min(slides, window)
    if masks:
        return Sharing(False, length, "its layers have causal masks of their own", slides)
    if "flash" in (attends := str(getattr(config, "_attn_implementation", ""))):
        return Sharing(False, length, f"{attends} does not support masks", slides)  # a test would crash on a GPU
    if length < TRUNK + BRANCH:
        return Sharing(False, length, f"its sliding window of {length} tokens is too short", slides)
    cause = "its attention uses a sliding window" if limit == length else "its rotary frequencies change"
    return Sharing(True, length, f"beyond {length} tokens {cause}" if length < window else "", slides)


@contextmanager
def narrowed(model: Any, config: Any, window: int) -> Iterator[None]:
    """Reduce all sliding windows in a model's configuration and layers to at most `window` tokens."""
    stated = [each for each in (config, *model.modules()) if isinstance(vars(each).get(SLIDING), int)]
    before = [(each, getattr(each, SLIDING)) for each in stated if getattr(each, SLIDING)]
    try:
        for each, size in before:
            setattr(each, SLIDING, min(size, window))
        yield
    finally:
        for each, size in before:
            setattr(each, SLIDING, size)


def _windows_work(
    logits: Logits,
    narrowed: Callable[[int], AbstractContextManager[None]],
    vocabulary: int,
    rounding: float,
    size: int,
    slides: int,
) -> bool:
    """Whether branching rows that are longer than a sliding window give the logits of plain sequences.

    The windows are narrowed for this test.
    """
    window = min(NARROW * size, slides)
    plain = line(ordinary_tokens((FAR + BRANCH) * size, vocabulary))
    wide = logits(plain)
    with narrowed(window):
        narrow = logits(plain)
        if window < slides and np.array_equal(narrow, wide):
            return False  # narrowing had no effect, so the windows are set elsewhere
        return not _probe(logits, vocabulary, rounding, FAR, size)


def has_causal_masks(model: Any, window: int) -> bool:
    """Whether layers of a model have causal masks of their own, as buffers of the size of its window."""
    shapes = (buffer.shape for buffer in model.buffers() if buffer.dim() >= 2)
    return any(shape[-1] == shape[-2] >= window for shape in shapes)


def _window_sizes(settings: Mapping[str, Any]) -> Iterator[int]:
    """Every number in a configuration that limits how far back a layer attends."""
    for name, value in settings.items():
        if not WINDOW_SETTINGS.search(name) or settings.get(f"use_{name}") is False:
            continue
        for size in value if isinstance(value, list | tuple) else [value]:
            if isinstance(size, int) and not isinstance(size, bool) and size > 0:
                yield size


def longrope_lengths(config: Any) -> Iterator[int]:
    """The sequence lengths beyond which rotary embeddings have other frequencies (LongRoPE)."""
    rope = getattr(config, "rope_parameters", None) or {}
    for parameters in (rope, *(value for value in rope.values() if isinstance(value, Mapping))):
        if parameters.get("rope_type") == "longrope":
            yield parameters.get("original_max_position_embeddings") or config.max_position_embeddings


def _probe(logits: Logits, vocabulary: int, rounding: float, trunk: int, size: int = 1) -> str:
    """Why a branching row does not give the logits of plain sequences, in one clause; empty if it does."""
    first, second = trunk * size, (trunk + UNRELATED) * size
    tokens = ordinary_tokens(second + BRANCH * size, vocabulary)
    others = (tokens + 1) % vocabulary
    shared_tokens, unrelated, branch = np.split(tokens, [first, second])
    plain = logits(_row([*shared_tokens, *branch], np.arange(-1, first + len(branch) - 1), len(branch)))
    effect = distance(logits(line([*others[:first], *others[second:-1], tokens[-1]])), plain[-1:])
    try:
        shared = logits(_fork(shared_tokens, unrelated, branch))
        disturbed = logits(_fork(shared_tokens, others[first:second], branch))
        misplaced = logits(_fork(shared_tokens, unrelated, branch), positions=np.arange(len(tokens)))
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, NotImplementedError) as error:
        return f"its forward pass does not accept an ancestor mask ({type(error).__name__})"
    if not distance(disturbed, shared) <= LEAK * effect:
        return "its layers ignore an ancestor mask"
    if not distance(shared, plain) <= rounding * effect or np.array_equal(misplaced, shared):
        return "its attention depends on positions in the row"
    return ""


def line(tokens: Any) -> Row:
    """A row of one plain sequence, in which the token after the last one is scored."""
    return _row(tokens, np.arange(-1, len(tokens) - 1))


def _fork(trunk: Any, unrelated: Any, branch: Any) -> Row:
    size = len(trunk) + len(unrelated)
    parents = [*range(-1, size - 1), len(trunk) - 1, *range(size, size + len(branch) - 1)]
    return _row([*trunk, *unrelated, *branch], parents, len(branch))


def _row(tokens: Any, parents: Any, branch: int = 1) -> Row:
    """A row in which the tokens after the first and the last of its last `branch` tokens are scored.

    A convolution over a few tokens only leaks into the first of them.
    """
    scored = np.unique([len(tokens) - branch, len(tokens) - 1]).astype(np.int32)
    return Row(np.array(tokens, np.int32), np.array(parents, np.int32), scored, np.zeros(len(scored), np.int32))
