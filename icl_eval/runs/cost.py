"""The cost of a run: counts of tokens and operations, memory, and estimates of time on common devices.

`hardware.json` lists the devices with their published peaks, and the assumed fraction of a peak that a run reaches.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from icl_eval.engine import Workload
from icl_eval.results.records import Failure

if TYPE_CHECKING:
    from icl_eval.models.meta_model import ParameterCounts

BYTES = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0, "4 bit": 0.5}  # per parameter, without quantisation scales
MIB = 2**20
UNITS = ((2**40, "TiB"), (2**30, "GiB"), (MIB, "MiB"), (2**10, "KiB"))
TIMES = ((365 * 86400, "years"), (86400, "days"), (3600, "hours"), (60, "minutes"))
SOURCES = "2 N: Kaplan et al. 2020, Table 1; attention: Hoffmann et al. 2022, appendix F"


@dataclass(frozen=True, slots=True)
class Explanation:
    """The workload of a run and the memory of its largest batch. `str()` of it is the text of `run --explain`.

    Attributes:
        workload: counts of requests, tokens and batches.
        weights: size of the model's weights in bytes; 0 if unknown.
        memory: bytes of the largest batch by purpose, such as `activations`; empty if unknown.
        prefix_sharing_limit: why prefixes cannot be shared, or not all of them; empty if all can.
        failures: tasks that would have no scores.
        sample: how many of the prompts the counts are estimated from, in words; empty if all prompts are counted.
    """

    workload: Workload
    weights: int
    memory: dict[str, int]
    prefix_sharing_limit: str = ""
    failures: tuple[Failure, ...] = ()
    sample: str = ""

    def __str__(self) -> str:
        work = self.workload
        lines = {
            **({"estimated": self.sample} if self.sample else {}),
            "requests": f"{work.requests:,}, {work.known:,} of them cached, {work.repeated:,} duplicates",
            "input tokens": f"{work.one_by_one:,} in the requests that are not cached",
            "computed tokens": f"{work.computed:,}",
            "sharing factor": f"{work.sharing:.2f}"
            + (f" ({self.prefix_sharing_limit})" if self.prefix_sharing_limit else ""),
        }
        if work.generated:
            lines["generated tokens"] = f"at most {work.generated:,}"
        if work.batches:
            lines["batches"] = f"{work.batches:,}, the largest of {work.longest:,} tokens"
        sizes = [("weights", self.weights), *self.memory.items()]
        if any(size for _, size in sizes):
            lines["memory"] = ", ".join(f"{name} {size / MIB:,.0f} MiB" for name, size in sizes if size)
        failures = [("failure", str(each)) for each in self.failures]
        return "".join(f"{name:16} {text}\n" for name, text in [*lines.items(), *failures])


@dataclass(frozen=True, slots=True)
class Cache:
    """The size of a cache of keys and values.

    Attributes:
        dtype: data type of the keys and values.
        token: bytes for each token.
        longest: bytes for the longest request.
    """

    dtype: str
    token: int
    longest: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The counted size of a model and of a run, and its estimated time. `str()` of it is the text of `icl-eval plan`.

    Attributes:
        explanation: requests, tokens, batches and memory, as `explain` returns them.
        counts: numbers of parameters of the model.
        caches: size of the cache in each data type; empty if unknown.
        precision: data type of the weights for which `explanation` states the memory.
        device: type of device for which batches are planned.
    """

    explanation: Explanation
    counts: ParameterCounts
    caches: tuple[Cache, ...]
    precision: str
    device: str

    @property
    def prefill_flops(self) -> int:
        """Floating-point operations of prefill, for all requests together."""
        work, counts = self.explanation.workload, self.counts
        return 2 * counts.body * work.computed + 2 * counts.head * work.scored + counts.pair * work.attended

    @property
    def generation_flops(self) -> int:
        """Upper bound on the floating-point operations of generation with one beam, at the longest context."""
        work, counts = self.explanation.workload, self.counts
        return work.generated * (2 * counts.body + 2 * counts.head + counts.pair * work.context)

    @property
    def parameters_per_step(self) -> int:
        """Number of parameters that are read from memory to generate one token of one text."""
        return self.counts.body + self.counts.head

    def weights(self, dtype: str) -> float:
        """Size of all parameters in bytes, in a data type such as `bfloat16`, `int8` or `4 bit`."""
        return self.counts.parameters * BYTES[dtype]

    def __str__(self) -> str:
        counts, work = self.counts, self.explanation.workload
        active = f", {counts.active:,} of them active for a token" if counts.active else ""
        lines = [
            ("model", f"{counts.parameters:,} parameters{active}; planned in {self.precision}"),
            ("weights", ", ".join(f"{dtype} {_size(self.weights(dtype))}" for dtype in BYTES)),
            ("cache", self._cache(work)),
            ("assumed", f"how prompts share rows on {self.device}, from the configuration alone: nothing was tested"),
            ("operations", _operations("for prefill", self.prefill_flops)),
        ]
        if work.generated:
            lines[-1] = (
                "operations",
                f"{lines[-1][1]}, {_operations('at most for generation', self.generation_flops)}",
            )
        lines += [
            ("", f"2 x {counts.body:,} per token, 2 x {counts.head:,} per scored or generated token,"),
            ("", f"{counts.pair:,} per attended pair ({SOURCES})"),
            *self._times(bool(work.generated)),
        ]
        printed = [f"{name:16} {text}\n" for name, text in lines]
        return "".join([*printed[:3], str(self.explanation), *printed[3:]])

    def _cache(self, work: Workload) -> str:
        if not self.caches:
            return "unknown: the model cannot be tried without weights"
        token = ", ".join(f"{cache.dtype} {_size(cache.token)}" for cache in self.caches)
        longest = ", ".join(f"{cache.dtype} {_size(cache.longest)}" for cache in self.caches)
        return f"of a token {token}; of the longest request, {work.context:,} tokens, {longest}"

    def _times(self, generates: bool) -> Iterator[tuple[str, str]]:
        """Lines of a heading and a text: the assumptions of the estimate, then the times on each device."""
        text = f"prefill at {fraction_of_peak('prefill'):.0%} of a device's peak"
        if generates:
            text += f", generation of one text at a time at {fraction_of_peak('generation'):.0%} of its bandwidth"
        yield "time", f"an estimate: {text}"
        for device in devices():
            yield "", f"{device.name}: {self._time(device, generates)}"

    def _time(self, device: Device, generates: bool) -> str:
        text = f"{_duration(device.prefill_seconds(self.prefill_flops))} for prefill"
        if generates:
            seconds = device.generation_seconds(self.explanation.workload.generated, self.parameters_per_step)
            text += f", at most {_duration(seconds)} for generation"
        needed = device.devices_needed(self.counts.parameters)
        if needed is not None:
            text += f"; {needed:,} hold{'s' if needed == 1 else ''} the {device.dtype} weights"
        return text


@dataclass(frozen=True, slots=True)
class Device:
    """A model of device with the figures that its manufacturer publishes.

    Attributes:
        name: of the device.
        dtype: data type of the weights for which the peak is published.
        operations: peak floating-point operations per second, without sparsity.
        bandwidth: peak memory bandwidth in bytes per second.
        memory: size of its memory in bytes; None if it depends on what is installed.
        source: publication of these figures.
    """

    name: str
    dtype: str
    operations: float
    bandwidth: float
    memory: float | None
    source: str

    def prefill_seconds(self, operations: float) -> float:
        """Seconds for a number of floating-point operations, at the assumed fraction of the peak."""
        return operations / (self.operations * fraction_of_peak("prefill"))

    def generation_seconds(self, tokens: int, parameters: int) -> float:
        """Seconds to generate tokens one by one, if each reads the given number of parameters from memory once."""
        return tokens * parameters * BYTES[self.dtype] / (self.bandwidth * fraction_of_peak("generation"))

    def devices_needed(self, parameters: int) -> int | None:
        """Number of devices whose memory holds the given number of parameters; None if its size is unknown."""
        return None if self.memory is None else math.ceil(parameters * BYTES[self.dtype] / self.memory)


def devices() -> list[Device]:
    """The known devices, slowest first."""
    return [Device(**each) for each in _table()["devices"]]


def fraction_of_peak(work: str) -> float:
    """The assumed fraction of the published peak: of operations for `prefill`, of bandwidth for `generation`."""
    return float(_table()[work]["fraction"])


@cache
def _table() -> Any:
    return json.loads(resources.files("icl_eval.runs").joinpath("hardware.json").read_text(encoding="utf-8"))


def _operations(name: str, count: float) -> str:
    return f"{count:.2e} {name}"


def _size(count: float) -> str:
    """A number of bytes in the largest unit that gives at least 1."""
    size, unit = next(((size, unit) for size, unit in UNITS if count >= size), (1, "bytes"))
    return f"{count / size:,.{0 if unit == 'bytes' else 1}f} {unit}"


def _duration(seconds: float) -> str:
    """A time in the largest unit that gives at least 2."""
    size, unit = next(((size, unit) for size, unit in TIMES if seconds >= 2 * size), (1, "seconds"))
    return f"{seconds / size:,.1f} {unit}" if seconds >= 0.1 else "less than 0.1 seconds"
