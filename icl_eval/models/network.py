"""Run a network of `transformers`: next-token logits at some positions, and the cached states of a prefix.

Only the hidden states at those positions reach the language-model head, so there is never a batch x time x vocabulary
tensor; logits are float32 whatever the weights' type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

from icl_eval.models.causal.sharing import distance, tolerance
from icl_eval.models.loading.devices import input_device, to_device, to_host
from icl_eval.models.protocol import OutOfMemory, common_prefix

MOMENT_FLOATS = 2**24  # of logits whose moments are computed at a time: 64 MiB
CACHED_FLOATS = 2**20  # the same on a CPU, whose cache holds as much: larger parts take two to three times as long
IMPOSSIBLE = -200.0  # nats; float32 has no probability that small but 0
HEAD_FLOATS = 2**24  # of a 16-bit head's weights in float32 at a time: 64 MiB
COARSE = (torch.bfloat16, torch.float16)
MEMORY_ERRORS = (
    "allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)  # other messages of a device without memory


class Network:
    """A `PreTrainedModel` with a language-model head.

    Attributes:
        head: the module that gets the hidden states of the scored positions only; None if it must see all.
        config: the configuration of the language model proper.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.head = model, model.get_output_embeddings()
        self.config = model.config.get_text_config()
        self.device = input_device(model)

    def forward(self, inputs: Mapping[str, Any], indices: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """The logits (indices, V) in float32 at indices of the flattened batch, and the output of the model."""
        with _only_at(self.head, indices) as picked:
            output = self.model(**inputs)
        logits = output.logits.flatten(0, -2)  # (N, V), or (B T, V) from a model that does not call its head
        found: torch.Tensor = logits if picked else logits[to_device(indices, logits.device)]
        return found.to(self.device, torch.float32), output

    def spare_head(self, forward: Callable[[], torch.Tensor], precision: str) -> None:
        """Pass only scored positions to the head if this gives the same logits as passing all.

        Args:
            forward: gives the network's logits (N, V) at several positions with different next tokens.
            precision: of the weights, such as `float32`.
        """
        head = self.head
        try:
            with torch.inference_mode():
                picked = forward().cpu().numpy()
                self.head = None
                every = forward().cpu().numpy()
        except (RuntimeError, IndexError, ValueError):
            self.head = None
            return
        if distance(picked, every) <= tolerance(precision) * distance(np.roll(every, 1, axis=0), every):
            self.head = head


TokenScores = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]
"""Log-probabilities (N,) in nats, whether each token was the most likely one, and moments (2, N); (0, N) for none."""


def token_logprobs(logits: torch.Tensor, targets: NDArray[np.int32], moments: bool = False) -> TokenScores:
    """The scores of targets (N,) by logits (N, V), with the moments of the next token if requested."""
    return enqueue_token_logprobs(logits, targets, moments)()


def enqueue_token_logprobs(
    logits: torch.Tensor, targets: NDArray[np.int32], moments: bool = False
) -> Callable[[], TokenScores]:
    """As `token_logprobs`, but only the returned function waits for the device."""
    tokens = to_device(torch.from_numpy(targets.astype(np.int64)), logits.device)
    scores, totals = logits.gather(1, tokens[:, None])[:, 0], logits.logsumexp(dim=1)
    found = [scores - totals, (scores >= logits.amax(dim=1)).float()]
    copied = to_host(torch.stack([*found, *(_moments(logits, totals) if moments else ())]))

    def read() -> TokenScores:
        rows = copied()
        return rows[0], rows[1] > 0, rows[2:]

    return read


def _moments(logits: torch.Tensor, totals: torch.Tensor) -> torch.Tensor:
    """Expectation and standard deviation (2, N) of log p under p, by logits (N, V) and their log-sum-exps (N,).

    They are taken of a part of the rows at a time: beside the logits of a whole batch there may be no room for its
    probabilities.
    """
    size, found = CACHED_FLOATS if logits.device.type == "cpu" else MOMENT_FLOATS, []
    rows = max(size // logits.shape[1], 1)
    for part, total in zip(torch.split(logits, rows), torch.split(totals, rows), strict=True):
        logprobs = (part - total[:, None]).clamp_(min=IMPOSSIBLE)  # p log p of an infinite log p would be NaN
        probabilities = logprobs.exp()
        mean = (probabilities * logprobs).sum(dim=1)
        variance = logprobs.sub_(mean[:, None]).square_().mul_(probabilities).sum(dim=1)
        found.append(torch.stack([mean, variance.sqrt()]))
    return torch.cat(found, dim=1)


@contextmanager
def full_device() -> Iterator[None]:
    """Turn the errors of a device without memory into `OutOfMemory`.

    Raises:
        OutOfMemory: the block did not fit the device.
    """
    try:
        yield
    except RuntimeError as error:
        if lacks_memory(error):
            raise OutOfMemory(str(error).splitlines()[0]) from error
        raise


def lacks_memory(error: RuntimeError) -> bool:
    """Whether an error says that a device has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in MEMORY_ERRORS)


@contextmanager
def _only_at(head: Any, indices: torch.Tensor) -> Iterator[list[bool]]:
    """Let only the hidden states at `indices` of the flattened batch reach the head; the list shows if it ran."""
    picked: list[bool] = []

    def pick(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if not inputs:
            return inputs
        picked.append(True)
        return (inputs[0].flatten(0, 1)[to_device(indices, inputs[0].device)][None], *inputs[1:])

    if head is None:
        yield picked
        return
    hook = head.register_forward_pre_hook(pick)
    try:
        with _widened(head):
            yield picked
    finally:
        hook.remove()


@contextmanager
def _widened(head: torch.nn.Module) -> Iterator[None]:
    """Let a 16-bit head give float32 from the same weights: logits rounded to 16 bits would tie by chance.

    This happens where the head multiplies, since only there its weights are sure to be loaded, as a whole or in shards.
    """
    if not isinstance(head, torch.nn.Linear) or head.weight.dtype not in COARSE:
        yield
        return
    module: Any = head
    usual, is_overridden = module.forward, "forward" in vars(module)

    def forward(*inputs: Any, **settings: Any) -> Any:
        with _Widening():
            return usual(*inputs, **settings)

    module.forward = forward
    try:
        yield
    finally:
        if is_overridden:
            module.forward = usual
        else:
            del module.forward


class _Widening(TorchFunctionMode):
    """Compute linear maps of 16-bit numbers in float32."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.nn.functional.linear and args[1].dtype in COARSE:
            return _wide(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _wide(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    if hidden.dtype == weight.dtype and gives_float32(weight):
        wide = torch.mm(hidden.flatten(0, -2), weight.t(), out_dtype=torch.float32).view(*hidden.shape[:-1], -1)
        return wide if bias is None else wide + bias.float()
    hidden = hidden.float()
    if (cached := _cached_head.get(None)) is not None and not weight.is_cuda:
        wide = torch.nn.functional.linear(hidden, cached.of(weight))
    else:
        rows = max(HEAD_FLOATS // weight.shape[1], 1)
        parts = [torch.nn.functional.linear(hidden, part.float()) for part in torch.split(weight, rows)]
        wide = torch.cat(parts, dim=-1)
    return wide if bias is None else wide + bias.float()


def gives_float32(states: torch.Tensor) -> bool:
    """Whether `torch` multiplies 16-bit numbers into float32 on their device: on GPUs of NVIDIA, since version 2.8."""
    return states.is_cuda and torch.version.hip is None and torch.__version__ >= "2.8"  # compared as versions


class _Float32Head:
    """The last 16-bit weights in float32."""

    def __init__(self) -> None:
        self._address, self._wide = 0, torch.empty(0)

    def of(self, weight: torch.Tensor) -> torch.Tensor:
        """These weights in float32; converted again if they are others."""
        if weight.data_ptr() != self._address or weight.shape != self._wide.shape:
            self._address, self._wide = weight.data_ptr(), weight.float()
        return self._wide


_cached_head: ContextVar[_Float32Head] = ContextVar("cached_head")


@contextmanager
def float32_head() -> Iterator[None]:
    """Cache a 16-bit head in float32 on a CPU: converting it at every step takes most of the time of generation."""
    token = _cached_head.set(_Float32Head())
    try:
        yield
    finally:
        _cached_head.reset(token)


class PrefixCache:
    """The states of the last prefix; of the next one, only what the two do not share is computed.

    Args:
        model: a `PreTrainedModel` with a key-value cache.
        device: where its tokens go.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model, self._device = model, device
        self._tokens = np.empty(0, np.int32)
        self._states: list[tuple[torch.Tensor, torch.Tensor]] = []  # per layer, (1, heads, prefix, width)

    def of(self, tokens: NDArray[np.int32], copies: int = 1) -> Any:
        """A cache with the states of `tokens`, for `copies` rows, that the model may append to."""
        shared = common_prefix(self._tokens, tokens)
        if shared < len(tokens):
            self._extend(shared, tokens)
        size = len(tokens)
        return _cache(
            (k[:, :, :size].expand(copies, -1, -1, -1), v[:, :, :size].expand(copies, -1, -1, -1))
            for k, v in self._states
        )

    def clear(self) -> None:
        """Clear the cache: the next prefix is computed from its first token."""
        self._tokens, self._states = np.empty(0, np.int32), []

    @property
    def token_bytes(self) -> int:
        """Memory of one token's states, in bytes; 0 before the first prefix."""
        total = sum(part.nbytes for layer in self._states for part in layer)
        return total // max(len(self._tokens), 1)

    def _extend(self, shared: int, tokens: NDArray[np.int32]) -> None:
        cache = _cache((k[:, :, :shared], v[:, :, :shared]) for k, v in self._states if shared)
        new = to_device(torch.from_numpy(tokens[shared:].astype(np.int64))[None], self._device)
        positions = torch.arange(shared, len(tokens), device=self._device)[None]
        self._model.base_model(input_ids=new, position_ids=positions, past_key_values=cache, use_cache=True)
        self._states = [(layer.keys, layer.values) for layer in cache.layers]
        self._tokens = tokens.copy()


def _cache(states: Any) -> Any:
    from transformers import DynamicCache

    cache = DynamicCache()
    for layer, (keys, values) in enumerate(states):
        cache.update(keys, values, layer)
    return cache


def fuse_activations(model: torch.nn.Module) -> None:
    """Replace the tanh GELU of GPT-2 and others, in place: one pass over a layer instead of seven."""
    from transformers.activations import FastGELUActivation, NewGELUActivation

    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation | FastGELUActivation):
                setattr(module, name, torch.nn.GELU(approximate="tanh"))
