"""The processes of one run: each knows its rank, and they exchange everything through `gather`."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from icl_eval.errors import IclEvalError, ProcessError, RankError, WorkerError

Value = TypeVar("Value")

TIMEOUT = timedelta(days=365)  # for ranks that compute longer than the others


@dataclass(frozen=True, slots=True)
class _Failure:
    """What a rank sends in place of its value when it fails."""

    sentence: str
    kind: type[IclEvalError]


class Ranks:
    """One process among those of a run.

    Args:
        rank: which of them this is, from 0.
        size: how many there are.
        exchange: takes this rank's value, waits for the values of all ranks and returns them by rank.
    """

    def __init__(self, rank: int, size: int, exchange: Callable[[Any], list[Any]]) -> None:
        self.rank, self.size, self._exchange = rank, size, exchange

    def gather(self, value: Value) -> list[Value]:
        """The values of all ranks, once all have called this.

        Raises:
            WorkerError: another rank failed instead, or has ended.
        """
        values = self._exchange(value)
        for rank, each in enumerate(values):
            if isinstance(each, _Failure):
                raise WorkerError(f"process {rank}: {each.sentence}", each.kind)
        return values

    @contextmanager
    def propagating_errors(self) -> Iterator[None]:
        """Send an error raised here to all ranks, so that none waits; all raise that of the first rank that has one.

        Raises:
            WorkerError: another rank raised the error.
            RankError: this rank raised the error and is not rank 0.
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
            raise kind(f"process {first}: {failure.sentence}", failure.kind) from error


SINGLE_PROCESS = Ranks(0, 1, lambda value: [value])


def rank_and_world_size() -> tuple[int, int]:
    """The rank of this process and the number of processes, as its launcher set them; (0, 1) without a launcher."""
    size = int(os.environ.get("WORLD_SIZE") or 1)
    return (int(os.environ.get("RANK") or 0), size) if size > 1 else (0, 1)


def launched(*, cpu: bool) -> Ranks:
    """This process among those that `accelerate launch` or another launcher of `torch` started.

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
    state = PartialState(cpu=cpu, backend="gloo", timeout=TIMEOUT)  # values are small: they need no GPU
    if not joined:
        atexit.register(_leave)  # the group's threads must not outlive the interpreter, which then aborts
    return Ranks(state.process_index, state.num_processes, _gather)


def _leave() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def _gather(value: object) -> list[Any]:
    from accelerate.utils import gather_object

    try:
        return list(gather_object([value]))
    except RuntimeError as error:  # the connection broke
        raise WorkerError(
            "another process of this run has ended; run the same command again to reuse its answers"
        ) from error
