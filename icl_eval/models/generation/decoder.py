"""The protocol of decoders, and a slow reference decoder that recomputes everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from icl_eval.models.causal.sharing import distance, ordinary_tokens, tolerance
from icl_eval.models.generation.search import Extension

Tokens = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A hypothesis that enters a decoder.

    Attributes:
        prompt: the prompt's tokens.
        generated: tokens after it, usually none.
        shared: leading tokens of the prompt that other hypotheses share; the states of equal prefixes are computed and
            stored once.
    """

    prompt: Tokens
    generated: Tokens
    shared: int = 0

    @property
    def tokens(self) -> Tokens:
        """All tokens, (length,)."""
        return np.concatenate([self.prompt, self.generated])


class Decoder(Protocol):
    """Computes next-token logits of hypotheses, a batch at a time, and holds their states.

    Attributes:
        joins: whether hypotheses may enter while there are others.
    """

    joins: bool

    def enter(self, entries: Sequence[Entry]) -> torch.Tensor:
        """Next-token logits (entries, V) after new hypotheses, which follow the existing ones."""
        ...

    def step(self, extensions: Sequence[Extension]) -> torch.Tensor:
        """Next-token logits (extensions, V) after hypotheses, each extended by a token; all others leave."""
        ...


class UncachedDecoder:
    """Recomputes every hypothesis from its first token at every step, in batches of the same length.

    Args:
        prefill: gives the next-token logits (N, V) of entries of the same length, in their order.
    """

    joins = True

    def __init__(self, prefill: Callable[[Sequence[Entry]], torch.Tensor]) -> None:
        self._prefill = prefill
        self._entries: list[Entry] = []

    def enter(self, entries: Sequence[Entry]) -> torch.Tensor:
        """Next-token logits (entries, V) after new hypotheses."""
        self._entries += entries
        return self._logits(entries)

    def step(self, extensions: Sequence[Extension]) -> torch.Tensor:
        """Next-token logits (extensions, V) after hypotheses that go on."""
        going = [(self._entries[each.row], np.array([each.token], np.int32)) for each in extensions]
        self._entries = [Entry(entry.prompt, np.concatenate([entry.generated, token])) for entry, token in going]
        return self._logits(self._entries)

    def _logits(self, entries: Sequence[Entry]) -> torch.Tensor:
        by_length: dict[tuple[int, int], list[int]] = {}
        for index, entry in enumerate(entries):
            by_length.setdefault((len(entry.prompt), len(entry.generated)), []).append(index)
        parts = [self._prefill([entries[index] for index in indices]) for indices in by_length.values()]
        order = np.argsort(np.concatenate(list(by_length.values())))
        return torch.cat(parts)[torch.from_numpy(order).to(parts[0].device)]


def trial(decoder: Decoder, vocabulary: int) -> torch.Tensor:
    """All rows of a few steps: hypotheses of two lengths that share a prefix branch, get reordered, leave and enter."""
    tokens = ordinary_tokens(32, vocabulary).astype(np.int32)
    none = tokens[:0]
    long, short, late = tokens[:7], np.concatenate([tokens[:3], tokens[9:11]]), tokens[12:16]
    rows = [decoder.enter([Entry(long, none, 3), Entry(short, none, 3)])]
    steps = [(0, 0, 1), (2, 1)] if decoder.joins else [(0, 0, 1), (2, 1), (0, 1)]
    following = iter(tokens[16:].tolist())
    rows += [decoder.step([Extension(row, next(following)) for row in step]) for step in steps]
    if decoder.joins:
        rows.append(decoder.enter([Entry(late, none, len(late))]))
        rows.append(decoder.step([Extension(row, next(following)) for row in (2, 0)]))
        rows.append(decoder.step([Extension(row, next(following)) for row in (1, 0, 1)]))
    return torch.cat(rows)


def agrees(decoder: Decoder, reference: Decoder, vocabulary: int, precision: str) -> bool:
    """Whether a decoder agrees with the reference in its trial, compared with the effect of other tokens."""
    reference.joins = decoder.joins
    expected = trial(reference, vocabulary).cpu().numpy()
    try:
        found = trial(decoder, vocabulary).cpu().numpy()
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, KeyError):
        return False
    return distance(found, expected) <= tolerance(precision) * distance(np.roll(expected, 1, axis=0), expected)
