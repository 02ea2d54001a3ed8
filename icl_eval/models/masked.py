"""Masked language models of `transformers`: pseudo-log-likelihoods, from one masked copy of a text for each token.

Log-softmax is computed in float32, whatever the type of the weights.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from icl_eval.config import PLL
from icl_eval.errors import ModelError
from icl_eval.models.loading.devices import to_device
from icl_eval.models.network import (
    LocalModel,
    TokenScores,
    full_device,
    not_padding,
    ordinary_tokens,
    padded,
    token_logprobs,
)
from icl_eval.models.protocol import LOGITS, ScoreAnswer, ScoreRequest, Sink
from icl_eval.models.tokenization import special_tokens, window_of

ARITHMETIC = 1  # increased with every change after which the same tokens may get another answer
RULES = rf"pll(-l2r)?\|bos\d+\|mask\d+\|end[\d.]*\|arithmetic{ARITHMETIC}"  # the last part of a fingerprint
BYTES, PIECES, WORDS = "Ġ", "▁", "##"
"""Marks in tokens: a word begins in byte-level BPE and in SentencePiece, a word continues in WordPiece."""
BLANKS = "ĠĊĉč"  # space, line feed, tab and carriage return in byte-level BPE


class MaskedLM(LocalModel):
    """A masked language model that scores continuations by their pseudo-log-likelihood.

    The log-probability of a token is predicted at its position with the token masked, from the context and the rest of
    the continuation, between the special tokens that the tokenizer adds around a text (Salazar et al. 2020, arXiv
    1910.14659). `l2r` also masks the remaining tokens of the same word, because the pieces of a rare word reveal one
    another (PLL-word-l2r, Kauf and Ivanova 2023, arXiv 2305.10588).

    Args:
        model: a `PreTrainedModel` with a masked-language-model head.
        tokenizer: its tokenizer.
        name: the name in tables.
        fingerprint: identifies weights, precision and tokenizer.
        bos: False leaves out the special tokens that the tokenizer adds before a text.
        window: context length in tokens; by default that of the configuration.
        pll: `l2r` or `plain`.

    Attributes:
        budget: maximum number of tokens of a batch, including padding.

    Raises:
        ModelError: the context length is unknown, the tokenizer has no mask token, or `bos` is True but the tokenizer
            adds no token before a text.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        fingerprint: str,
        bos: bool | None = None,
        window: int | None = None,
        pll: PLL = "l2r",
    ) -> None:
        if tokenizer.mask_token_id is None:
            raise ModelError("the tokenizer of a masked language model needs a mask token, and this one has none")
        start, self._end = special_tokens(tokenizer, bos)
        length = min(window_of(model.config, tokenizer, window), position_count(model))
        super().__init__(model, tokenizer, name, start, length - len(self._end) - 1)
        self.kind = "pll-l2r" if pll == "l2r" else "pll"
        around = f"mask{tokenizer.mask_token_id}|end{'.'.join(map(str, self._end))}"
        self.fingerprint = (
            f"{fingerprint}|{self.precision}|{self.kind}|bos{len(self.start)}|{around}|arithmetic{ARITHMETIC}"
        )
        self._mask, self._padding = int(tokenizer.mask_token_id), tokenizer.pad_token_id or 0
        self._words = Words(tokenizer)
        self._restrict_head()

    def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:
        """Score continuations; call `sink` with each answer as soon as all its tokens are scored.

        Raises:
            OutOfMemory: a single masked copy does not fit the device.
        """
        masked = self._masked(requests)
        unfinished = {index: _Unfinished.of(request) for index, request in enumerate(requests)}
        for batch in self._batches(masked, requests):
            with self.budget.halved_if_exceeded(batch):
                with full_device(), torch.inference_mode():
                    needs_moments = any(requests[token.request].moments for token in batch.masked)
                    logprobs, greedy, moments = self._fill(batch, needs_moments)
                del masked[: len(batch.masked)]
                for token, *found in zip(batch.masked, logprobs, greedy, moments.T, strict=True):
                    if answer := unfinished[token.request].with_token(token.offset, *found):
                        sink(token.request, answer)
                        del unfinished[token.request]

    def computed_tokens(self, requests: Sequence[ScoreRequest]) -> int:
        """Number of tokens of all masked copies of these requests, including padding."""
        masked, total = self._masked(requests), 0
        for batch in self._batches(masked, requests):
            total += batch.size
            del masked[: len(batch.masked)]
        return total

    def _masked(self, requests: Sequence[ScoreRequest]) -> list[_MaskedToken]:
        """The tokens to mask, in an order that puts the longest requests first and similar ones together."""
        order = sorted(range(len(requests)), key=lambda index: (-len(requests[index].tokens), requests[index].tokens))
        return list(chain.from_iterable(self._masked_of(index, requests[index]) for index in order))

    def _masked_of(self, index: int, request: ScoreRequest) -> Iterator[_MaskedToken]:
        tokens = request.tokens[request.boundary :]
        ends = self._words.ends(tokens) if self.kind == "pll-l2r" else range(1, len(tokens) + 1)
        for offset, end in enumerate(ends):
            yield _MaskedToken(index, offset, end)

    def _batches(self, masked: Sequence[_MaskedToken], requests: Sequence[ScoreRequest]) -> Iterator[_Batch]:
        """Batches until no masked tokens are left; the caller removes those of each batch from `masked`."""
        while masked:
            yield self._batch(masked, requests)

    def _batch(self, masked: Sequence[_MaskedToken], requests: Sequence[ScoreRequest]) -> _Batch:
        """The batch of the first masked tokens, as many as fit; equal copies are computed once."""
        batch = _Batch()
        for token in masked:
            request = requests[token.request]
            tokens = np.concatenate([np.frombuffer(request.tokens, np.int32), np.array(self._end, np.int32)])
            first = request.boundary + token.offset
            target = int(tokens[first])
            tokens[first : request.boundary + token.end] = self._mask
            is_new = tokens.tobytes() not in batch.copies
            full = (len(batch.copies) + is_new) * max(batch.width, len(tokens)) > self.budget.size
            if batch.masked and (full or (len(batch.masked) + 1) * self.vocabulary > LOGITS):
                break
            batch.add(token, tokens, first, target)
        return batch

    def _fill(self, batch: _Batch, moments: bool) -> TokenScores:
        """The scores of the masked tokens of a batch."""
        rows = [np.frombuffer(copy, np.int32) for copy in batch.copies]  # in the order of their indices
        tokens, mask = padded(rows, self._padding), not_padding(rows)
        indices = torch.tensor([row * batch.width + position for row, position in batch.indices])
        inputs = {"input_ids": to_device(tokens, self.device), "attention_mask": to_device(mask, self.device)}
        logits, _ = self._network.forward(inputs, indices)
        return token_logprobs(logits, np.array(batch.targets, np.int32), moments)

    def _restrict_head(self) -> None:
        tokens = torch.from_numpy(ordinary_tokens(4, self.vocabulary))[None].to(self.device)
        inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        self._network.restrict_head(lambda: self._network.forward(inputs, torch.arange(4)[1:])[0], self.precision)


@dataclass(frozen=True, slots=True)
class _MaskedToken:
    """A masked token of a continuation, which is predicted.

    Attributes:
        request: the index of its request.
        offset: its offset in the continuation.
        end: the offset after the last token that is masked together with it.
    """

    request: int
    offset: int
    end: int


@dataclass(slots=True)
class _Batch:
    """Masked copies that are computed together.

    Attributes:
        copies: the tokens of each copy, and its row.
        masked: the masked tokens.
        indices: the row and the position of each of them.
        targets: the token that was masked.
        width: tokens of the longest copy.
    """

    copies: dict[bytes, int] = field(default_factory=dict)
    masked: list[_MaskedToken] = field(default_factory=list)
    indices: list[tuple[int, int]] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    width: int = 0

    def add(self, token: _MaskedToken, tokens: NDArray[np.int32], position: int, target: int) -> None:
        row = self.copies.setdefault(tokens.tobytes(), len(self.copies))
        self.masked.append(token)
        self.indices.append((row, position))
        self.targets.append(target)
        self.width = max(self.width, len(tokens))

    @property
    def size(self) -> int:
        """Number of tokens, including padding."""
        return len(self.copies) * self.width

    @property
    def divisible(self) -> bool:
        """Whether there is more than one copy."""
        return len(self.copies) > 1


@dataclass(slots=True)
class _Unfinished:
    """The scores of a continuation that are known so far.

    Attributes:
        missing: the number of tokens that are still to score.
    """

    logprobs: NDArray[np.float32]
    greedy: NDArray[np.bool_]
    moments: NDArray[np.float32]
    missing: int

    @classmethod
    def of(cls, request: ScoreRequest) -> _Unfinished:
        count = len(request.tokens) - request.boundary
        moments = np.zeros((2 if request.moments else 0, count), np.float32)
        return cls(np.zeros(count, np.float32), np.zeros(count, np.bool_), moments, count)

    def with_token(self, offset: int, logprob: float, greedy: bool, moments: NDArray[np.float32]) -> ScoreAnswer | None:
        """Add the scores of a token; return the answer if it was the last one."""
        self.logprobs[offset], self.greedy[offset] = logprob, greedy
        self.moments[:, offset] = moments[: len(self.moments)]  # computed if any request of the batch needs them
        self.missing -= 1
        return None if self.missing else ScoreAnswer.of(self.logprobs, self.greedy, self.moments)


def position_count(model: Any) -> int:
    """Number of usable positions; RoBERTa and similar models number them from the id after the padding token."""
    found = [module for name, module in model.named_modules() if name.endswith(".position_embeddings")]
    counted = [each for each in found if getattr(each, "padding_idx", None) is not None]
    return min((each.num_embeddings - each.padding_idx - 1 for each in counted), default=2**31)


class Words:
    """Finds words in token ids of WordPiece, byte-level BPE or SentencePiece.

    A token continues the word of the token before it if it has no mark of a new word, and letters or digits meet. So
    punctuation is a separate word, even in vocabularies that do not mark it. In vocabularies without marks, every token
    is a word.

    Args:
        tokenizer: the tokenizer; all tokens of its vocabulary are classified once.
    """

    def __init__(self, tokenizer: Any) -> None:
        pieces = [piece or "" for piece in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))]
        mark = _mark(pieces)
        special = set(tokenizer.all_special_tokens)
        continues = [mark != "" and piece not in special and _continues(piece, mark) for piece in pieces]
        is_open = [mark != "" and piece not in special and _is_open(piece, mark) for piece in pieces]
        self._continues, self._is_open = np.array(continues, np.bool_), np.array(is_open, np.bool_)

    def ends(self, tokens: Sequence[int]) -> list[int]:
        """For each token, the index after the last token of its word."""
        ends = [len(tokens)] * len(tokens)
        for index in range(len(tokens) - 2, -1, -1):
            joined = self._is_open[tokens[index]] and self._continues[tokens[index + 1]]
            ends[index] = ends[index + 1] if joined else index + 1
        return ends


def _mark(pieces: Sequence[str]) -> str:
    """The mark that most tokens of a vocabulary have; empty if it has no marks."""
    counts = Counter(mark for piece in pieces for mark in (BYTES, PIECES, WORDS) if _is_marked(piece, mark))
    return counts.most_common(1)[0][0] if counts else ""


def _is_marked(piece: str, mark: str) -> bool:
    return piece.startswith(mark) and len(piece) > len(mark)


def _continues(piece: str, mark: str) -> bool:
    if mark == WORDS:
        return _is_marked(piece, mark)
    return not piece.startswith(mark) and _is_letter(piece[:1], mark)


def _is_open(piece: str, mark: str) -> bool:
    """Whether the word may continue after this token: it ends with a letter, or consists of the mark alone."""
    return piece == mark or _is_letter(piece[-1:], mark)


def _is_letter(character: str, mark: str) -> bool:
    """Whether a character belongs to a word; in byte-level BPE, every byte beyond ASCII does."""
    if mark == BYTES and not character.isascii():
        return character not in BLANKS
    return unicodedata.category(character)[0] in "LMN" if character else False
