"""What a run would take, of a model whose configuration and tokenizer are at hand and whose weights need not be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl_eval.engine import Workload
from icl_eval.models import load_blueprint
from icl_eval.models.options import read_options
from icl_eval.runs.devices import BYTES, Device, devices, part_of_peak
from icl_eval.runs.evaluation import explain
from icl_eval.runs.explanation import Explanation
from icl_eval.tasks import Task

if TYPE_CHECKING:
    from icl_eval.models.anatomy import Anatomy
    from icl_eval.models.blueprint import Blueprint

OF_THE_MODEL = {"revision", "dtype", "bos", "window", "tokenizer", "device", "trust_remote_code"}
CACHED = ("float32", "bfloat16")  # types of keys and values, whatever the weights' type
UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
TIMES = ((365 * 86400, "years"), (86400, "days"), (3600, "hours"), (60, "minutes"))
SOURCES = "2 N: Kaplan et al. 2020, Table 1; attention: Hoffmann et al. 2022, appendix F"


@dataclass(frozen=True, slots=True)
class Cache:
    """Bytes of the states of earlier tokens in one type: of each further token, and of the longest request."""

    dtype: str
    token: int
    longest: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of a model and of a run, counted, and the time it takes, estimated.

    Attributes:
        explanation: requests, tokens, batches and memory, as `explain` gives them.
        anatomy: the model's parameters, counted.
        caches: what the cache takes, by type; empty if it is unknown.
        precision: the type of the weights that the memory in `explanation` is of.
        device: the type of device that rows are planned for.
    """

    explanation: Explanation
    anatomy: Anatomy
    caches: tuple[Cache, ...]
    precision: str
    device: str

    @property
    def operations_to_read(self) -> int:
        """Floating-point operations for all tokens that are read."""
        work, counts = self.explanation.workload, self.anatomy
        return 2 * counts.body * work.computed + 2 * counts.head * work.scored + counts.pair * work.attended

    @property
    def operations_to_write(self) -> int:
        """Floating-point operations for all tokens that one beam writes, at most: as if in the longest context."""
        work, counts = self.explanation.workload, self.anatomy
        return work.generated * (2 * counts.body + 2 * counts.head + counts.pair * work.context)

    @property
    def read_per_token(self) -> int:
        """Parameters that are read from memory for every token that is written alone."""
        return self.anatomy.body + self.anatomy.head

    def weights(self, dtype: str) -> float:
        """Bytes of all parameters in a type, such as `bfloat16`, `int8` or `4 bit`."""
        return self.anatomy.parameters * BYTES[dtype]

    def __str__(self) -> str:
        counts, work = self.anatomy, self.explanation.workload
        active = f", {counts.active:,} of them active for a token" if counts.active else ""
        lines = [
            ("model", f"{counts.parameters:,} parameters{active}; asked in {self.precision}"),
            ("weights", ", ".join(f"{dtype} {_size(self.weights(dtype))}" for dtype in BYTES)),
            ("cache", self._cache(work)),
            ("assumed", f"rows for {self.device}, and what may share them by the configuration: nothing was probed"),
            ("operations", _operations("to read", self.operations_to_read)),
        ]
        if work.generated:
            lines[-1] = ("operations", f"{lines[-1][1]}, {_operations('to write at most', self.operations_to_write)}")
        lines += [
            ("", f"2 x {counts.body:,} per token read or written, 2 x {counts.head:,} per place scored or written,"),
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

    def _times(self, writes: bool) -> Iterator[tuple[str, str]]:
        """A line on what is estimated, and one for every kind of device."""
        said = f"reading at {part_of_peak('reading'):.0%} of a device's peak"
        if writes:
            said += f", writing one text at a time at {part_of_peak('writing'):.0%} of its bandwidth"
        yield "time", f"an estimate: {said}"
        for device in devices():
            yield "", f"{device.name}: {self._time(device, writes)}"

    def _time(self, device: Device, writes: bool) -> str:
        said = f"{_duration(device.reading(self.operations_to_read))} to read"
        if writes:
            seconds = device.writing(self.explanation.workload.generated, self.read_per_token)
            said += f", at most {_duration(seconds)} to write"
        needed = device.needed(self.anatomy.parameters)
        if needed is not None:
            said += f"; {needed:,} hold{'s' if needed == 1 else ''} the {device.dtype} weights"
        return said


def plan(model: str | Path, tasks: str | Task | Sequence[str | Task], **options: Any) -> Plan:
    """What a run would take, of a causal language model of which no weights are read.

    Args:
        model: `tiny`, a directory with a config.json, a GGUF file, or a name on the Hub.
        tasks: names of tasks and suites, or `Task` objects.
        options: those of `evaluate` that say what is asked, and those of the model: `tokenizer` names another one,
            `device` is the type of device to plan rows for and need not be there.

    Raises:
        IclEvalError: the model or what was asked cannot be planned; the message says why in one sentence.
    """
    variant, setup = read_options({name: value for name, value in options.items() if name in OF_THE_MODEL})
    lm = load_blueprint(str(model), variant, setup)
    others = {name: value for name, value in options.items() if name not in OF_THE_MODEL}
    explanation = explain(lm, tasks, trust_remote_code=setup.trust_remote_code, **others)
    caches = tuple(_caches(lm, explanation.workload.context))
    return Plan(explanation, lm.anatomy, caches, lm.precision, lm.device)


def _caches(lm: Blueprint, longest: int) -> Iterator[Cache]:
    import torch

    for dtype in CACHED:
        kind = getattr(torch, dtype)
        token, whole = lm.cache_bytes(kind), lm.cache_bytes(kind, longest) if longest else 0
        if token is not None and whole is not None:
            yield Cache(dtype, token, whole)


def _operations(name: str, count: float) -> str:
    return f"{count:.2e} {name}"


def _size(count: float) -> str:
    """Bytes in the largest unit of which there is one."""
    size, unit = next(((size, unit) for size, unit in UNITS if count >= size), (1, "bytes"))
    return f"{count / size:,.{0 if unit == 'bytes' else 1}f} {unit}"


def _duration(seconds: float) -> str:
    """A time in the largest unit of which there are two."""
    size, unit = next(((size, unit) for size, unit in TIMES if seconds >= 2 * size), (1, "seconds"))
    return f"{seconds / size:,.1f} {unit}" if seconds >= 0.1 else "less than 0.1 seconds"
