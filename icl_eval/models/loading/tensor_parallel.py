"""Tensor parallelism: every process holds a part of the weights of every layer.

All processes must make the same computations at the same time. So only the first process, the leader, runs the program;
the others, the followers, repeat its calls of the model, each with its own part of the weights and of the cache.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from icl_eval.errors import ModelError
from icl_eval.models.loading.checkpoint import Checkpoint
from icl_eval.models.protocol import OutOfMemory

LAUNCH = "accelerate launch --num-processes N -m icl_eval run ..."
CALLS = ("enqueue", "generate", "clear_cache")  # methods that compute or change the cache
TIMEOUT = timedelta(days=30)  # followers wait this long for the next call, for example while the leader reads data


def tensor_parallel_arguments(checkpoint: Checkpoint) -> tuple[dict[str, Any], torch.device]:
    """Arguments of `from_pretrained` that divide a model among processes, and the device that computes.

    Raises:
        ModelError: this is the only process, or `transformers` or the model does not support it.
    """
    from transformers import __version__
    from transformers.distributed.configuration_utils import DistributedConfig

    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        raise ModelError(
            f"--tensor-parallel divides a model among several processes, but there is only one; start {LAUNCH}"
        )
    if "tp_plan" not in {field.name for field in fields(DistributedConfig)}:
        raise ModelError(f"--tensor-parallel needs a newer `transformers` than {__version__}")
    model = checkpoint.empty()
    if not model.supports_tp_plan:
        raise ModelError(f"--tensor-parallel: {type(model).__name__} has no plan for dividing its layers")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {"distributed_config": DistributedConfig(tp_plan="auto")}, device


def lead_or_follow(model: Any) -> Any:
    """Return the model in the leader, where each of its calls is made in all processes; never return in followers.

    A follower repeats the calls of the leader until the leader ends, and then exits.

    Args:
        model: a language model whose weights are divided among the processes.
    """
    group = dist.new_group(backend="gloo", timeout=TIMEOUT)
    budgets = [0] * dist.get_world_size()
    dist.all_gather_object(budgets, model.budget.size, group=group)
    model.budget.size = min(budgets)
    if dist.get_rank() > 0:
        _follow(model, group)
    leader = _Leader(group)
    for name in CALLS:
        if hasattr(model, name):
            setattr(model, name, leader.announced(getattr(model, name)))
    return model


class _Leader:
    """Announces each call to the followers before making it."""

    def __init__(self, group: Any) -> None:
        self._group, self._lost, self._calling = group, False, False
        atexit.register(self._end)

    def announced(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A method whose calls the followers repeat, with the first argument if there is one.

        Nested calls are not announced, because the followers make them, too.

        Raises:
            ModelError: the returned method raises it if a process runs out of memory.
        """

        def together(*arguments: Any) -> Any:
            if self._calling:
                return call(*arguments)
            _broadcast((call.__name__, arguments[:1]), self._group)
            self._calling = True
            try:
                return call(*arguments)
            except BaseException as error:
                self._lost = True  # the followers may be in any state; the launcher will end them
                if isinstance(error, OutOfMemory):
                    raise ModelError(f"one of the processes ran out of memory: {error}") from error
                raise
            finally:
                self._calling = False

        return together

    def _end(self) -> None:
        if not self._lost:
            _broadcast(None, self._group)
            dist.destroy_process_group()


def _follow(model: Any, group: Any) -> NoReturn:
    while (message := _receive(group)) is not None:
        call, arguments = message
        getattr(model, call)(*arguments, *([_drop] if call == "generate" else []))
    dist.destroy_process_group()
    raise SystemExit(0)


def _drop(*_: Any) -> None:
    """Ignore an answer: only the leader's answers are used."""


def _broadcast(message: Any, group: Any) -> None:
    dist.broadcast_object_list([message], src=0, group=group)


def _receive(group: Any) -> Any:
    received = [None]
    dist.broadcast_object_list(received, src=0, group=group)
    return received[0]
