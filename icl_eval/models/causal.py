"""Causal language models of `transformers`: packed rows in, log-probabilities of the asked tokens out.

Log-softmax is taken in float32 whatever the weights' type.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from icl_eval.errors import ModelError
from icl_eval.models.ancestry import depths, visibility
from icl_eval.models.decoding import GenerateRequest, TextSink
from icl_eval.models.encoding import LineEncoder, splits_into_words
from icl_eval.models.generation import Generation
from icl_eval.models.network import Network, full_device
from icl_eval.models.protocol import Row, RowAnswer
from icl_eval.models.sharing import (
    Sharing,
    distance,
    line,
    longrope_lengths,
    ordinary_tokens,
    sharing,
    tolerance,
)
from icl_eval.models.stem import KeptStem
from icl_eval.models.tree_attention import attending, pieces

ARITHMETIC = 3  # raised with every change after which the same tokens may get another answer
CPU_ROW_BUDGET = 4096  # tokens; a processor gains nothing from larger batches
BYTES_PER_ACTIVATION = (
    40  # bytes per token, layer width and byte of the weights' type: a guess, halved when memory runs out
)


class CausalLM:
    """A loaded model and tokenizer behind the engine's protocol.

    Args:
        model: a `PreTrainedModel` with a language-model head.
        tokenizer: its tokenizer.
        name: what tables call it.
        fingerprint: identifies weights, precision and tokenizer.
        bos: whether every text begins with the BOS token; by default if the tokenizer puts it there itself.
        window: tokens to read at once; by default what the configuration says.

    Raises:
        ModelError: no window is known, a BOS token is asked for that the tokenizer lacks, or the model is not causal.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        fingerprint: str,
        bos: bool | None = None,
        window: int | None = None,
    ) -> None:
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.precision = str(model.dtype).removeprefix("torch.")
        self.start = start_tokens(tokenizer, bos)
        self.fingerprint = f"{fingerprint}|{self.precision}|bos{len(self.start)}|arithmetic{ARITHMETIC}"
        self.window = _window(model.config, tokenizer, window)
        self.fallback = fallback_token(tokenizer)
        self._lines = LineEncoder(self._encode, splits=splits_into_words(tokenizer))
        self._network = Network(model)
        self._config, self.device = self._network.config, self._network.device
        self.hidden_size = int(self._config.hidden_size)
        self.vocabulary = int(self._config.vocab_size)
        self.weights: int = sum(parameter.nbytes for parameter in model.parameters())
        self.token_bytes: int = BYTES_PER_ACTIVATION * self.hidden_size * model.dtype.itemsize
        self.row_budget = self._default_budget()
        self._by_pieces = self.device.type == "cpu"  # whether a branching row goes without a mask
        self._kept = KeptStem(model, self.device)
        if not self._head_takes_places():
            self._network.head = None
        if not self._is_causal():
            raise ModelError(f"{type(model).__name__} lets a token see later ones: it is not a causal language model")
        found = self._sharing()
        if not found.works and self._by_pieces:
            self._by_pieces = False
            found = self._sharing()
        self.shares_prefixes, self.reach, self.why_not = found.works, found.reach, found.why_not
        self.skips_strangers = found.works and self._by_pieces
        self.keeps_stems = found.works and self._stems_work()
        self.state_bytes = self._kept.token_bytes

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, without special tokens."""
        return self._lines(texts)

    def _encode(self, texts: list[str]) -> list[list[int]]:
        encoded: list[list[int]] = self.tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False
        )["input_ids"]
        return encoded

    def decode(self, ids: Sequence[int]) -> list[str]:
        """The text of each token, for people."""
        return [self.tokenizer.decode([token]) for token in ids]

    def forward(self, rows: Sequence[Row]) -> list[RowAnswer]:
        """Run rows as one batch, padded on the right, where causal attention never looks.

        Raises:
            OutOfMemory: the batch does not fit the device.
        """
        with full_device(), torch.inference_mode():
            return self._forward(rows)

    def generate(self, requests: Sequence[GenerateRequest], sink: TextSink) -> None:
        """Write what follows prompts, handing each answer to `sink` as it comes.

        Raises:
            OutOfMemory: one prompt alone does not fit the device.
            FloatingPointError: the model gives something that is no log-probability.
        """
        if requests:
            self.generation.generate(requests, sink)

    @cached_property
    def generation(self) -> Generation:
        """How it writes; found out when it first does."""
        return Generation(
            self._network,
            self.tokenizer,
            self._kept,
            precision=self.precision,
            row_budget=self.row_budget,
            reach=self.reach,
            arena=self.skips_strangers and self.keeps_stems,
            stems=self.keeps_stems,
            turns=set(longrope_lengths(self._config)),
        )

    def _forward(self, rows: Sequence[Row]) -> list[RowAnswer]:
        logits = self._logits(rows)
        targets = torch.from_numpy(np.concatenate([row.targets for row in rows]).astype(np.int64)).to(self.device)
        asked = logits.gather(1, targets[:, None])[:, 0]
        logprobs = (asked - logits.logsumexp(dim=1)).cpu().numpy()
        greedy = (asked >= logits.amax(dim=1)).cpu().numpy()
        cuts = np.cumsum([len(row.scored) for row in rows])[:-1]
        return [RowAnswer(*pair) for pair in zip(np.split(logprobs, cuts), np.split(greedy, cuts), strict=True)]

    def _logits(self, rows: Sequence[Row], positions: NDArray[np.int64] | None = None) -> torch.Tensor:
        """Next-token logits at the rows' scored places, (N, V) in float32."""
        stem = rows[0].stem  # the same for all
        length = max(len(row.tokens) for row in rows) - stem
        tokens = torch.zeros(len(rows), length, dtype=torch.long)  # (B, T)
        for index, row in enumerate(rows):
            tokens[index, : len(row.tokens) - stem] = torch.from_numpy(row.tokens[stem:].astype(np.int64))
        places = torch.from_numpy(
            np.concatenate([index * length + row.scored - stem for index, row in enumerate(rows)])
        )
        inputs: dict[str, Any] = {"input_ids": tokens.to(self.device), "use_cache": bool(stem)}
        if stem:
            inputs["past_key_values"] = self._kept.of(rows[0].tokens[:stem], copies=len(rows))
        by_pieces = self._by_pieces and len(rows) == 1 and not rows[0].is_linear
        if by_pieces:
            given = depths(rows[0].parents) if positions is None else positions
            inputs["position_ids"] = torch.from_numpy(given[stem:])[None]
        elif stem or not all(row.is_linear for row in rows):
            inputs |= self._branching(rows, length, positions)
        plan = pieces(rows[0].parents, stem, self.model.dtype) if by_pieces else []
        with attending(self._config, plan) if by_pieces else nullcontext():
            return self._network.ask(inputs, places)[0]

    def _branching(self, rows: Sequence[Row], length: int, given: NDArray[np.int64] | None) -> dict[str, torch.Tensor]:
        """Positions (B, T) and the additive mask (B, 1, T, P + T) by which every token sees its ancestors alone.

        P is the length of the stem, whose own positions and mask were needed when it was computed.
        """
        stem = rows[0].stem
        positions = torch.zeros(len(rows), length, dtype=torch.long)
        sees = torch.zeros(len(rows), 1, length, stem + length, dtype=torch.bool)
        sees[:, 0, :, stem:].diagonal(dim1=1, dim2=2).fill_(True)  # padding sees itself: nothing to see gives NaN
        for index, row in enumerate(rows):
            size = len(row.tokens) - stem
            positions[index, :size] = torch.from_numpy((depths(row.parents) if given is None else given)[stem:])
            sees[index, 0, :size, : stem + size] = torch.from_numpy(visibility(row.parents)[stem:])
        mask = torch.zeros(sees.shape, dtype=self.model.dtype)
        mask.masked_fill_(~sees, torch.finfo(self.model.dtype).min)
        return {"position_ids": positions.to(self.device), "attention_mask": mask.to(self.device)}

    def _head_takes_places(self) -> bool:
        """Whether the head, given the hidden states of some places alone, gives those places' logits."""
        rows = [line([1, 2, 3]), line([2, 1])]
        try:
            with torch.inference_mode():
                picked = self._logits(rows).cpu().numpy()
                head, self._network.head = self._network.head, None
                every = self._logits(rows).cpu().numpy()
        except (RuntimeError, IndexError, ValueError):
            return False
        self._network.head = head
        return distance(picked, every) <= tolerance(self.precision) * distance(every[0], every[1])

    def _is_causal(self) -> bool:
        """Whether a prediction is the same whatever follows; an encoder with a language-model head sees it all."""
        row = line([0, 0, 0])
        with torch.inference_mode():
            plain, later, earlier = (
                self._logits([Row(tokens, row.parents, np.array([1], np.int32), row.targets)]).cpu().numpy()
                for tokens in np.array([[5, 6, 7], [5, 6, 8], [9, 6, 7]], np.int32) % self.vocabulary
            )
        return not distance(later, plain) > tolerance(self.precision) * distance(earlier, plain)  # NaN is no verdict

    def _sharing(self) -> Sharing:
        masks = any(
            buffer.dim() >= 2 and buffer.shape[-1] == buffer.shape[-2] >= self.window for buffer in self.model.buffers()
        )

        def logits(row: Row, positions: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
            with torch.inference_mode():
                return self._logits([row], positions).cpu().numpy()

        return sharing(self._config, masks, self.window, self.precision, logits)

    def _stems_work(self) -> bool:
        """Whether a row on a kept stem gives what the same row gives alone."""
        tokens = ordinary_tokens(6, self.vocabulary).astype(np.int32)
        row = Row(tokens, np.array([-1, 0, 1, 2, 1, 4], np.int32), np.array([3, 5], np.int32), tokens[:2])
        other = replace(row, tokens=np.where(np.arange(6) < 3, tokens[::-1], tokens).astype(np.int32))
        try:
            with torch.inference_mode():
                whole, kept, different = (
                    self._logits([each]).cpu().numpy() for each in (row, replace(row, stem=2), other)
                )
        except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
            return False
        return distance(kept, whole) <= tolerance(self.precision) * distance(different, whole)

    def _default_budget(self) -> int:
        """Tokens per batch that half of the device's free memory can hold; at least one window."""
        if self.device.type == "cuda":
            return max(self.window, torch.cuda.mem_get_info(self.device)[0] // 2 // self.token_bytes)
        free: int = psutil.virtual_memory().available
        return min(CPU_ROW_BUDGET, max(self.window, free // 2 // self.token_bytes))


def start_tokens(tokenizer: Any, bos: bool | None) -> tuple[int, ...]:
    """The BOS token or nothing: what every text begins with; by default what the tokenizer puts there itself.

    Raises:
        ModelError: a BOS token is asked for that the tokenizer lacks.
    """
    if bos is None:
        own = tokenizer("a", add_special_tokens=True)["input_ids"][:1]
        bos = own == [tokenizer.bos_token_id] and tokenizer.bos_token_id is not None
    if bos and tokenizer.bos_token_id is None:
        raise ModelError("--bos yes was asked for, but the tokenizer has no BOS token")
    return (tokenizer.bos_token_id,) if bos else ()


def fallback_token(tokenizer: Any) -> int:
    """The token to condition on where a context would be empty.

    Raises:
        ModelError: the tokenizer has neither a BOS nor an EOS token.
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ModelError("the tokenizer has neither a BOS nor an EOS token to begin an empty context with")


def _window(config: Any, tokenizer: Any, asked: int | None) -> int:
    said = _said_window(config, tokenizer)
    if asked is not None and said is not None and asked > said:
        raise ModelError(f"a window of {asked} tokens was asked for, but the model reads {said}")
    if asked is None and said is None:
        raise ModelError("neither the model's configuration nor its tokenizer says how long a window is; pass --window")
    return asked or said or 0


def _said_window(config: Any, tokenizer: Any) -> int | None:
    text = config.get_text_config()
    for name in (
        "max_position_embeddings",
        "n_positions",
        "max_sequence_length",
        "max_seq_len",
        "seq_length",
        "context_length",
    ):
        if isinstance(size := getattr(text, name, None), int):
            return size
    if tokenizer.model_max_length < 10**9:  # `transformers` stands 10**30 for unknown
        return int(tokenizer.model_max_length)
    return None
