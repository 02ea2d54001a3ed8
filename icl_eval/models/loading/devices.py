"""The existing devices, those of this process, and the devices of a loaded model's tensors."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray

from icl_eval.errors import ModelError


def local_process() -> tuple[int, int]:
    """The local rank of this process, and the number of processes on its machine."""
    return int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def gpus_of(rank: int, processes: int, gpus: int) -> range:
    """The GPUs of one of the processes that share a machine: as many for each, in order.

    Raises:
        ModelError: there are fewer GPUs than processes.
    """
    share = gpus // processes
    if gpus and not share:
        raise ModelError(f"{processes} processes cannot share {gpus} GPU{'s' * (gpus > 1)}: start at most {gpus}")
    return range(rank * share, (rank + 1) * share)


def device_named(name: str | None) -> torch.device:
    """The device of a name; by default the GPU of this process, or the CPU if there is none.

    Raises:
        ModelError: it does not exist.
    """
    if name is None:
        rank, processes = local_process()
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        mine = gpus_of(rank, processes, gpus)
        name = "cpu" if not mine else "cuda" if processes == 1 else f"cuda:{rank}"
    if problem := absent(name):
        raise ModelError(f"--device {name} cannot be used: {problem}")
    return torch.empty(0, device=name).device


def input_device(model: Any) -> torch.device:
    """The device of a model's inputs: where its embeddings run; their weights may be elsewhere."""
    embeddings = model.get_input_embeddings()
    for module in (embeddings, model):
        device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch_device(device)
    return embeddings.weight.device  # type: ignore[no-any-return]


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on a device; a copy from the CPU to a GPU is enqueued, not waited for."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def to_host(tensor: torch.Tensor) -> Callable[[], NDArray[Any]]:
    """Enqueue the copy of a tensor to the CPU; the function returned waits for it."""
    if tensor.device.type != "cuda":
        return lambda: tensor.cpu().numpy()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    copied = torch.cuda.current_stream(tensor.device).record_event()

    def read() -> NDArray[Any]:
        copied.synchronize()
        return host.numpy().copy()

    return read


def queue_depth(model: Any, device: torch.device) -> int:
    """Batches in flight that keep all devices of a model busy: one for each, and one that waits.

    Args:
        model: its parameters may be on several devices.
        device: where its inputs go.
    """
    if device.type == "cpu":
        return 1
    return 1 + len({device, *(each.device for each in model.parameters() if each.is_cuda)})


def on_one_gpu(model: Any) -> bool:
    """Whether all of a model's tensors are on the same GPU."""
    devices = {each.device for each in (*model.parameters(), *model.buffers())}
    return len(devices) == 1 and devices.pop().type == "cuda"


def tensor_of(model: Any, name: str) -> torch.Tensor:
    """A tensor of a model's state, fetched if it is offloaded."""
    from accelerate.utils import align_module_device

    owner, _, attribute = name.rpartition(".")
    module = model.get_submodule(owner)
    with align_module_device(module):
        tensor: torch.Tensor = getattr(module, attribute).detach()
    return tensor


def torch_device(device: int | str | torch.device) -> torch.device:
    """The device of a name, or of the number of a GPU."""
    return torch.device(f"cuda:{device}" if isinstance(device, int) else device)


def absent(device: Any) -> str:
    """Why a device cannot be used; empty if it can."""
    if str(device).startswith("meta"):
        return "tensors have no values there"
    if isinstance(device, bool) or not isinstance(device, int | str):
        return "a device is the number of a GPU, or a name such as cpu, disk or cuda:0"
    try:
        torch.empty(0, device=f"cuda:{device}" if isinstance(device, int) else device)
    except (RuntimeError, AssertionError) as error:  # the two errors of torch for a device that does not exist
        return str(error).strip().splitlines()[0].rstrip(".")
    return ""
