"""How far a model lets sequences share a row: what its configuration says, and what small branching rows show.

Architectures differ in what they make of an ancestor mask: some refuse it, some ignore it, some count distances by
place in the row. What is measured is compared with the effect of other visible tokens, so it holds for any weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from icl_eval.models.protocol import Row

TRUNK, STRANGERS, BRANCH = 2, 12, 3  # tokens of the probe: seen by all, by others, and under test
LEAK = 1e-4  # of the effect of other visible tokens: a masked token has the weight 0, not a small one
FAR = 9  # tokens of a trunk that a narrowed window does not reach across
NARROW = 4  # tokens of a window while it is probed
TOLERANCE = {"float32": 1e-3, "float64": 1e-3}  # of that effect; coarser types round by more
COARSE_TOLERANCE = 0.25
SLIDING = "sliding_window"  # what layers and configurations call a window that the attention is told of
REACH = re.compile(r"(window|window_size|window_len|attention_chunk_size|local_attention)$")


class Logits(Protocol):
    """The next-token logits (targets, vocabulary) at a row's scored places."""

    def __call__(self, row: Row, positions: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """By default every token's position is its depth."""
        ...


@dataclass(frozen=True, slots=True)
class Sharing:
    """Whether sequences may share a row.

    Attributes:
        works: whether any may.
        reach: input tokens up to which they may, and up to which batch mates do not matter.
        why_not: one clause saying why none may, or none that is longer.
        slides: tokens of the smallest window of a layer, or all that the model reads at once.
    """

    works: bool
    reach: int
    why_not: str = ""
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
        masks: whether layers carry causal masks of their own, which know places in the row alone.
        window: tokens the model reads at once.
        precision: of its weights, such as `float32`.
        logits: runs one row.
        narrowed: makes the model's sliding windows that small; none if its attention knows no windows.
        size: by how much to multiply the tokens of the probes.
    """
    found = configured_sharing(config, masks, window, windows=narrowed is not None)
    vocabulary, rounding = int(config.vocab_size), tolerance(precision)
    size = max(1, min(size, found.reach // (FAR + BRANCH)))
    if found.works and (why_not := _probe(logits, vocabulary, rounding, TRUNK, size)):
        return replace(found, works=False, why_not=why_not)
    if not found.works or narrowed is None or found.slides >= found.reach:
        return found
    if _windows_work(logits, narrowed, vocabulary, rounding, size, found.slides):
        return found
    return configured_sharing(config, masks, window)


def configured_sharing(config: Any, masks: bool, window: int, *, windows: bool = False) -> Sharing:
    """What a model's configuration allows, before any probe; `windows` if rows may branch beyond sliding windows."""
    settings = config.to_dict()
    slides = min(_attention_reaches(settings), default=window)
    turns = min(longrope_lengths(config), default=window)
    fixed = {name: value for name, value in settings.items() if name != SLIDING} if windows else settings
    limit = min(_attention_reaches(fixed), default=window)
    reach = min(limit, turns, window)
    slides = min(slides, window)
    if masks:
        return Sharing(False, reach, "its layers mask by place in the row", slides)
    if "flash" in (attends := str(getattr(config, "_attn_implementation", ""))):
        return Sharing(False, reach, f"{attends} takes no mask", slides)  # not asked: on a GPU it would take its life
    if reach < TRUNK + BRANCH:
        return Sharing(False, reach, f"its attention slides over {reach} tokens", slides)
    cause = "its attention slides" if limit == reach else "its rotary frequencies change"
    return Sharing(True, reach, f"beyond {reach} tokens {cause}" if reach < window else "", slides)


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


def own_masks(model: Any, window: int) -> bool:
    """Whether layers of a model carry causal masks of their own, as long as its window."""
    shapes = (buffer.shape for buffer in model.buffers() if buffer.dim() >= 2)
    return any(shape[-1] == shape[-2] >= window for shape in shapes)


def tolerance(precision: str) -> float:
    """What rounding alone may change, as a share of the effect of other visible tokens."""
    return TOLERANCE.get(precision, COARSE_TOLERANCE)


def _attention_reaches(settings: Mapping[str, Any]) -> Iterator[int]:
    """Every size that limits how far back some layer looks."""
    for name, value in settings.items():
        if not REACH.search(name) or settings.get(f"use_{name}") is False:
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
    first, second = trunk * size, (trunk + STRANGERS) * size
    tokens = ordinary_tokens(second + BRANCH * size, vocabulary)
    others = (tokens + 1) % vocabulary
    shown, strangers, branch = np.split(tokens, [first, second])
    plain = logits(_row([*shown, *branch], np.arange(-1, first + len(branch) - 1), len(branch)))
    effect = distance(logits(line([*others[:first], *others[second:-1], tokens[-1]])), plain[-1:])
    try:
        shared = logits(_fork(shown, strangers, branch))
        disturbed = logits(_fork(shown, others[first:second], branch))
        misplaced = logits(_fork(shown, strangers, branch), positions=np.arange(len(tokens)))
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, NotImplementedError) as error:
        return f"its forward pass takes no ancestor mask ({type(error).__name__})"
    if not distance(disturbed, shared) <= LEAK * effect:
        return "its layers do not follow an ancestor mask"
    if not distance(shared, plain) <= rounding * effect or np.array_equal(misplaced, shared):
        return "it counts distances by place in the row"
    return ""


def ordinary_tokens(size: int, vocabulary: int) -> NDArray[np.int64]:
    """Tokens from all over a vocabulary: after special ones, at its beginning, 16 bits may be little but rounding."""
    return (np.arange(size, dtype=np.int64) * 7919 + 11) % vocabulary


def distance(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """Root mean square of the difference: over a large vocabulary the largest one is mostly rounding."""
    return float(np.sqrt(np.mean(np.square(left - right))))


def line(tokens: Any) -> Row:
    """A row of one plain sequence, asked for what follows its last token."""
    return _row(tokens, np.arange(-1, len(tokens) - 1))


def _fork(trunk: Any, strangers: Any, branch: Any) -> Row:
    size = len(trunk) + len(strangers)
    parents = [*range(-1, size - 1), len(trunk) - 1, *range(size, size + len(branch) - 1)]
    return _row([*trunk, *strangers, *branch], parents, len(branch))


def _row(tokens: Any, parents: Any, branch: int = 1) -> Row:
    """A row asked for what follows the first and the last of its last `branch` tokens.

    A convolution over few tokens leaks into the first alone.
    """
    asked = np.unique([len(tokens) - branch, len(tokens) - 1]).astype(np.int32)
    return Row(np.array(tokens, np.int32), np.array(parents, np.int32), asked, np.zeros(len(asked), np.int32))
