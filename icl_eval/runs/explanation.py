"""What a run will ask and compute, for people to read before it starts."""

from __future__ import annotations

from dataclasses import dataclass

from icl_eval.engine import Workload
from icl_eval.results.records import Failure

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Explanation:
    """The workload of a run and the memory of its largest batch.

    Attributes:
        workload: counts of requests, tokens and batches.
        weights: bytes of the model's weights; 0 if unknown.
        memory: bytes of the largest batch, by what they hold; empty if unknown.
        prefix_sharing_limit: why the model cannot share prefixes, or not all of them; empty if it can.
        failures: the tasks that would have no scores.
    """

    workload: Workload
    weights: int
    memory: dict[str, int]
    prefix_sharing_limit: str = ""
    failures: tuple[Failure, ...] = ()

    def __str__(self) -> str:
        work = self.workload
        lines = {
            "requests": f"{work.requests:,}, {work.known:,} of them answered before, {work.repeated:,} repeated",
            "tokens asked": f"{work.one_by_one:,} by the requests to answer, one by one",
            "tokens computed": f"{work.computed:,}",
            "sharing factor": f"{work.sharing:.2f}"
            + (f" ({self.prefix_sharing_limit})" if self.prefix_sharing_limit else ""),
        }
        if work.generated:
            lines["tokens to write"] = f"at most {work.generated:,}"
        if work.batches:
            lines["batches"] = f"{work.batches:,}, the largest of {work.longest:,} tokens"
        sizes = [("weights", self.weights), *self.memory.items()]
        if any(size for _, size in sizes):
            lines["memory"] = ", ".join(f"{name} {size / MIB:,.0f} MiB" for name, size in sizes if size)
        failures = [("failure", str(each)) for each in self.failures]
        return "".join(f"{name:16} {text}\n" for name, text in [*lines.items(), *failures])
