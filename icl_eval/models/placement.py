"""Where a model's weights go: one device, several by a map, memory that is not the device's, or several processes.

All of it is done by `accelerate` and `transformers`. What is found out here is what they are to be told, and whether
they can do it, before any weight is read.
"""

from __future__ import annotations

import os
import shutil
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
import yaml

from icl_eval.errors import ModelError, UnknownName
from icl_eval.models.gguf import is_gguf, pretrained
from icl_eval.models.options import Setup, Variant
from icl_eval.models.precision import quantization, quantized_as, weights_type

POLICIES = ("auto", "balanced", "balanced_low_0", "sequential")  # of `accelerate`
MEMORIES = ("cpu", "disk")  # what holds weights that are brought to a device when they are used
KEPT_FREE = 0.1  # of each memory, when the processes of a machine share it
START = "accelerate launch --num-processes N -m icl_eval run ..."

DeviceMap = Mapping[str, int | str]


class Checkpoint:
    """A checkpoint that is not loaded yet.

    Args:
        place: a directory, or a name on the Hub.
        loader: the auto class of `transformers` that will load it.
        shared: what the loaders of configuration, tokenizer and model are all told.
    """

    def __init__(self, place: str, loader: Any, shared: Mapping[str, Any]) -> None:
        self.place, self._loader, self._shared = place, loader, shared

    def config(self) -> Any:
        """Its configuration."""
        from transformers import AutoConfig

        configs: Any = AutoConfig
        source, own = pretrained(self.place)
        return configs.from_pretrained(source, **own, **self._shared)

    def empty(self) -> Any:
        """The model without its weights."""
        from accelerate import init_empty_weights

        with init_empty_weights():
            return self._loader.from_config(self.config(), trust_remote_code=self._shared["trust_remote_code"])

    def scratch(self) -> str:
        """A new temporary folder, which goes when this does."""
        folder = mkdtemp(prefix="icl-eval-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder


def placed(variant: Variant, setup: Setup, checkpoint: Checkpoint) -> dict[str, Any]:
    """What `from_pretrained` is told of devices, arithmetic and attention.

    Raises:
        ModelError: two options exclude each other, or what is asked for is not there; the sentence says which.
    """
    _check_together(setup)
    where, device = _tensor_parallel(checkpoint) if setup.tensor_parallel else _mapped(setup, checkpoint)
    told = {"dtype": weights_type(variant.dtype, device), **where}
    if variant.quantize:
        if is_gguf(checkpoint.place):
            raise ModelError("--quantize has no effect on a GGUF file, whose weights are unpacked")
        if settings := getattr(checkpoint.config(), "quantization_config", None):
            raise ModelError(
                f"--quantize has no effect on weights that are quantised already: {quantized_as(settings)}"
            )
        told["quantization_config"] = quantization(variant.quantize, told["dtype"], device)
    if setup.attn:
        told["attn_implementation"] = setup.attn
    return told


def settle(model: Any, setup: Setup, checkpoint: Checkpoint) -> None:
    """Bind what a loaded model needs to it, and see that it attends as it was told.

    Raises:
        ModelError: it does not, or cannot with weights of its type.
    """
    model.icl_eval_checkpoint = checkpoint  # and with it the folder of its offloaded weights
    attends = model.config.get_text_config()._attn_implementation
    if not setup.attn:
        return
    if setup.attn != attends and not ("flash" in setup.attn and "flash" in attends):  # of another package
        raise ModelError(f"--attn {setup.attn} cannot be used: {type(model).__name__} takes {attends}")
    if "flash" in setup.attn and model.dtype not in (torch.bfloat16, torch.float16):
        raise ModelError(f"--attn {setup.attn} needs --dtype bfloat16 or float16")


def input_device(model: Any) -> torch.device:
    """Where a model's inputs go: to what runs its embeddings, whose weights may lie elsewhere."""
    embeddings = model.get_input_embeddings()
    for module in (embeddings, model):
        device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return _torch_device(device)
    return embeddings.weight.device  # type: ignore[no-any-return]


def tensor_of(model: Any, name: str) -> torch.Tensor:
    """A tensor of a model's state, fetched if it is offloaded."""
    from accelerate.utils import align_module_device

    owner, _, own_name = name.rpartition(".")
    module = model.get_submodule(owner)
    with align_module_device(module):
        tensor: torch.Tensor = getattr(module, own_name).detach()
    return tensor


def local_process() -> tuple[int, int]:
    """This process's number among those of its machine, and how many they are."""
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
    """The device of a name; by default this process's GPU, or the processor if there is none.

    Raises:
        ModelError: it is not there.
    """
    if name is None:
        rank, processes = local_process()
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        mine = gpus_of(rank, processes, gpus)
        name = "cpu" if not mine else "cuda" if processes == 1 else f"cuda:{rank}"
    if problem := _absent(name):
        raise ModelError(f"--device {name} cannot be used: {problem}")
    return torch.empty(0, device=name).device


def _check_together(setup: Setup) -> None:
    mapped = setup.device_map is not None
    if setup.device is not None and mapped:
        raise ModelError("give either --device or --device-map, not both")
    if setup.tensor_parallel and (mapped or setup.device is not None):
        raise ModelError(
            "--tensor-parallel gives every process a device; it goes with neither --device nor --device-map"
        )
    if setup.max_memory is not None and setup.device_map not in POLICIES:
        raise ModelError(f"--max-memory is for --device-map {', '.join(POLICIES[:-1])} or {POLICIES[-1]}")
    if setup.offload_dir is not None and not mapped:
        raise ModelError("--offload-dir is for the weights that a --device-map leaves on the disk")


def _mapped(setup: Setup, checkpoint: Checkpoint) -> tuple[dict[str, Any], torch.device]:
    """Arguments of `from_pretrained`, and the device that computes."""
    if setup.device_map is None:
        device = device_named(setup.device)
        return {"device_map": {"": device}}, device
    folder = str(setup.offload_dir or checkpoint.scratch())
    if isinstance(setup.device_map, str) and setup.device_map in POLICIES:
        memory = _memory(setup)
        gpus = torch.cuda.device_count() if memory is None else sum(isinstance(each, int) for each in memory)
        device = torch.device("cuda" if gpus else "cpu")
        return {"device_map": setup.device_map, "max_memory": memory, "offload_folder": folder}, device
    devices, path = _read_map(setup.device_map)
    _check_map(devices, path)
    _check_modules(devices, checkpoint.empty(), path)
    computing = [_torch_device(each) for each in devices.values() if each not in MEMORIES]
    return {"device_map": dict(devices), "offload_folder": folder}, next(iter(computing), torch.device("cpu"))


def _memory(setup: Setup) -> dict[int | str, int | str] | None:
    """How much of each memory this process may use; nothing leaves it to `accelerate`."""
    from accelerate.utils import get_max_memory

    rank, processes = local_process()
    asked = dict(setup.max_memory) if setup.max_memory is not None else None
    _check_memory(asked or {})
    if processes == 1:
        return asked
    if setup.device_map == "balanced_low_0":
        raise ModelError(f"--device-map balanced_low_0 spares the GPU 0, but {processes} processes share this machine")
    mine = gpus_of(rank, processes, torch.cuda.device_count())
    if asked is not None:
        return {place: size for place, size in asked.items() if isinstance(place, str) or place in mine}
    share = {"cpu": (1 - KEPT_FREE) / processes, "disk": 1.0} | dict.fromkeys(mine, 1 - KEPT_FREE)
    return {place: int(size * share[place]) for place, size in get_max_memory().items() if place in share}


def _check_memory(memory: Mapping[int | str, int | str]) -> None:
    from accelerate.utils import convert_file_size_to_int

    for place, size in memory.items():
        if place not in MEMORIES and (problem := _absent(place)):
            raise ModelError(f"--max-memory {place}={size}: this device is not there: {problem}")
        try:
            convert_file_size_to_int(size)
        except ValueError as error:
            raise ModelError(f"--max-memory {place}={size}: a size reads like 20GiB or 500MB") from error


def _read_map(said: str | DeviceMap) -> tuple[DeviceMap, str | None]:
    """A map of modules to devices, and the file that it stands in."""
    if not isinstance(said, str):
        return said, None
    path = Path(said).expanduser()
    if not path.is_file():
        raise ModelError(f"--device-map takes {', '.join(POLICIES)} or a file, and there is no file {said!r}")
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(f"the device map cannot be read: {' '.join(str(error).split())}", path) from error
    if not isinstance(content, dict) or not content or not all(isinstance(name, str) for name in content):
        raise ModelError("a device map gives for names of modules a device each, such as `model.layers.0: cpu`", path)
    return content, str(path)


def _check_map(devices: DeviceMap, path: str | None) -> None:
    _, processes = local_process()
    for name, device in devices.items():
        if device in MEMORIES:
            continue
        if problem := _absent(device):
            raise ModelError(f"{name!r} goes to {device!r}, which is not there: {problem}", path)
        if processes > 1:
            raise ModelError(
                f"{name!r} goes to {device!r}, which {processes} processes would share: --device-map auto parts them",
                path,
            )


def _check_modules(devices: DeviceMap, model: Any, path: str | None) -> None:
    modules = dict(model.named_modules())
    for name in devices:
        if name not in modules:
            raise UnknownName("module of the model", name, modules, path)
    for name in model.state_dict():
        if _covering(name, devices) is None:
            raise ModelError(f"the device map gives no device for the module {_owner(name)!r}", path)
    for pair in getattr(model, "all_tied_weights_keys", {}).items():
        on_disk = [devices[_covering(name, devices) or ""] == "disk" for name in pair]
        if any(on_disk) and not all(on_disk):
            first, second = map(_owner, pair)
            raise ModelError(f"{first!r} and {second!r} have the same weights: put both on the disk, or neither", path)


def _covering(tensor: str, modules: Iterable[str]) -> str | None:
    """The smallest of some modules that a tensor belongs to."""
    owners = [module for module in modules if not module or tensor.startswith(f"{module}.")]
    return max(owners, key=len, default=None)


def _owner(tensor: str) -> str:
    return tensor.rpartition(".")[0]


def _tensor_parallel(checkpoint: Checkpoint) -> tuple[dict[str, Any], torch.device]:
    from transformers import __version__
    from transformers.distributed.configuration_utils import DistributedConfig

    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        raise ModelError(f"--tensor-parallel divides a model among processes, but this is the only one; start {START}")
    if "tp_plan" not in {field.name for field in fields(DistributedConfig)}:
        raise ModelError(f"--tensor-parallel needs a newer `transformers` than {__version__}")
    model = checkpoint.empty()
    if not model.supports_tp_plan:
        raise ModelError(f"--tensor-parallel: {type(model).__name__} has no plan of how to divide its layers")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {"distributed_config": DistributedConfig(tp_plan="auto")}, device


def _torch_device(device: int | str | torch.device) -> torch.device:
    return torch.device(f"cuda:{device}" if isinstance(device, int) else device)


def _absent(device: Any) -> str:
    """Why a device cannot be used; empty if it can."""
    if isinstance(device, bool) or not isinstance(device, int | str):
        return "a device is the number of a GPU, or a name such as cpu, disk or cuda:0"
    try:
        torch.empty(0, device=f"cuda:{device}" if isinstance(device, int) else device)
    except (RuntimeError, AssertionError) as error:  # torch's two ways of saying that a device is not there
        return str(error).strip().splitlines()[0].rstrip(".")
    return ""
