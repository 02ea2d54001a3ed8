"""Where the scored text begins: context and continuation are encoded together and parted at their common prefix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from icl_eval.errors import PromptError

Encode = Callable[[Sequence[str]], list[list[int]]]  # texts -> token ids, without special tokens


@dataclass(frozen=True, slots=True)
class Scored:
    """Token ids of a context and of the continuation that is scored after it."""

    context: list[int]
    continuation: list[int]

    @property
    def input_length(self) -> int:
        """Tokens a model reads to score this: all but the last."""
        return len(self.context) + len(self.continuation) - 1


def split_tokens(encode: Encode, texts: Sequence[tuple[str, str]], start: Sequence[int], fallback: int) -> list[Scored]:
    """Encode (context, continuation) pairs.

    The context is the longest common prefix of enc(context) and enc(context + continuation): a merge across the
    boundary moves whole tokens to the continuation, and the text scored is always the text shown. Pairs with the same
    context are the options of one question and are parted at one place, the earliest that any of them needs, so that
    their likelihoods have the same condition: encode the options of one question in one call, and of one only.

    Args:
        encode: texts to token ids, without special tokens.
        texts: pairs of context and continuation.
        start: special tokens put before every text, by the model's rule.
        fallback: the token to condition on where the context would be empty.

    Raises:
        PromptError: a continuation adds no token.
    """
    contexts = list(dict.fromkeys(context for context, _ in texts))
    encoded = encode([*contexts, *(context + continuation for context, continuation in texts)])
    ids_of = dict(zip(contexts, encoded[: len(contexts)], strict=True))
    boundary_of = {context: len(ids) for context, ids in ids_of.items()}
    wholes = encoded[len(contexts) :]
    for (context, continuation), whole in zip(texts, wholes, strict=True):
        boundary = common_prefix(ids_of[context], whole)
        if boundary == len(whole):
            raise PromptError(f"the continuation {continuation!r} adds no token to its context")
        boundary_of[context] = min(boundary_of[context], boundary)
    return [
        Scored([*start, *whole[: boundary_of[context]]] or [fallback], whole[boundary_of[context] :])
        for (context, _), whole in zip(texts, wholes, strict=True)
    ]


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many leading tokens two sequences share."""
    length = min(len(left), len(right))
    if left[:length] == right[:length]:
        return length
    return next(i for i in range(length) if left[i] != right[i])
