"""A network of `transformers`, asked for the next-token logits of some places.

Only the hidden states at those places reach the language-model head, so there is never a batch x time x vocabulary
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

from icl_eval.models.checkpoints.devices import input_device, to_device, to_host
from icl_eval.models.networks.sharing import distance, tolerance
from icl_eval.models.protocol import OutOfMemory

HEAD_FLOATS = 2**24  # of a 16-bit head's weights in float32 at a time: 64 MiB
COARSE = (torch.bfloat16, torch.float16)
MEMORY_ERRORS = ("allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")  # what a device without memory says in other words


class Network:
    """A `PreTrainedModel` with a language-model head.

    Attributes:
        head: the module that gets the asked places alone; none if it must see all.
        config: the configuration of the language model proper.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.head = model, model.get_output_embeddings()
        self.config = model.config.get_text_config()
        self.device = input_device(model)

    def ask(self, inputs: Mapping[str, Any], places: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """The logits (places, V) in float32 at places of the flattened batch, and all that the model returned."""
        with _only_places(self.head, places) as picked:
            output = self.model(**inputs)
        logits = output.logits.flatten(0, -2)  # (N, V), or (B T, V) from a model that does not call its head
        asked: torch.Tensor = logits if picked else logits[to_device(places, logits.device)]
        return asked.to(self.device, torch.float32), output

    def spare_head(self, ask: Callable[[], torch.Tensor], precision: str) -> None:
        """Let the head see the asked places alone only if that gives what it gives when it sees all.

        Args:
            ask: gives this network's logits (N, V) at several places; their next tokens must differ.
            precision: of the weights, such as `float32`.
        """
        head = self.head
        try:
            with torch.inference_mode():
                picked = ask().cpu().numpy()
                self.head = None
                every = ask().cpu().numpy()
        except (RuntimeError, IndexError, ValueError):
            self.head = None
            return
        if distance(picked, every) <= tolerance(precision) * distance(np.roll(every, 1, axis=0), every):
            self.head = head


def asked_tokens(logits: torch.Tensor, targets: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Log-probabilities (N,) in nats of targets by logits (N, V), and whether each was the most likely token."""
    return enqueue_asked_tokens(logits, targets)()


def enqueue_asked_tokens(
    logits: torch.Tensor, targets: NDArray[np.int32]
) -> Callable[[], tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """As `asked_tokens`; the device is only waited for by the function returned."""
    tokens = to_device(torch.from_numpy(targets.astype(np.int64)), logits.device)
    asked = logits.gather(1, tokens[:, None])[:, 0]
    copied = to_host(torch.stack([asked - logits.logsumexp(dim=1), (asked >= logits.amax(dim=1)).float()]))

    def read() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        logprobs, greedy = copied()
        return logprobs, greedy > 0

    return read


@contextmanager
def full_device() -> Iterator[None]:
    """Tell a device without memory from other errors.

    Raises:
        OutOfMemory: what ran did not fit the device.
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
def _only_places(head: Any, places: torch.Tensor) -> Iterator[list[bool]]:
    """Let only the hidden states at `places` of the flattened batch reach the head; the list tells whether they did."""
    picked: list[bool] = []

    def pick(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if not inputs:
            return inputs
        picked.append(True)
        return (inputs[0].flatten(0, 1)[to_device(places, inputs[0].device)][None], *inputs[1:])

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
    """Let a 16-bit head give float32, from the same weights: rounded to 16 bits, options would tie by chance.

    This is done where the head multiplies, for only there its weights are sure to be there and whole, or in shares.
    """
    if not isinstance(head, torch.nn.Linear) or head.weight.dtype not in COARSE:
        yield
        return
    module: Any = head
    usual, is_own = module.forward, "forward" in vars(module)

    def forward(*inputs: Any, **settings: Any) -> Any:
        with _Widening():
            return usual(*inputs, **settings)

    module.forward = forward
    try:
        yield
    finally:
        if is_own:
            module.forward = usual
        else:
            del module.forward


class _Widening(TorchFunctionMode):
    """Linear maps of 16-bit numbers in float32."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.nn.functional.linear and args[1].dtype in COARSE:
            return _wide(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _wide(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    hidden = hidden.float()
    if (kept := _kept.get(None)) is not None and not weight.is_cuda:
        wide = torch.nn.functional.linear(hidden, kept.of(weight))
    else:
        rows = max(HEAD_FLOATS // weight.shape[1], 1)
        pieces = [torch.nn.functional.linear(hidden, piece.float()) for piece in torch.split(weight, rows)]
        wide = torch.cat(pieces, dim=-1)
    return wide if bias is None else wide + bias.float()


class _KeptHead:
    """The last 16-bit weights in float32."""

    def __init__(self) -> None:
        self._place, self._wide = 0, torch.empty(0)

    def of(self, weight: torch.Tensor) -> torch.Tensor:
        """These weights in float32, made anew if they are others."""
        if weight.data_ptr() != self._place or weight.shape != self._wide.shape:
            self._place, self._wide = weight.data_ptr(), weight.float()
        return self._wide


_kept: ContextVar[_KeptHead] = ContextVar("kept")


@contextmanager
def head_kept() -> Iterator[None]:
    """Keep a 16-bit head in float32, on a processor: to make it so at every step takes most of the time of writing."""
    token = _kept.set(_KeptHead())
    try:
        yield
    finally:
        _kept.reset(token)
