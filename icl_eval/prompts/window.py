"""Fitting a prompt into the context length: whole demonstrations only, decided once for all options of an example.

Demonstrations are dropped from the end of the draw, so a prompt that keeps m of k demonstrations is exactly the m-shot
prompt of the same draw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from icl_eval.config import Overflow
from icl_eval.errors import WindowError, counted
from icl_eval.prompts.assembly import PromptText
from icl_eval.prompts.tokens import Scored


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """One scored continuation per option, all after the same demonstrations."""

    options: tuple[Scored, ...]
    shots: int  # effective: the demonstrations that fit
    truncated: int  # tokens cut from the start of the longest option's query, only with overflow="truncate"


def fit(
    text: PromptText,
    split: Callable[[list[tuple[str, str]]], list[Scored]],
    window: int,
    overflow: Overflow = "drop",
    lengths: Callable[[list[str]], list[int]] | None = None,
    start: int = 0,
) -> FittedPrompt:
    """Keep as many demonstrations as fit `window` input tokens together with the longest option.

    Args:
        text: the prompt.
        split: (context, continuation) pairs to token ids.
        window: context length in tokens.
        overflow: `drop` demonstrations that do not fit; `error` instead; `truncate` also cuts a query that does not
            fit alone, from its start.
        lengths: token counts of texts, to guess how many demonstrations fit; the guess is then made exact.
        start: special tokens at the start of every context, which are never cut.

    Raises:
        WindowError: the query alone does not fit, or something does not fit and `overflow` is `error`.
    """
    requested = len(text.demonstrations)
    options = _encode(text, split, requested)
    if _longest(options) <= window:
        return FittedPrompt(tuple(options), requested, 0)
    if overflow == "error":
        needed = f"{counted(requested, 'demonstration takes', 'demonstrations take')} {_longest(options)} tokens"
        raise WindowError(f"{needed} but the context length is {window}")
    shots = _guess(text, _longest(options) - window, lengths)
    if shots < requested:
        options = _encode(text, split, shots)
    while _longest(options) > window and shots > 0:
        shots -= 1
        options = _encode(text, split, shots)
    while shots + 1 < requested and _longest(more := _encode(text, split, shots + 1)) <= window:
        shots, options = shots + 1, more
    excess = _longest(options) - window
    if excess <= 0:
        return FittedPrompt(tuple(options), shots, 0)
    if overflow != "truncate":
        raise WindowError(
            f"the query alone takes {_longest(options)} tokens but the context length is {window}; "
            "--overflow truncate cuts its start"
        )
    return FittedPrompt(_cut(options, excess, start), 0, excess)


def _encode(text: PromptText, split: Callable[[list[tuple[str, str]]], list[Scored]], shots: int) -> list[Scored]:
    return split(list(zip(text.contexts(shots), text.answers, strict=True)))


def _longest(options: list[Scored]) -> int:
    return max(option.input_length for option in options)


def _guess(text: PromptText, excess: int, lengths: Callable[[list[str]], list[int]] | None) -> int:
    """How many demonstrations are left when the last ones that add up to `excess` tokens go."""
    shots = len(text.demonstrations)
    if lengths is None or shots == 0:
        return max(shots - 1, 0)
    for length in reversed(lengths([demonstration + text.separator for demonstration in text.demonstrations])):
        if excess <= 0:
            break
        excess -= length
        shots -= 1
    return shots


def _cut(options: list[Scored], excess: int, start: int) -> tuple[Scored, ...]:
    """Cut the same number of tokens from the start of every option's context, so that all still see the same one."""
    if excess >= min(len(option.context) for option in options) - start:
        raise WindowError("an option alone exceeds the context length, even if the whole query is cut")
    return tuple(replace(each, context=each.context[:start] + each.context[start + excess :]) for each in options)
