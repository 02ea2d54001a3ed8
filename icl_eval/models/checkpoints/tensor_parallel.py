"""One model over several processes, each of which holds a part of every layer's weights.

All of them must compute the same at the same time. So the first process runs the program alone, and the others repeat
what it asks of the model: each with its part of the weights, and with its part of the states that are kept.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn

import torch.distributed as dist

from icl_eval.errors import ModelError
from icl_eval.models.protocol import OutOfMemory

CALLS = ("enqueue", "generate", "clear_cache")  # what a language model may compute at, or keep other states after
PATIENCE = timedelta(days=30)  # for which the others wait, while the first reads data or asks nothing


def in_step(model: Any) -> Any:
    """In the first process the model, whose every call all make; in the others no return: they end with the first.

    Args:
        model: a language model of weights that the processes divide among them.
    """
    group = dist.new_group(backend="gloo", timeout=PATIENCE)
    budgets = [0] * dist.get_world_size()
    dist.all_gather_object(budgets, model.row_budget, group=group)
    model.row_budget = min(budgets)
    if dist.get_rank() > 0:
        _follow(model, group)
    leader = _Leader(group)
    for name in CALLS:
        if hasattr(model, name):
            setattr(model, name, leader.leading(getattr(model, name)))
    return model


class _Leader:
    """Says of every call what it is before it is made."""

    def __init__(self, group: Any) -> None:
        self._group, self._lost, self._calling = group, False, False
        atexit.register(self._end)

    def leading(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A method of which the others repeat every call, with the first argument alone if it has any.

        What a call calls itself, the others call as well.

        Raises:
            ModelError: it does not fit the device.
        """

        def together(*arguments: Any) -> Any:
            if self._calling:
                return call(*arguments)
            _tell((call.__name__, arguments[:1]), self._group)
            self._calling = True
            try:
                return call(*arguments)
            except BaseException as error:
                self._lost = True  # nobody knows how far the others are: who started them ends them
                if isinstance(error, OutOfMemory):
                    raise ModelError(f"a process of several has no memory left: {error}") from error
                raise
            finally:
                self._calling = False

        return together

    def _end(self) -> None:
        if not self._lost:
            _tell(None, self._group)
            dist.destroy_process_group()


def _follow(model: Any, group: Any) -> NoReturn:
    while (said := _hear(group)) is not None:
        call, asked = said
        getattr(model, call)(*asked, *([_drop] if call == "generate" else []))
    dist.destroy_process_group()
    raise SystemExit(0)


def _drop(*_: Any) -> None:
    """What becomes of the answers of those that follow."""


def _tell(said: Any, group: Any) -> None:
    dist.broadcast_object_list([said], src=0, group=group)


def _hear(group: Any) -> Any:
    heard = [None]
    dist.broadcast_object_list(heard, src=0, group=group)
    return heard[0]
