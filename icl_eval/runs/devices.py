"""Kinds of devices, and how long they take for so many operations or bytes at a part of what their makers publish."""

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
        memory: bytes of it; none where it is what the owner has put in.
        source: where the figures are published.
    """

    name: str
    dtype: str
    operations: float
    bandwidth: float
    memory: float | None
    source: str

    def reading(self, operations: float) -> float:
        """Seconds for operations, at the part of the peak that reading many tokens at once is assumed to reach."""
        return operations / (self.operations * part_of_peak("reading"))

    def writing(self, tokens: int, parameters: int) -> float:
        """Seconds for tokens written one by one, for each of which so many parameters are read from memory once."""
        return tokens * parameters * BYTES[self.dtype] / (self.bandwidth * part_of_peak("writing"))

    def needed(self, parameters: int) -> int | None:
        """How many hold so many parameters in its type, and nothing else; none if its memory is not given."""
        return None if self.memory is None else math.ceil(parameters * BYTES[self.dtype] / self.memory)


def devices() -> list[Device]:
    """Those that are known, the slowest first."""
    return [Device(**each) for each in _table()["devices"]]


def part_of_peak(work: str) -> float:
    """The assumed part of the published peak: of operations for `reading`, of bandwidth for `writing`."""
    return float(_table()[work]["fraction"])


@cache
def _table() -> Any:
    return json.loads(resources.files("icl_eval.runs").joinpath("devices.json").read_text(encoding="utf-8"))
