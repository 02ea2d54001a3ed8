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
import psutil
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

from icl_eval.models.loading.devices import input_device, to_device, to_host
from icl_eval.models.loading.precision import precision_of
from icl_eval.models.protocol import Budget, OutOfMemory
from icl_eval.models.tokenization import TokenizerModel

CPU_ROW_BUDGET = 4096  # tokens; larger batches are no faster on a CPU
BYTES_PER_ACTIVATION = (
    40  # bytes per token, layer width and byte of the weights' type: a guess, halved when memory runs out
)
TOLERANCE = {"float32": 1e-3, "float64": 1e-3}  # of that effect; coarser types round by more
COARSE_TOLERANCE = 0.25
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


class LocalModel(TokenizerModel):
    """A loaded model of `transformers` and its tokenizer.

    Args:
        model: a `PreTrainedModel`.
        tokenizer: its tokenizer.
        name: its name in tables.
        start: special tokens before every text.
        window: context length in tokens.
    """

    measures_noise = True
    gives_moments = True
    budget: Budget

    def __init__(self, model: Any, tokenizer: Any, name: str, start: tuple[int, ...], window: int) -> None:
        super().__init__(tokenizer, name, start)
        self.model, self.window = model.eval(), window
        self.precision = precision_of(model)
        self.weights = sum(parameter.nbytes for parameter in model.parameters())
        self.parameter_count = model.num_parameters()
        self._network = Network(model)
        self.device = self._network.device
        self.vocabulary = int(self._network.config.vocab_size)
        self.token_bytes = bytes_per_token(model)
        self.budget = Budget(token_budget(model, self.device, window))


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


def ordinary_tokens(size: int, vocabulary: int) -> NDArray[np.int64]:
    """Tokens from all over a vocabulary: after special ones, at its beginning, 16 bits may be little but rounding."""
    return (np.arange(size, dtype=np.int64) * 7919 + 11) % vocabulary


def distance(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """Root mean square of the difference: over a large vocabulary the largest one is mostly rounding."""
    return float(np.sqrt(np.mean(np.square(left - right))))


def tolerance(precision: str) -> float:
    """What rounding alone may change, as a share of the effect of other visible tokens."""
    return TOLERANCE.get(precision, COARSE_TOLERANCE)


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


def fuse_activations(model: torch.nn.Module) -> None:
    """Replace the tanh GELU of GPT-2 and others, in place: one pass over a layer instead of seven."""
    from transformers.activations import FastGELUActivation, NewGELUActivation

    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation | FastGELUActivation):
                setattr(module, name, torch.nn.GELU(approximate="tanh"))


def bytes_per_token(model: Any) -> int:
    """Memory that a token of a batch is expected to take."""
    return BYTES_PER_ACTIVATION * int(model.config.get_text_config().hidden_size) * int(model.dtype.itemsize)


def state_budget(model: Any, device: torch.device, least: int) -> int:
    """Tokens whose keys and values half of the free memory of the fullest device can hold.

    Args:
        model: its layers may be on several devices; each is counted as if it held all states.
        device: of the input tokens.
        least: tokens of one window.
    """
    config = model.config.get_text_config()
    heads = int(config.num_attention_heads) if hasattr(config, "num_attention_heads") else 1
    shared = heads // int(getattr(config, "num_key_value_heads", None) or heads) or 1
    state_bytes = 2 * int(config.num_hidden_layers) * int(config.hidden_size) * int(model.dtype.itemsize) // shared
    return max(least, _free(model, device) // 2 // state_bytes)


def token_budget(model: Any, device: torch.device, least: int) -> int:
    """Tokens per batch that half of the free memory of the fullest device can hold.

    Args:
        model: its parameters may be on several devices.
        device: of the input tokens.
        least: tokens of one window.
    """
    tokens = max(least, _free(model, device) // 2 // bytes_per_token(model))
    return tokens if device.type == "cuda" else min(CPU_ROW_BUDGET, tokens)


def _free(model: Any, device: torch.device) -> int:
    """Free memory of the fullest device, in bytes."""
    if device.type == "cuda":
        devices = {device, *(each.device for each in model.parameters() if each.is_cuda)}
        return min(torch.cuda.mem_get_info(each)[0] for each in devices)
    return int(psutil.virtual_memory().available)
