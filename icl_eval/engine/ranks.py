"""The processes of a run: each has a rank, exchanges values with the others, and computes its share of the work."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate
from typing import Any, TypeVar

from icl_eval.errors import IclEvalError, ProcessError, RankError, WorkerError
from icl_eval.models import WorkItem

Value = TypeVar("Value")

TIMEOUT = timedelta(days=365)  # ranks wait this long for those that compute longer
SLACK = 1 / 16  # the chain may be cut this share of a rank's tokens away from an even cut, if less is recomputed there


@dataclass(frozen=True, slots=True)
class _Failure:
    """What a rank sends instead of its value if it fails."""

    message: str
    kind: type[IclEvalError]


class Ranks:
    """This process among those of a run.

    Args:
        rank: the rank of this process, from 0.
        size: the number of processes.
        exchange: takes the value of this rank, waits for the values of all ranks, and returns them in the order of
            ranks.
    """

    def __init__(self, rank: int, size: int, exchange: Callable[[Any], list[Any]]) -> None:
        self.rank, self.size, self._exchange = rank, size, exchange

    def gather(self, value: Value) -> list[Value]:
        """The values of all ranks, in the order of ranks; waits until all ranks have called this.

        Raises:
            WorkerError: another rank has failed or ended.
        """
        values = self._exchange(value)
        for rank, each in enumerate(values):
            if isinstance(each, _Failure):
                raise WorkerError(f"process {rank}: {each.message}", each.kind)
        return values

    @contextmanager
    def propagating_errors(self) -> Iterator[None]:
        """Send an error that the block raises to all ranks, so that none waits; all raise that of the lowest rank.

        Raises:
            WorkerError: the error is of another rank.
            RankError: the error is of this rank, which is not rank 0.
        """
        try:
            yield
        except ProcessError:
            raise
        except IclEvalError as error:
            if self.size == 1:
                raise
            values = self._exchange(_Failure(str(error), type(error)))
            first = next(rank for rank, value in enumerate(values) if isinstance(value, _Failure))
            if first == self.rank == 0:
                raise
            failure = values[first]
            kind = RankError if first == self.rank else WorkerError
            raise kind(f"process {first}: {failure.message}", failure.kind) from error


SINGLE_PROCESS = Ranks(0, 1, lambda value: [value])


def rank_and_world_size() -> tuple[int, int]:
    """The rank of this process and the number of processes, as set by the launcher; (0, 1) without a launcher."""
    size = int(os.environ.get("WORLD_SIZE") or 1)
    return (int(os.environ.get("RANK") or 0), size) if size > 1 else (0, 1)


def launched(*, cpu: bool) -> Ranks:
    """This process among those that `accelerate launch` or another launcher for `torch` has started.

    Args:
        cpu: whether the model runs on a CPU.
    """
    if rank_and_world_size()[1] == 1:
        return SINGLE_PROCESS
    import torch
    from accelerate import PartialState
    from torch import distributed

    cpu = cpu or not torch.cuda.is_available()
    joined = distributed.is_initialized()
    state = PartialState(cpu=cpu, backend="gloo", timeout=TIMEOUT)  # values are small, so they are sent by CPUs
    if not joined:
        atexit.register(_leave)  # the interpreter aborts if threads of the group are still running when it ends
    return Ranks(state.process_index, state.num_processes, _gather)


def _leave() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def _gather(value: object) -> list[Any]:
    from accelerate.utils import gather_object

    try:
        return list(gather_object([value]))
    except RuntimeError as error:  # the connection is lost
        raise WorkerError(
            "another process of this run has ended; run the same command again to reuse its answers"
        ) from error


def partition(items: Sequence[WorkItem], ranks: int) -> list[list[int]]:
    """Partition planned work among ranks, in the same way in every process.

    Items that follow a cached prefix form a prefix chain, in which neighbours share their first tokens. It is cut into
    one piece for each rank, at positions where neighbours share little. Each other item then goes to the rank with the
    least work. No rank gets more tokens than its fair share, plus an eighth of it, plus the largest item. A part of the
    chain with a common prefix is cut only if it is larger than an eighth of a fair share.

    Returns:
        The indices of the items of each rank, in order.
    """
    chain = [index for index, item in enumerate(items) if item.shared is not None]
    shares = _cut(chain, items, ranks)
    loads = [sum(items[index].cost for index in share) for share in shares]
    unchained = (index for index, item in enumerate(items) if item.shared is None)
    for index in sorted(unchained, key=lambda index: -items[index].cost):
        rank = loads.index(min(loads))
        shares[rank].append(index)
        loads[rank] += items[index].cost
    return [sorted(share) for share in shares]


def _cut(chain: Sequence[int], items: Sequence[WorkItem], ranks: int) -> list[list[int]]:
    done = [0, *accumulate(items[index].cost for index in chain)]  # cost before each possible cut
    fair = done[-1] / ranks
    cuts = [0]
    for rank in range(1, ranks):
        even = fair * rank
        near = [cut for cut, cost in enumerate(done) if abs(cost - even) <= SLACK * fair]
        nearest = min(range(len(done)), key=lambda cut: abs(done[cut] - even))
        cuts.append(min(near or [nearest], key=lambda cut: (_recomputed(chain, items, cut), abs(done[cut] - even))))
    return [list(chain[start:stop]) for start, stop in zip(cuts, [*cuts[1:], len(chain)], strict=True)]


def _recomputed(chain: Sequence[int], items: Sequence[WorkItem], cut: int) -> int:
    """Number of tokens that have to be recomputed if the chain is cut here."""
    return (items[chain[cut]].shared or 0) if cut < len(chain) else 0
