"""Token ids of prompts that fit the context length.

Context and continuation are encoded together and split at their common prefix; for encoder-decoder models, they are
encoded separately. To fit the context length, whole demonstrations are dropped, the same ones for all options of an
example, from the end of the draw. So a prompt with m of k demonstrations is exactly the m-shot prompt of the draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from icl_eval.config import Overflow
from icl_eval.errors import PromptError, WindowError, counted
from icl_eval.prompts.assembly import PromptText

Encode = Callable[[Sequence[str]], list[list[int]]]  # encodes texts to token ids, without special tokens


@dataclass(frozen=True, slots=True)
class Scored:
    """Token ids of a context, and of the continuation that is scored after it.

    Attributes:
        context: token ids of the context, with special tokens.
        continuation: token ids of the continuation.
        apart: whether they are inputs of encoder and decoder, each with its own context length.
    """

    context: list[int]
    continuation: list[int]
    apart: bool = False

    @property
    def input_length(self) -> int:
        """Number of tokens that must fit the context length: all but the last, or those of the longer input."""
        if self.apart:
            return max(len(self.context), len(self.continuation))
        return len(self.context) + len(self.continuation) - 1


def split_tokens(encode: Encode, texts: Sequence[tuple[str, str]], start: Sequence[int], fallback: int) -> list[Scored]:
    """Encode the options of one question, pairs of context and continuation, together.

    The tokens of the context are the longest common prefix of enc(context) and enc(context + continuation). If a token
    crosses the boundary, the whole token belongs to the continuation, so the scored text is always the text of the
    prompt. Pairs with the same context are split at the same position, the first that any of them needs, so that their
    log-probabilities have the same condition. So a call must contain all options of a question and nothing else.

    Args:
        encode: encodes texts to token ids, without special tokens.
        texts: pairs of context and continuation.
        start: special tokens before every text.
        fallback: the token that replaces an empty context.

    Raises:
        PromptError: a continuation adds no tokens to its context.
    """
    contexts = list(dict.fromkeys(context for context, _ in texts))
    encoded = encode([*contexts, *(context + continuation for context, continuation in texts)])
    ids_of = dict(zip(contexts, encoded[: len(contexts)], strict=True))
    boundary_of = {context: len(ids) for context, ids in ids_of.items()}
    wholes = encoded[len(contexts) :]
    for (context, continuation), whole in zip(texts, wholes, strict=True):
        boundary = common_prefix(ids_of[context], whole)
        if boundary == len(whole):
            raise PromptError(f"the continuation {continuation!r} adds no tokens to its context")
        boundary_of[context] = min(boundary_of[context], boundary)
    begun = {
        context: with_start(start, ids_of[context][:boundary]) or [fallback]
        for context, boundary in boundary_of.items()
    }
    scored = []
    for (context, _), whole in zip(texts, wholes, strict=True):
        boundary = boundary_of[context]
        if boundary == 0 and (rest := without_start(start, whole)):
            scored.append(Scored(list(start) or [fallback], rest))
        else:
            scored.append(Scored(begun[context], whole[boundary:]))
    return scored


def with_start(start: Sequence[int], ids: Sequence[int]) -> list[int]:
    """Token ids of a text with the special tokens `start`, such as BOS, before it; they are never repeated."""
    return [*start, *without_start(start, ids)]


def without_start(start: Sequence[int], ids: Sequence[int]) -> list[int]:
    """Token ids of a text without the special tokens `start` at its beginning."""
    return list(ids[len(start) :] if list(ids[: len(start)]) == list(start) else ids)


def encode_apart(encode: Encode, texts: Sequence[tuple[str, str]], start: Sequence[int], fallback: int) -> list[Scored]:
    """Encode pairs of context and continuation for an encoder-decoder model: each text separately and unchanged.

    A space at the beginning of a continuation is part of its first word. It is neither lost nor doubled: byte-level
    vocabularies have tokens of words with their space, and SentencePiece marks the beginning of a text like a space.

    Args:
        encode, texts, start, fallback: as for `split_tokens`.

    Raises:
        PromptError: a continuation has no tokens.
    """
    parts = list(dict.fromkeys(part for pair in texts for part in pair))
    ids_of = dict(zip(parts, encode(parts), strict=True))
    for _, continuation in texts:
        if not ids_of[continuation]:
            raise PromptError(f"the continuation {continuation!r} has no tokens")
    return [
        Scored(with_start(start, ids_of[context]) or [fallback], ids_of[continuation], apart=True)
        for context, continuation in texts
    ]


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """The number of leading tokens that two sequences share."""
    length = min(len(left), len(right))
    if left[:length] == right[:length]:
        return length
    return next(i for i in range(length) if left[i] != right[i])


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """A prompt that fits the context length.

    Attributes:
        options: token ids for each option, all with the same demonstrations.
        shots: the number of demonstrations that fit.
        truncated: number of tokens that were cut from the start of the query; 0 unless `overflow` is `truncate`.
    """

    options: tuple[Scored, ...]
    shots: int
    truncated: int


def fit(
    text: PromptText,
    split: Callable[[list[tuple[str, str]]], list[Scored]],
    window: int,
    overflow: Overflow = "drop",
    lengths: Callable[[list[str]], list[int]] | None = None,
    start: int = 0,
) -> FittedPrompt:
    """Encode a prompt with as many demonstrations as fit the context length together with the longest option.

    Args:
        text: the prompt.
        split: encodes pairs of context and continuation.
        window: context length in tokens.
        overflow: what to do if the prompt does not fit: `drop` demonstrations; raise an `error`; or `truncate`, which
            drops demonstrations and also cuts the start of a query that does not fit alone.
        lengths: returns the token counts of texts, from which the number of demonstrations that fit is estimated
            before it is determined exactly.
        start: number of special tokens at the start of every context, which are never cut.

    Raises:
        WindowError: the query alone does not fit, or the prompt does not fit and `overflow` is `error`.
    """
    requested = len(text.demonstrations)
    options = _encode(text, split, requested)
    if _longest(options) <= window:
        return FittedPrompt(tuple(options), requested, 0)
    if overflow == "error":
        needed = f"{counted(requested, 'demonstration takes', 'demonstrations take')} {_longest(options)} tokens"
        raise WindowError(f"{needed}, but the context length is {window}")
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
            f"the query alone takes {_longest(options)} tokens, but the context length is {window}; "
            "--overflow truncate cuts its start"
        )
    return FittedPrompt(_cut(options, excess, start), 0, excess)


def _encode(text: PromptText, split: Callable[[list[tuple[str, str]]], list[Scored]], shots: int) -> list[Scored]:
    return split(list(zip(text.contexts(shots), text.answers, strict=True)))


def _longest(options: list[Scored]) -> int:
    return max(option.input_length for option in options)


def _guess(text: PromptText, excess: int, lengths: Callable[[list[str]], list[int]] | None) -> int:
    """Number of demonstrations that are left if the last ones, with at least `excess` tokens, are dropped."""
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
    """Cut the same number of tokens from the start of the context of each option.

    Raises:
        WindowError: no context would be left.
    """
    if excess >= min(len(option.context) for option in options) - start:
        raise WindowError("an option alone exceeds the context length, even if the whole query is cut")
    return tuple(replace(each, context=each.context[:start] + each.context[start + excess :]) for each in options)
