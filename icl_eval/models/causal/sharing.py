"""Find out how far a model lets sequences share a row, from its configuration and from small branching rows.

Architectures differ in how they treat an ancestor mask: some refuse it, some ignore it, some count distances by
position in the row. Differences are compared with the effect of other visible tokens, so this
holds for any weights.
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

TRUNK, UNRELATED, BRANCH = 2, 12, 3  # tokens of the probe: seen by all, by others, and under test
LEAK = 1e-4  # of the effect of other visible tokens: a masked token has the weight 0, not a small one
FAR = 9  # tokens of a trunk that is longer than a narrowed window
NARROW = 4  # tokens of a window while it is probed
SLIDING = "sliding_window"  # what layers and configurations call a window that they pass to the attention
WINDOW_SETTINGS = re.compile(r"(window|window_size|window_len|attention_chunk_size|local_attention)$")


class Logits(Protocol):
    """The next-token logits (targets, vocabulary) at a row's scored tokens."""

    def __call__(self, row: Row, positions: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """By default every token's position is its depth."""
        ...


@dataclass(frozen=True, slots=True)
class Sharing:
    """Whether sequences may share a row.

    Attributes:
        works: whether any sequences may share a row.
        max_shared_length: input tokens up to which they may, and up to which other rows of the batch do not matter.
        prefix_sharing_limit: one clause saying why no sequences, or no longer ones, may share a row.
        slides: tokens of the smallest window of a layer, or the context length.
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
    """What a model's configuration allows, once a probe has confirmed it.

    Args:
        config: the configuration of the language model proper.
        masks: whether layers carry their own causal masks, which know nothing but indices in the row.
        window: context length in tokens.
        precision: of its weights, such as `float32`.
        logits: runs one row.
        narrowed: makes the model's sliding windows that small; none if its attention knows no windows.
        size: by how much to multiply the tokens of the probes.
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
    """What a model's configuration allows, before any probe; `windows` if rows may branch beyond sliding windows."""
    settings = config.to_dict()
    slides = min(_window_sizes(settings), default=window)
    rope_limit = min(longrope_lengths(config), default=window)
    fixed = {name: value for name, value in settings.items() if name != SLIDING} if windows else settings
    limit = min(_window_sizes(fixed), default=window)
    length = min(limit, rope_limit, window)
    slides = min(slides, window)
    if masks:
        return Sharing(False, length, "its layers mask by position in the row", slides)
    if "flash" in (attends := str(getattr(config, "_attn_implementation", ""))):
        return Sharing(False, length, f"{attends} takes no mask", slides)  # not tried: it would crash on a GPU
    if length < TRUNK + BRANCH:
        return Sharing(False, length, f"its attention slides over {length} tokens", slides)
    cause = "its attention slides" if limit == length else "its rotary frequencies change"
    return Sharing(True, length, f"beyond {length} tokens {cause}" if length < window else "", slides)


@contextmanager
def narrowed(model: Any, config: Any, window: int) -> Iterator[None]:
    """Make the sliding windows of a model at most that small, wherever its configuration and its layers state them."""
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
    """Whether rows branch beyond a window as plain sequences slide; tried on windows made small enough for a probe."""
    window = min(NARROW * size, slides)
    plain = line(ordinary_tokens((FAR + BRANCH) * size, vocabulary))
    wide = logits(plain)
    with narrowed(window):
        narrow = logits(plain)
        if window < slides and np.array_equal(narrow, wide):
            return False  # nothing shows that windows are where they seem to be
        return not _probe(logits, vocabulary, rounding, FAR, size)


def has_causal_masks(model: Any, window: int) -> bool:
    """Whether layers of a model carry their own causal masks, as long as its window."""
    shapes = (buffer.shape for buffer in model.buffers() if buffer.dim() >= 2)
    return any(shape[-1] == shape[-2] >= window for shape in shapes)


def _window_sizes(settings: Mapping[str, Any]) -> Iterator[int]:
    """Every size that limits how far back some layer looks."""
    for name, value in settings.items():
        if not WINDOW_SETTINGS.search(name) or settings.get(f"use_{name}") is False:
            continue
        for size in value if isinstance(value, list | tuple) else [value]:
            if isinstance(size, int) and not isinstance(size, bool) and size > 0:
                yield size


def longrope_lengths(config: Any) -> Iterator[int]:
    """Sequence lengths at which rotary embeddings change their frequencies."""
    rope = getattr(config, "rope_parameters", None) or {}
    for parameters in (rope, *(value for value in rope.values() if isinstance(value, Mapping))):
        if parameters.get("rope_type") == "longrope":
            yield parameters.get("original_max_position_embeddings") or config.max_position_embeddings


def _probe(logits: Logits, vocabulary: int, rounding: float, trunk: int, size: int = 1) -> str:
    """Why a branching row does not give what its plain sequences give; empty if it does."""
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
        return f"its forward pass takes no ancestor mask ({type(error).__name__})"
    if not distance(disturbed, shared) <= LEAK * effect:
        return "its layers do not follow an ancestor mask"
    if not distance(shared, plain) <= rounding * effect or np.array_equal(misplaced, shared):
        return "it counts distances by position in the row"
    return ""


def line(tokens: Any) -> Row:
    """A row of one plain sequence that scores what follows its last token."""
    return _row(tokens, np.arange(-1, len(tokens) - 1))


def _fork(trunk: Any, unrelated: Any, branch: Any) -> Row:
    size = len(trunk) + len(unrelated)
    parents = [*range(-1, size - 1), len(trunk) - 1, *range(size, size + len(branch) - 1)]
    return _row([*trunk, *unrelated, *branch], parents, len(branch))


def _row(tokens: Any, parents: Any, branch: int = 1) -> Row:
    """A row that scores what follows the first and the last of its last `branch` tokens.

    A convolution over few tokens leaks into the first alone.
    """
    scored = np.unique([len(tokens) - branch, len(tokens) - 1]).astype(np.int32)
    return Row(np.array(tokens, np.int32), np.array(parents, np.int32), scored, np.zeros(len(scored), np.int32))
