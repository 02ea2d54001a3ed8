"""Devices: which exist, which this process uses, and where the tensors of a loaded model are."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray

from icl_eval.errors import ModelError


def local_process() -> tuple[int, int]:
    """The rank of this process on its machine, and the number of processes there."""
    return int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def gpus_of(rank: int, processes: int, gpus: int) -> range:
    """The indices of the GPUs that a process uses: equally many for each process of the machine, in order.

    Args:
        rank: the rank of the process on its machine.
        processes: number of processes on the machine.
        gpus: number of GPUs of the machine.

    Raises:
        ModelError: there are fewer GPUs than processes.
    """
    share = gpus // processes
    if gpus and not share:
        raise ModelError(f"{processes} processes cannot share {gpus} GPU{'s' * (gpus > 1)}: start at most {gpus}")
    return range(rank * share, (rank + 1) * share)


def device_named(name: str | None) -> torch.device:
    """The device of this name; by default the GPU of this process, or the CPU if there are no GPUs.

    Raises:
        ModelError: the device cannot be used.
    """
    if name is None:
        rank, processes = local_process()
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        mine = gpus_of(rank, processes, gpus)
        name = "cpu" if not mine else "cuda" if processes == 1 else f"cuda:{rank}"
    if problem := device_problem(name):
        raise ModelError(f"--device {name} cannot be used: {problem}")
    return torch.empty(0, device=name).device


def input_device(model: Any) -> torch.device:
    """The device of a model's inputs: the one on which the embeddings run, even if their weights are offloaded."""
    embeddings = model.get_input_embeddings()
    for module in (embeddings, model):
        device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch_device(device)
    return embeddings.weight.device  # type: ignore[no-any-return]


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on a device, without waiting for a copy from the CPU to a GPU."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def to_host(tensor: torch.Tensor) -> Callable[[], NDArray[Any]]:
    """Start to copy a tensor to the CPU; the returned function waits for the copy and returns it."""
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
    """Number of batches in flight, so that no device waits for the CPU: one for each GPU and one more.

    On a CPU it is 1.

    Args:
        model: the model, whose parameters may be on several devices.
        device: the device of its inputs.
    """
    if device.type == "cpu":
        return 1
    return 1 + len({device, *(each.device for each in model.parameters() if each.is_cuda)})


def on_one_gpu(model: Any) -> bool:
    """Whether all of a model's tensors are on the same GPU, and none on those of other processes."""
    if getattr(model, "tp_size", None):  # set by `transformers` where processes divide the layers
        return False
    devices = {each.device for each in (*model.parameters(), *model.buffers())}
    return len(devices) == 1 and devices.pop().type == "cuda"


def tensor_of(model: Any, name: str) -> torch.Tensor:
    """A parameter or buffer of a model by its name; loaded if it is offloaded."""
    from accelerate.utils import align_module_device

    owner, _, attribute = name.rpartition(".")
    module = model.get_submodule(owner)
    with align_module_device(module):
        tensor: torch.Tensor = getattr(module, attribute).detach()
    return tensor


def torch_device(device: int | str | torch.device) -> torch.device:
    """The device of a name, or of the index of a GPU."""
    return torch.device(f"cuda:{device}" if isinstance(device, int) else device)


def device_problem(device: Any) -> str:
    """Why a device cannot be used, in one clause; empty if it can."""
    if str(device).startswith("meta"):
        return "tensors have no values there"
    if isinstance(device, bool) or not isinstance(device, int | str):
        return "a device is the index of a GPU, or a name such as cpu, disk or cuda:0"
    try:
        torch.empty(0, device=f"cuda:{device}" if isinstance(device, int) else device)
    except (RuntimeError, AssertionError) as error:  # torch raises either for a device that does not exist
        return str(error).strip().splitlines()[0].rstrip(".")
    return ""
