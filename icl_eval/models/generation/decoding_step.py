"""A decoding step over a KV pool: the attention of its layers, and its replay on a GPU.

A step attends to shared prefixes and to the suffixes of hypotheses in one softmax. It takes a few batched products per
layer for any number of hypotheses, and uses the same operations on every device. A GPU computes the small kernels of a
step several times faster than its host launches them. So a step with fixed shapes is recorded once as a CUDA graph, and
replayed with new numbers in the same memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from icl_eval.models.causal.tree_attention import Scores
from icl_eval.models.loading.devices import to_device
from icl_eval.models.network import gives_float32, lacks_memory

States = Sequence[Sequence[torch.Tensor]]  # keys and values of every layer, (rows, key heads, tokens, width)
Compute = Callable[[], torch.Tensor]
Record = Callable[[Compute], Compute]

LAUNCHED = 4  # steps before one is recorded: recording takes about as long as launching these
REPLAYED = 1e-3  # maximum difference between logits of a replay and a step, relative to differences between tokens


def cuda_graphs(device: torch.device) -> Record:
    """A function that records computations on a GPU as CUDA graphs; a replay writes to the same output tensor.

    The first computation is first run in a mode in which `torch` raises an error instead of waiting for a GPU, because
    after a recording that fails, its memory allocator can no longer free memory.

    Raises:
        RuntimeError: raised while recording, if a computation waits for the device or cannot be part of a graph.
    """
    # the stream that `torch` selects may belong to another GPU, on which nothing would be recorded
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    never_waits = False

    def record(compute: Compute) -> Compute:
        nonlocal never_waits
        if not never_waits:
            with _refusing_to_wait():
                compute()
            never_waits = True
        graph = torch.cuda.CUDAGraph()
        # `torch.cuda.graph` would also collect garbage and return the free memory of the process to the GPU
        torch.cuda.synchronize(device)
        with torch.cuda.device(device), torch.cuda.stream(stream):
            graph.capture_begin()
            try:
                output = compute()
            except BaseException:
                with suppress(RuntimeError):  # it may fail only because of the first error
                    graph.capture_end()
                raise
            graph.capture_end()

        def replay() -> torch.Tensor:
            graph.replay()
            return output

        return replay

    return record


@contextmanager
def _refusing_to_wait() -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


class Recorder:
    """Records the steps of a model, until a step cannot be recorded, or its replay gives another result.

    Args:
        record: records a computation, like the function that `cuda_graphs` returns.
    """

    def __init__(self, record: Record) -> None:
        self.works = True
        self._record, self._is_checked = record, False

    def recorded(self, compute: Compute) -> Compute | None:
        """A replay of `compute`; None if it cannot be recorded, and for all later computations then.

        The first replay is compared with `compute`, which must give the same result when it is called several times.
        """
        if not self.works:
            return None
        try:
            replay = self._record(compute)
            if not self._is_checked:
                expected = compute()
                replay().fill_(torch.nan)  # if nothing was recorded, the tensor would still have the first result
                if not _alike(expected, replay()):
                    raise RuntimeError("a replay differs")
        except RuntimeError as error:
            if lacks_memory(error):
                raise
            self.works = False
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            sentence = f"a step cannot be recorded as a CUDA graph ({reason}), so the model generates more slowly"
            warnings.warn(sentence, RuntimeWarning, stacklevel=2)
            return None
        self._is_checked = True
        return replay


class DecodingStep:
    """The attention of all steps in which hypotheses stay in the same slots.

    Args:
        shared: states of prefixes, one row for each.
        suffixes: states of suffixes, one slot for each; a step writes those of its new tokens.
        prefix_of: the prefix of each slot, (slots,).
        lengths: number of tokens of each prefix, (prefixes,).
    """

    def __init__(
        self, shared: States, suffixes: States, prefix_of: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> None:
        self._shared, self._suffixes = shared, suffixes
        self._prefixes, self._lengths = len(lengths), lengths[prefix_of]
        counts = np.bincount(prefix_of, minlength=len(lengths))
        self._most = int(counts.max())  # most slots of one prefix
        order = np.argsort(prefix_of, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        places = prefix_of * self._most + rank
        self._in_order = np.array_equal(places, np.arange(len(lengths) * self._most))
        self._places = Numbers(places[None])
        self._used = 0
        self.numbers = Numbers(np.zeros((4, len(prefix_of)), np.int64))  # tokens, positions, prefix and suffix lengths
        self._masks: dict[tuple[torch.device, int | None], torch.Tensor] = {}
        self._replay: Compute | None = None
        self._runs = 0

    def load(self, tokens: NDArray[np.int64], suffixes: NDArray[np.int64], used: int) -> None:
        """Set the inputs of the next step.

        Args:
            tokens: the new token of each slot, (slots,).
            suffixes: number of tokens that are stored of each suffix, (slots,).
            used: maximum number of keys of a suffix, including the new token's.
        """
        self.numbers.load(np.stack([tokens, self._lengths + suffixes, self._lengths, suffixes]))
        self._used = used

    def logits(self, compute: Compute, recorder: Recorder | None) -> torch.Tensor:
        """The result of `compute`, in which layers call this step; recorded after the first few calls."""

        def run() -> torch.Tensor:
            self._masks.clear()
            return compute()

        self._runs += 1
        if recorder is not None and self._replay is None and self._runs > LAUNCHED:
            self._replay = recorder.recorded(run)
        return run() if self._replay is None else self._replay().clone()  # the next replay overwrites it

    def __call__(
        self, layer: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scores: Scores
    ) -> torch.Tensor:
        """The attention of a layer for one new token in each slot; see `tree_attention.Attention`."""
        (prefix_keys, prefix_values), (all_keys, all_values) = (
            self._shared[layer.layer_idx],
            self._suffixes[layer.layer_idx],
        )
        heads, count, width = query.shape[1:]
        new = self.numbers.on(query.device)[3]
        for states, added in ((all_keys, key), (all_values, value)):
            added = added.transpose(0, 2)  # (slots, key heads, 1, width)
            states.scatter_(2, new[:, None, None, None].expand_as(added), added)
        suffix_keys, suffix_values = all_keys[:, :, : self._used], all_values[:, :, : self._used]
        queries = query[0].view(key.shape[1], -1, count, width).permute(2, 0, 1, 3)  # (N, key heads, queries, width)
        queries = queries * (width**-0.5 if scores.scaling is None else scores.scaling)
        before = self._split(_product(self._together(queries), prefix_keys.mT))
        products = torch.cat([before, _product(queries, suffix_keys.mT)], dim=-1)
        shares = self._softmax(products, scores).to(value.dtype)
        size = prefix_keys.shape[2]
        output = _product(shares[..., size:], suffix_values)
        if size:
            output += self._split(_product(self._together(shares[..., :size]), prefix_values))
        return output.permute(1, 2, 0, 3).reshape(1, heads, count, -1)

    def _softmax(self, products: torch.Tensor, scores: Scores) -> torch.Tensor:
        if scores.softcap is not None:
            products = torch.tanh(products / scores.softcap) * scores.softcap
        products = products + self._mask(products.device, scores.window)
        if scores.sinks is None:
            return products.softmax(dim=-1)
        column = scores.sinks.float().view(1, products.shape[1], -1, 1).expand(len(products), -1, -1, -1)
        return torch.cat([products, column], dim=-1).softmax(dim=-1)[..., :-1]

    def _together(self, rows: torch.Tensor) -> torch.Tensor:
        """Rearrange (slots, key heads, queries, width) to (prefixes, key heads, slots x queries, width)."""
        _, heads, queries, width = rows.shape
        placed = rows
        if not self._in_order:
            placed = rows.new_zeros(self._prefixes * self._most, heads, queries, width)
            placed[self._places.on(rows.device)[0]] = rows
        placed = placed.view(self._prefixes, self._most, heads, queries, width).transpose(1, 2)
        return placed.reshape(self._prefixes, heads, self._most * queries, width)

    def _split(self, placed: torch.Tensor) -> torch.Tensor:
        """The inverse of `_together`."""
        _, heads, queries, width = placed.shape
        rows = placed.view(self._prefixes, heads, self._most, queries // self._most, width).transpose(1, 2)
        return rows.flatten(0, 1) if self._in_order else rows.flatten(0, 1)[self._places.on(placed.device)[0]]

    def _mask(self, device: torch.device, window: int | None) -> torch.Tensor:
        """The additive mask (slots, 1, 1, keys), which hides padding after prefixes and suffixes, and distant keys."""
        if (device, window) not in self._masks:
            _, _, lengths, suffixes = self.numbers.on(device)[:, :, None]
            before = torch.arange(self._shared[0][0].shape[2], device=device)[None]
            after = torch.arange(self._used, device=device)[None]
            hidden = torch.cat([before >= lengths, after > suffixes], dim=1)
            if window is not None:
                hidden |= torch.cat([lengths + suffixes - before, suffixes - after], dim=1) >= window
            mask = torch.zeros(hidden.shape, device=device).masked_fill_(hidden, -torch.inf)
            self._masks[device, window] = mask[:, None, None]
        return self._masks[device, window]


class Numbers:
    """Integers with a copy on each device, always in the same memory; copying does not wait for a device."""

    def __init__(self, values: NDArray[np.int64]) -> None:
        self._host, self._on = torch.from_numpy(values), dict[torch.device, torch.Tensor]()

    def on(self, device: torch.device) -> torch.Tensor:
        """The integers on a device."""
        if device not in self._on:
            self._on[device] = to_device(self._host, device)
        return self._on[device]

    def load(self, values: NDArray[np.int64]) -> None:
        """Replace the integers by others of the same shape, on all devices."""
        self._host = torch.from_numpy(values)
        for device, there in self._on.items():
            there.copy_(self._host.pin_memory() if device.type == "cuda" else self._host, non_blocking=True)


def _alike(logits: torch.Tensor, others: torch.Tensor) -> bool:
    """Whether logits (N, V) are equal up to rounding, relative to the differences between tokens."""
    return bool((logits - others).square().mean() <= REPLAYED**2 * (logits - logits.roll(1, dims=1)).square().mean())


def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """A batched product in float32."""
    if left.dtype == torch.float32:
        return left @ right
    if not gives_float32(left):
        return left.float() @ right.float()
    product = torch.bmm(left.flatten(0, 1), right.flatten(0, 1), out_dtype=torch.float32)
    return product.view(*left.shape[:-1], -1)
