"""The processes of one run: each knows its rank, and all they tell one another goes through `gather`."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from icl_eval.errors import IclEvalError, PeerError, ProcessError, RankError

Word = TypeVar("Word")

PATIENCE = timedelta(days=365)  # for a rank that computes longer than the others


@dataclass(frozen=True, slots=True)
class _Failure:
    """What a rank says in place of its word when it fails."""

    sentence: str
    kind: type[IclEvalError]


class Ranks:
    """One process among those of a run.

    Args:
        rank: which of them this is, from 0.
        size: how many there are.
        exchange: given this rank's word, waits for those of all and returns them by rank.
    """

    def __init__(self, rank: int, size: int, exchange: Callable[[Any], list[Any]]) -> None:
        self.rank, self.size, self._exchange = rank, size, exchange

    def gather(self, word: Word) -> list[Word]:
        """The words of all ranks, once all have come here.

        Raises:
            PeerError: another one failed instead, or has ended.
        """
        words = self._exchange(word)
        for rank, each in enumerate(words):
            if isinstance(each, _Failure):
                raise PeerError(f"process {rank}: {each.sentence}", each.kind)
        return words

    @contextmanager
    def agreeing(self) -> Iterator[None]:
        """Tell the others of an error in here, so that they do not wait; all raise that of the first rank that has one.

        Raises:
            PeerError: it is that of another rank.
            RankError: it is that of this rank, which is not rank 0.
        """
        try:
            yield
        except ProcessError:
            raise
        except IclEvalError as error:
            if self.size == 1:
                raise
            words = self._exchange(_Failure(str(error), type(error)))
            first = next(rank for rank, word in enumerate(words) if isinstance(word, _Failure))
            if first == self.rank == 0:
                raise
            failure = words[first]
            kind = RankError if first == self.rank else PeerError
            raise kind(f"process {first}: {failure.sentence}", failure.kind) from error


ALONE = Ranks(0, 1, lambda word: [word])


def seat() -> tuple[int, int]:
    """The rank of this process and how many there are, as the launcher that started it says; (0, 1) without one."""
    size = int(os.environ.get("WORLD_SIZE") or 1)
    return (int(os.environ.get("RANK") or 0), size) if size > 1 else (0, 1)


def launched(*, cpu: bool) -> Ranks:
    """This process among those that `accelerate launch` or another launcher of `torch` started.

    Args:
        cpu: whether the model is to run on a processor.
    """
    if seat()[1] == 1:
        return ALONE
    import torch
    from accelerate import PartialState
    from torch import distributed

    cpu = cpu or not torch.cuda.is_available()
    joined = distributed.is_initialized()
    state = PartialState(cpu=cpu, backend="gloo", timeout=PATIENCE)  # words are small: they need no GPU
    if not joined:
        atexit.register(_leave)  # the group's threads must not outlive the interpreter, which then aborts
    return Ranks(state.process_index, state.num_processes, _gather)


def _leave() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def _gather(word: object) -> list[Any]:
    from accelerate.utils import gather_object

    try:
        return list(gather_object([word]))
    except RuntimeError as error:  # the connection broke
        raise PeerError(
            "another process of this run has ended; the same command goes on with what it answered"
        ) from error
