"""Linear layers in the weight layout of oneDNN, for generation in float32 on a CPU.

A step multiplies a few rows by all weights. With weights in blocks that oneDNN chooses, as `torch.compile` stores them
when it freezes a model, this takes half to two thirds of the time, and a prefill takes no longer. The activation of a
gated feed-forward layer and its product are then part of the matrix products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import psutil
import torch

ROWS = 4  # of a step: the number for which oneDNN chooses its blocks
MEMORY_SHARE = 8  # the whole memory is at least as many times the copied weights, however much of it is free
ROUNDING = 1e-5  # relative difference of a layer's outputs: root mean squares
SCALES = (0.1, 1.0, 10.0, 100.0)  # of the rows by which layers are compared
GATED = ("gate_proj", "up_proj", "down_proj", "act_fn")  # the parts of a gated feed-forward layer in `transformers`
ACTIVATIONS = {"SiLU": ("swish", ""), "SiLUActivation": ("swish", ""), "GELUTanh": ("gelu", "tanh")}

Forward = Callable[[torch.Tensor], torch.Tensor]


class OneDnnLayers:
    """The layers of a model that oneDNN computes, and their copied weights.

    A layer whose outputs would differ by more than rounding, or that has hooks, stays as it is. What is copied depends
    on the model and the machine alone, not on free memory, so that all processes round in the same way.

    Args:
        model: a model of `transformers`.
        memory: of the machine in bytes; by default what it has.
    """

    def __init__(self, model: torch.nn.Module, memory: int | None = None) -> None:
        self.forwards: dict[torch.nn.Module, Forward] = {}
        linear = {module: parts for module in model.modules() if (parts := _weight_and_bias(module)) is not None}
        size = sum(weight.nbytes for weight, _ in linear.values())
        total = psutil.virtual_memory().total if memory is None else memory
        if size * MEMORY_SHARE > total:
            return
        with torch.inference_mode():
            packed = {module: found for module, parts in linear.items() if (found := _packed(module, *parts))}
            self.forwards |= {module: each.forward for module, each in packed.items()}
            for module in model.modules():
                if (forward := _gated(module, packed)) is not None:
                    self.forwards[module] = forward

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let oneDNN compute these layers."""
        modules: list[Any] = list(self.forwards)
        try:
            for module in modules:
                module.forward = self.forwards[module]
            yield
        finally:
            for module in modules:
                vars(module).pop("forward", None)


class _Packed:
    """A linear layer whose weights have the layout of oneDNN.

    Args:
        usual: its forward pass.
        weight: (outputs, inputs).
        bias: (outputs,), or None.

    Raises:
        AttributeError, RuntimeError: this `torch`, or this CPU, has no such products.
    """

    def __init__(self, usual: Forward, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.inputs, self._usual, self._bias = weight.shape[1], usual, bias
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS)
        self._product = torch.ops.mkldnn._linear_pointwise

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """The outputs of the layer, (..., outputs), for states (..., inputs)."""
        if states.dtype != torch.float32:
            return self._usual(states)
        return self.activated(states, "none", "")

    def activated(self, states: torch.Tensor, activation: str, algorithm: str) -> torch.Tensor:
        """An activation of the layer's outputs; its name and algorithm are those of oneDNN."""
        found: torch.Tensor = self._product(states, self._weight, self._bias, activation, [], algorithm)
        return found

    def multiplied(self, states: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """The layer's outputs times `others`, (..., outputs)."""
        found: torch.Tensor = self._product(states, others, self._weight, self._bias, "mul")
        return found


def _weight_and_bias(module: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """Weight (outputs, inputs) and bias of a plain linear layer in float32 on the CPU; None for all other modules."""
    from transformers.pytorch_utils import Conv1D

    if type(module) not in (torch.nn.Linear, Conv1D) or not _is_plain(module):
        return None
    weight, bias = module.weight, cast(torch.Tensor | None, module.bias)
    if type(weight) is not torch.nn.Parameter or weight.device.type != "cpu" or weight.dtype != torch.float32:
        return None
    return (weight.detach() if isinstance(module, torch.nn.Linear) else weight.detach().t()), bias


def _is_plain(module: torch.nn.Module) -> bool:
    """Whether a call of a module is its class's forward pass and nothing else."""
    return not ("forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks)


def _packed(module: torch.nn.Module, weight: torch.Tensor, bias: torch.Tensor | None) -> _Packed | None:
    try:
        found = _Packed(module.forward, weight, bias)
        return found if _agree(found.forward, module.forward, found.inputs) else None
    except (AttributeError, RuntimeError, TypeError):
        return None


def _gated(module: torch.nn.Module, packed: dict[torch.nn.Module, _Packed]) -> Forward | None:
    """A gated feed-forward layer in three products, if a module is one."""
    gate, up, down, activation = [cast(Any, getattr(module, name, None)) for name in GATED]
    kind = ACTIVATIONS.get(type(activation).__name__)
    if kind is None or not _is_plain(module) or not all(each in packed for each in (gate, up, down)):
        return None
    first, second, third = packed[gate], packed[up], packed[down]

    usual: Forward = module.forward

    def forward(x: torch.Tensor) -> torch.Tensor:
        if x.dtype != torch.float32:
            return usual(x)
        return third.forward(second.multiplied(x, first.activated(x, *kind)))

    try:
        return forward if _agree(forward, usual, first.inputs) else None
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return None


def _agree(forward: Forward, usual: Forward, width: int) -> bool:
    """Whether two functions of rows agree up to rounding, for rows of small and large numbers."""
    states = torch.randn(1, len(SCALES), width, generator=torch.Generator().manual_seed(0))
    states *= torch.tensor(SCALES)[:, None]
    expected = usual(states)
    return bool(((forward(states) - expected).norm(dim=-1) <= ROUNDING * expected.norm(dim=-1)).all())
