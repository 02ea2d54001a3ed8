"""Models of `transformers` in this process: logits at scored positions, their log-probabilities, and batch sizes.

Only the hidden states at scored positions reach the language-model head, so there is never a tensor of batch x time x
vocabulary. Logits are float32, whatever the type of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
BYTES_PER_ACTIVATION = 40
"""Memory of a token, divided by hidden size and bytes per weight: an estimate; budgets are halved if it is too low."""
TOLERANCE = {"float32": 1e-3, "float64": 1e-3}  # by precision; see `tolerance`
COARSE_TOLERANCE = 0.25  # of all other types
MOMENT_FLOATS = 2**24  # logits whose moments are computed at a time: 64 MiB
CACHED_FLOATS = 2**20  # the same on a CPU, as many as its cache holds: larger parts take two to three times as long
IMPOSSIBLE = -200.0  # nats: smaller log-probabilities are probabilities of 0 in float32
HEAD_FLOATS = 2**24  # weights of a 16-bit head that are converted to float32 at a time: 64 MiB
COARSE = (torch.bfloat16, torch.float16)
MEMORY_ERRORS = ("allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What messages of `RuntimeError` contain if a device is out of memory, besides those of `torch.OutOfMemoryError`."""


class LocalModel(TokenizerModel):
    """The base class of loaded models of `transformers`.

    Args:
        model: a `PreTrainedModel`.
        tokenizer: its tokenizer.
        name: the name in tables.
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
    """The network of a `PreTrainedModel` with a language-model head.

    Attributes:
        head: the language-model head, if it gets the hidden states of scored positions only; None if it gets all.
        config: the configuration of the text model, which is part of the model's configuration or all of it.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.head = model, model.get_output_embeddings()
        self.config = model.config.get_text_config()
        self.device = input_device(model)

    def forward(self, inputs: Mapping[str, Any], indices: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Logits (indices, V) in float32 at these indices of the flattened batch (B T,), and the model's output."""
        with _select_for_head(self.head, indices) as picked:
            output = self.model(**inputs)
        logits = output.logits.flatten(0, -2)  # (N, V), or (B T, V) from a model that does not call its head
        found: torch.Tensor = logits if picked else logits[to_device(indices, logits.device)]
        return found.to(self.device, torch.float32), output

    def restrict_head(self, forward: Callable[[], torch.Tensor], precision: str) -> None:
        """From now on, pass only scored positions to the head, if this gives the same logits as passing all.

        Args:
            forward: computes logits (N, V) at several positions with different next tokens.
            precision: the precision of the weights, such as `float32`.
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


def padded(rows: Sequence[NDArray[np.int32]], padding: int = 0) -> torch.Tensor:
    """Token ids of rows as (N, longest) int64, padded on the right."""
    tokens = torch.full((len(rows), max(map(len, rows))), padding, dtype=torch.long)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = torch.from_numpy(row.astype(np.int64))
    return tokens


def not_padding(rows: Sequence[NDArray[np.int32]]) -> torch.Tensor:
    """1 where `padded` has a token of a row, and 0 where it has padding, (N, longest) int64."""
    lengths = torch.tensor([len(row) for row in rows])
    return (torch.arange(int(lengths.max())) < lengths[:, None]).long()


def ordinary_tokens(size: int, vocabulary: int) -> NDArray[np.int64]:
    """Tokens (size,) spread over a vocabulary, for tests of a model.

    The first tokens of a vocabulary are often special tokens, after which 16-bit logits can be mostly rounding errors.
    """
    return (np.arange(size, dtype=np.int64) * 7919 + 11) % vocabulary


def distance(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """Root mean square of the difference of logits; the maximum over a large vocabulary would be mostly rounding."""
    return float(np.sqrt(np.mean(np.square(left - right))))


def tolerance(precision: str) -> float:
    """How far logits may differ because of rounding, relative to the difference that other input tokens make."""
    return TOLERANCE.get(precision, COARSE_TOLERANCE)


TokenScores = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]
"""Log-probabilities (N,) in nats, whether each token was the most likely one (N,), and moments (2, N) or (0, N)."""


def token_logprobs(logits: torch.Tensor, targets: NDArray[np.int32], moments: bool = False) -> TokenScores:
    """Log-probabilities of targets (N,) from logits (N, V), with the moments of each distribution if requested."""
    return enqueue_token_logprobs(logits, targets, moments)()


def enqueue_token_logprobs(
    logits: torch.Tensor, targets: NDArray[np.int32], moments: bool = False
) -> Callable[[], TokenScores]:
    """A function that returns what `token_logprobs` does; the device computes it meanwhile."""
    tokens = to_device(torch.from_numpy(targets.astype(np.int64)), logits.device)
    scores, totals = logits.gather(1, tokens[:, None])[:, 0], logits.logsumexp(dim=1)
    found = [scores - totals, (scores >= logits.amax(dim=1)).float()]
    copied = to_host(torch.stack([*found, *(_moments(logits, totals) if moments else ())]))

    def read() -> TokenScores:
        rows = copied()
        return rows[0], rows[1] > 0, rows[2:]

    return read


def _moments(logits: torch.Tensor, totals: torch.Tensor) -> torch.Tensor:
    """Mean and standard deviation (2, N) of log p under p, from logits (N, V) and their log-sum-exps (N,).

    They are computed for a part of the rows at a time, because memory may not hold the logits and the probabilities of
    a whole batch.
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
    """Raise `OutOfMemory` in place of the errors by which `torch` reports that a device is out of memory.

    Raises:
        OutOfMemory: the device has no memory left for what the block computes.
    """
    try:
        yield
    except RuntimeError as error:
        if lacks_memory(error):
            raise OutOfMemory(str(error).splitlines()[0]) from error
        raise


def lacks_memory(error: RuntimeError) -> bool:
    """Whether an error means that a device is out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in MEMORY_ERRORS)


@contextmanager
def _select_for_head(head: Any, indices: torch.Tensor) -> Iterator[list[bool]]:
    """Pass only the hidden states at these indices of the flattened batch to the head; the list is not empty if so."""
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
        with _float32_logits(head):
            yield picked
    finally:
        hook.remove()


@contextmanager
def _float32_logits(head: torch.nn.Module) -> Iterator[None]:
    """Let a 16-bit head compute float32 logits from the same weights; in 16 bits, many logits would be equal.

    The product itself is replaced, because offloaded or sharded weights are only available there.
    """
    if not isinstance(head, torch.nn.Linear) or head.weight.dtype not in COARSE:
        yield
        return
    module: Any = head
    usual, is_overridden = module.forward, "forward" in vars(module)

    def forward(*inputs: Any, **settings: Any) -> Any:
        with _Float32Linear():
            return usual(*inputs, **settings)

    module.forward = forward
    try:
        yield
    finally:
        if is_overridden:
            module.forward = usual
        else:
            del module.forward


class _Float32Linear(TorchFunctionMode):
    """Compute linear layers with 16-bit weights in float32."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.nn.functional.linear and args[1].dtype in COARSE:
            return _float32_linear(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _float32_linear(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
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
    """Whether `torch.mm` can return float32 for 16-bit tensors: on NVIDIA GPUs, since `torch` 2.8."""
    return states.is_cuda and torch.version.hip is None and torch.__version__ >= "2.8"  # a comparison of versions


class _Float32Head:
    """A cache of the weights that were last converted to float32."""

    def __init__(self) -> None:
        self._address, self._float32_linear = 0, torch.empty(0)

    def of(self, weight: torch.Tensor) -> torch.Tensor:
        """The weights in float32, converted unless they are the cached ones."""
        if weight.data_ptr() != self._address or weight.shape != self._float32_linear.shape:
            self._address, self._float32_linear = weight.data_ptr(), weight.float()
        return self._float32_linear


_cached_head: ContextVar[_Float32Head] = ContextVar("cached_head")


@contextmanager
def float32_head() -> Iterator[None]:
    """Keep a 16-bit head in float32 on a CPU; converting it in each step would take most of the time of generation."""
    token = _cached_head.set(_Float32Head())
    try:
        yield
    finally:
        _cached_head.reset(token)


def fuse_activations(model: torch.nn.Module) -> None:
    """Replace the tanh GELU of GPT-2 and similar models in place, by one that needs one pass instead of seven."""
    from transformers.activations import FastGELUActivation, NewGELUActivation

    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation | FastGELUActivation):
                setattr(module, name, torch.nn.GELU(approximate="tanh"))


def bytes_per_token(model: Any) -> int:
    """Expected memory of each token of a batch, in bytes."""
    return BYTES_PER_ACTIVATION * int(model.config.get_text_config().hidden_size) * int(model.dtype.itemsize)


def state_budget(model: Any, device: torch.device, least: int, state_bytes: int = 0) -> int:
    """Number of tokens whose keys and values fit half of the free memory of the fullest device.

    Args:
        model: the model; if its layers are on several devices, each is assumed to hold the states of all layers.
        device: the device of the input tokens.
        least: the minimum, such as the tokens of one window.
        state_bytes: memory of the keys and values of a token, in bytes; if not known, that of the configuration.
    """
    if not state_bytes:
        config = model.config.get_text_config()
        heads = int(getattr(config, "num_attention_heads", None) or 1)
        width = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
        key_heads = int(getattr(config, "num_key_value_heads", None) or heads)
        state_bytes = 2 * int(config.num_hidden_layers) * key_heads * width * int(model.dtype.itemsize)
    return max(least, _free(model, device) // 2 // state_bytes)


def token_budget(model: Any, device: torch.device, least: int) -> int:
    """Number of tokens of a batch that fit half of the free memory of the fullest device.

    Args:
        model: the model, whose parameters may be on several devices.
        device: the device of the input tokens.
        least: the minimum, such as the tokens of one window.
    """
    tokens = max(least, _free(model, device) // 2 // bytes_per_token(model))
    return tokens if device.type == "cuda" else min(CPU_ROW_BUDGET, tokens)


def _free(model: Any, device: torch.device) -> int:
    """Free memory of the fullest device, in bytes."""
    if device.type == "cuda":
        devices = {device, *(each.device for each in model.parameters() if each.is_cuda)}
        return min(map(_free_of_gpu, devices))
    return int(psutil.virtual_memory().available)


def _free_of_gpu(device: torch.device) -> int:
    """Free memory of a GPU in bytes, including what `torch` has kept to use it again."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept
