"""Causal language models of `transformers`: packed rows in, log-probabilities of the asked tokens out.

Only hidden states at scored places reach the language-model head, so there is never a batch x time x vocabulary tensor;
log-softmax is taken in float32 whatever the weights' type.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from icl_eval.errors import ModelError
from icl_eval.models.ancestry import depths, visibility
from icl_eval.models.protocol import OutOfMemory, Row, RowAnswer

PROBE_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}  # nats; coarser types differ by rounding alone
COARSE_TOLERANCE = 0.5
CPU_ROW_BUDGET = 4096  # tokens; a processor gains nothing from larger batches
BYTES_PER_ACTIVATION = 40  # measured peak bytes per token, layer width and byte of the weights' type, rounded up


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
        ModelError: no window is known, or a BOS token is asked for that the tokenizer lacks.
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
        self.start = _start(tokenizer, bos)
        self.fingerprint = f"{fingerprint}|{self.precision}|bos{len(self.start)}"
        self.window = window or _window(model.config, tokenizer)
        self.fallback = _fallback(tokenizer)
        self.hidden_size = int(model.config.get_text_config().hidden_size)
        self.vocabulary = int(model.get_output_embeddings().weight.shape[0])
        self.device = model.get_input_embeddings().weight.device
        self.row_budget = self._default_budget()
        self.why_not = self._why_not_shared()
        self.shares_prefixes = not self.why_not

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, without special tokens."""
        if not texts:
            return []
        encoded: list[list[int]] = self.tokenizer(
            list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False
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
        try:
            with torch.inference_mode():
                return self._forward(rows)
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(str(error)) from error

    def _forward(self, rows: Sequence[Row]) -> list[RowAnswer]:
        length = max(len(row.tokens) for row in rows)
        tokens = torch.zeros(len(rows), length, dtype=torch.long)  # (B, T)
        for index, row in enumerate(rows):
            tokens[index, : len(row.tokens)] = torch.from_numpy(row.tokens.astype(np.int64))
        places = np.concatenate([index * length + row.scored for index, row in enumerate(rows)])
        targets = torch.from_numpy(np.concatenate([row.targets for row in rows]).astype(np.int64)).to(self.device)
        extra = {} if all(row.is_linear for row in rows) else self._branching(rows, length)
        with _only_places(self.model, torch.from_numpy(places).to(self.device)):
            logits = self.model(input_ids=tokens.to(self.device), use_cache=False, **extra).logits[0]  # (N, V)
        logits = logits.to(self.device, torch.float32)
        asked = logits.gather(1, targets[:, None])[:, 0]
        logprobs = (asked - logits.logsumexp(dim=1)).cpu().numpy()
        greedy = (asked >= logits.amax(dim=1)).cpu().numpy()
        cuts = np.cumsum([len(row.scored) for row in rows])[:-1]
        return [RowAnswer(*pair) for pair in zip(np.split(logprobs, cuts), np.split(greedy, cuts), strict=True)]

    def _branching(self, rows: Sequence[Row], length: int) -> dict[str, torch.Tensor]:
        """Positions (B, T) and the additive mask (B, 1, T, T) by which every token sees its ancestors alone."""
        positions = torch.zeros(len(rows), length, dtype=torch.long)
        sees = torch.zeros(len(rows), 1, length, length, dtype=torch.bool)
        sees[:, 0].diagonal(dim1=1, dim2=2).fill_(True)  # padding sees itself: a row without anything gives NaN
        for index, row in enumerate(rows):
            size = len(row.tokens)
            positions[index, :size] = torch.from_numpy(depths(row.parents))
            sees[index, 0, :size, :size] = torch.from_numpy(visibility(row.parents))
        mask = torch.zeros(sees.shape, dtype=self.model.dtype)
        mask.masked_fill_(~sees, torch.finfo(self.model.dtype).min)
        return {"position_ids": positions.to(self.device), "attention_mask": mask.to(self.device)}

    def _why_not_shared(self) -> str:
        """Try a small branching row against its plain sequences; architectures differ in what they make of a mask."""
        config = self.model.config.get_text_config()
        reach = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
        if reach is not None and reach < self.window:
            return f"its attention slides over {reach} of {self.window} tokens"
        probe = np.arange(1, 8, dtype=np.int32) % self.vocabulary
        tree = Row(probe, np.array([-1, 0, 1, 2, 1, 4, 5], np.int32), np.array([3, 6], np.int32), probe[:2])
        plain = [_line(probe[[0, 1, 2, 3]], probe[0]), _line(probe[[0, 1, 4, 5, 6]], probe[1])]
        try:
            shared = self.forward([tree])[0].logprobs
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            return f"its forward pass takes no ancestor mask ({type(error).__name__})"
        expected = np.array([self.forward([row])[0].logprobs[0] for row in plain])
        tolerance = PROBE_TOLERANCE.get(self.model.dtype, COARSE_TOLERANCE)
        return "" if np.abs(shared - expected).max() <= tolerance else "its attention does not follow an ancestor mask"

    def _default_budget(self) -> int:
        """Tokens per batch that half of the device's free memory can hold."""
        if self.device.type != "cuda":
            return CPU_ROW_BUDGET
        free, _ = torch.cuda.mem_get_info(self.device)
        per_token = BYTES_PER_ACTIVATION * self.hidden_size * self.model.dtype.itemsize
        return max(CPU_ROW_BUDGET, int(free / 2 / per_token))


def _line(tokens: Any, target: Any) -> Row:
    size = len(tokens)
    return Row(
        tokens, np.arange(-1, size - 1, dtype=np.int32), np.array([size - 1], np.int32), np.array([target], np.int32)
    )


@contextmanager
def _only_places(model: Any, places: torch.Tensor) -> Iterator[None]:
    """Let only the hidden states at `places` of the flattened batch reach the language-model head."""

    def pick(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden = inputs[0]
        return (hidden.flatten(0, 1)[places.to(hidden.device)][None], *inputs[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(pick)
    try:
        yield
    finally:
        hook.remove()


def _start(tokenizer: Any, bos: bool | None) -> tuple[int, ...]:
    if bos is None:
        own = tokenizer("a", add_special_tokens=True)["input_ids"][:1]
        bos = own == [tokenizer.bos_token_id] and tokenizer.bos_token_id is not None
    if bos and tokenizer.bos_token_id is None:
        raise ModelError("--bos yes was asked for, but the tokenizer has no BOS token")
    return (tokenizer.bos_token_id,) if bos else ()


def _fallback(tokenizer: Any) -> int:
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ModelError("the tokenizer has neither a BOS nor an EOS token to begin an empty context with")


def _window(config: Any, tokenizer: Any) -> int:
    text = config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length"):
        if isinstance(size := getattr(text, name, None), int):
            return size
    if tokenizer.model_max_length < 10**9:  # `transformers` stands 10**30 for unknown
        return int(tokenizer.model_max_length)
    raise ModelError("neither the model's configuration nor its tokenizer says how long a window is; pass --window")
