"""Kinds of devices and the parts of their published peaks that a run is assumed to reach: `hardware.json`."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

BYTES = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0, "4 bit": 0.5}  # of a parameter, scales of quantisation aside


@dataclass(frozen=True, slots=True)
class Device:
    """A kind of device as its maker describes it.

    Attributes:
        dtype: the type of the weights, in which its peak is given.
        operations: floating-point operations per second at its peak, dense.
        bandwidth: bytes that it reads from its memory per second.
        memory: bytes of it; None if it depends on what is installed.
        source: where the figures are published.
    """

    name: str
    dtype: str
    operations: float
    bandwidth: float
    memory: float | None
    source: str

    def prefill_seconds(self, operations: float) -> float:
        """Seconds for operations, at the part of the peak that prefill is assumed to reach."""
        return operations / (self.operations * part_of_peak("prefill"))

    def generation_seconds(self, tokens: int, parameters: int) -> float:
        """Seconds to generate tokens one by one, if each reads so many parameters from memory once."""
        return tokens * parameters * BYTES[self.dtype] / (self.bandwidth * part_of_peak("generation"))

    def needed(self, parameters: int) -> int | None:
        """How many devices hold so many parameters in its type; None if its memory is not given."""
        return None if self.memory is None else math.ceil(parameters * BYTES[self.dtype] / self.memory)


def devices() -> list[Device]:
    """The known devices, slowest first."""
    return [Device(**each) for each in _table()["devices"]]


def part_of_peak(work: str) -> float:
    """The assumed part of the published peak: of operations for `prefill`, of bandwidth for `generation`."""
    return float(_table()[work]["fraction"])


@cache
def _table() -> Any:
    return json.loads(resources.files("icl_eval.runs").joinpath("hardware.json").read_text(encoding="utf-8"))
