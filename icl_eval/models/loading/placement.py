"""Where the weights of a model go: to one device, to several by a device map, or, offloaded, to the CPU or disk.

`accelerate` and `transformers` place them. This module determines and checks their arguments, including device maps,
before any weights are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from icl_eval.errors import ModelError, UnknownName
from icl_eval.models.loading import devices
from icl_eval.models.loading.checkpoint import Checkpoint, is_gguf
from icl_eval.models.loading.devices import device_named, torch_device
from icl_eval.models.loading.precision import quantization, quantized_as, weights_type
from icl_eval.models.loading.tensor_parallel import tensor_parallel_arguments
from icl_eval.models.options import LoadConfig, ModelConfig

POLICIES = ("auto", "balanced", "balanced_low_0", "sequential")  # device maps that `accelerate` makes
MEMORIES = ("cpu", "disk")  # where offloaded weights are, until a GPU needs them
LEVELS = 2  # levels of nesting in the file of a device map: modules and devices
KEPT_FREE = 0.1  # share of each memory that stays free when several processes share a machine
DeviceMap = Mapping[str, int | str]


def placement_arguments(model_config: ModelConfig, load_config: LoadConfig, checkpoint: Checkpoint) -> dict[str, Any]:
    """The arguments of `from_pretrained` for devices, data types, quantisation and attention.

    Raises:
        ModelError: two options exclude each other, or the machine or the model does not support one.
    """
    _check_together(load_config)
    where, device = (
        tensor_parallel_arguments(checkpoint) if load_config.tensor_parallel else _mapped(load_config, checkpoint)
    )
    arguments = {"dtype": weights_type(model_config.dtype, device), **where}
    if model_config.quantize:
        if is_gguf(checkpoint.location):
            raise ModelError("--quantize has no effect on a GGUF file, whose weights are dequantised")
        if settings := getattr(checkpoint.config(), "quantization_config", None):
            raise ModelError(
                f"--quantize has no effect on weights that are quantised already: {quantized_as(settings)}"
            )
        arguments["quantization_config"] = quantization(model_config.quantize, arguments["dtype"], device)
    if load_config.attn:
        arguments["attn_implementation"] = load_config.attn
    return arguments


def check_attention(model: Any, load_config: LoadConfig) -> None:
    """Check that a loaded model uses the requested implementation of attention.

    Raises:
        ModelError: it uses another implementation, or weights of its type cannot be used with it.
    """
    attends = model.config.get_text_config()._attn_implementation
    if not load_config.attn:
        return
    both_flash = "flash" in load_config.attn and "flash" in attends  # the same by another package
    if load_config.attn != attends and not both_flash:
        raise ModelError(f"--attn {load_config.attn} cannot be used: {type(model).__name__} uses {attends}")
    if "flash" in load_config.attn and model.dtype not in (torch.bfloat16, torch.float16):
        raise ModelError(f"--attn {load_config.attn} needs --dtype bfloat16 or float16")


def _check_together(load_config: LoadConfig) -> None:
    mapped = load_config.device_map is not None
    if load_config.device is not None and mapped:
        raise ModelError("give either --device or --device-map, not both")
    if load_config.tensor_parallel and (mapped or load_config.device is not None):
        raise ModelError(
            "--tensor-parallel gives each process its own device; it cannot be combined with --device or --device-map"
        )
    if load_config.max_memory is not None and load_config.device_map not in POLICIES:
        raise ModelError(f"--max-memory needs --device-map {', '.join(POLICIES[:-1])} or {POLICIES[-1]}")
    if load_config.offload_dir is not None and not mapped:
        raise ModelError("--offload-dir needs a --device-map that offloads weights to the disk")


def _mapped(load_config: LoadConfig, checkpoint: Checkpoint) -> tuple[dict[str, Any], torch.device]:
    """The arguments of `from_pretrained` for devices, and the device that computes."""
    if load_config.device_map is None:
        device = device_named(load_config.device)
        return {"device_map": {"": device}}, device
    folder = str(load_config.offload_dir or checkpoint.scratch())
    if isinstance(load_config.device_map, str) and load_config.device_map in POLICIES:
        memory = memory_of(load_config)
        gpus = torch.cuda.device_count() if memory is None else sum(isinstance(each, int) for each in memory)
        device = torch.device("cuda" if gpus else "cpu")
        return {"device_map": load_config.device_map, "max_memory": memory, "offload_folder": folder}, device
    device_map = read_map(load_config.device_map, checkpoint.empty)
    computing = [torch_device(each) for each in device_map.values() if each not in MEMORIES]
    return {"device_map": dict(device_map), "offload_folder": folder}, next(iter(computing), torch.device("cpu"))


def read_map(given: str | DeviceMap, empty: Callable[[], Any]) -> DeviceMap:
    """A device map that gives every weight of a model an existing device.

    Args:
        given: the map, or the path of a YAML or JSON file that contains it.
        empty: makes the model without its weights.

    Raises:
        ModelError: the file cannot be read or contains no device map, a device does not exist or would be shared by
            several processes, a weight has no device, or only some of the modules with tied weights are on the disk.
        UnknownName: the model has no such module.
    """
    found, path = _read(given)
    _check_devices(found, path)
    _check_modules(found, empty(), path)
    return found


def memory_of(load_config: LoadConfig) -> dict[int | str, int | str] | None:
    """How much of each memory this process may use, as `accelerate` takes it; None if `accelerate` decides.

    Raises:
        ModelError: a device does not exist, a size is invalid, or `balanced_low_0` is given with several processes.
    """
    from accelerate.utils import get_max_memory

    rank, processes = devices.local_process()
    limits = dict(load_config.max_memory) if load_config.max_memory is not None else None
    _check_memory(limits or {})
    if processes == 1:
        return limits
    if load_config.device_map == "balanced_low_0":
        raise ModelError(f"--device-map balanced_low_0 needs one process, but {processes} processes share this machine")
    mine = devices.gpus_of(rank, processes, torch.cuda.device_count())
    if limits is not None:
        return {device: size for device, size in limits.items() if isinstance(device, str) or device in mine}
    share = {"cpu": (1 - KEPT_FREE) / processes, "disk": 1.0} | dict.fromkeys(mine, 1 - KEPT_FREE)
    return {device: int(size * share[device]) for device, size in get_max_memory().items() if device in share}


def _check_memory(memory: Mapping[int | str, int | str]) -> None:
    from accelerate.utils import convert_file_size_to_int

    for device, size in memory.items():
        if device not in MEMORIES and (problem := devices.device_problem(device)):
            raise ModelError(f"--max-memory {device}={size}: there is no such device: {problem}")
        try:
            convert_file_size_to_int(size)
        except ValueError as error:
            raise ModelError(f"--max-memory {device}={size}: write a size as 20GiB or 500MB") from error


def _read(given: str | DeviceMap) -> tuple[DeviceMap, str | None]:
    """A map of modules to devices, and the file that it is from."""
    if not isinstance(given, str):
        return given, None
    path = Path(given).expanduser()
    if not path.is_file():
        raise ModelError(f"--device-map must be {', '.join(POLICIES)} or a file, and there is no file {given!r}")
    try:
        text = path.read_text("utf-8")
        content = yaml.safe_load(text) if _is_shallow(text) else None
    except (OSError, ValueError, yaml.YAMLError) as error:  # `ValueError`: an impossible date or number
        raise ModelError(f"the device map cannot be read: {' '.join(str(error).split())}", path) from error
    if not isinstance(content, dict) or not content or not all(isinstance(name, str) for name in content):
        raise ModelError("a device map is a mapping of modules to devices, such as `model.layers.0: cpu`", path)
    return content, str(path)


def _is_shallow(text: str) -> bool:
    """Whether YAML has at most two levels and no aliases; reading stops where it has more, since it could take long.

    Raises:
        yaml.YAMLError: the text does not parse.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > LEVELS or isinstance(event, yaml.AliasEvent):
            return False
    return True


def _check_devices(device_map: DeviceMap, path: str | None) -> None:
    _, processes = devices.local_process()
    for name, device in device_map.items():
        if device in MEMORIES:
            continue
        if problem := devices.device_problem(device):
            raise ModelError(f"{name!r} is mapped to {device!r}, which does not exist: {problem}", path)
        if processes > 1:
            raise ModelError(
                f"{name!r} is mapped to {device!r}, which {processes} processes would share: use --device-map auto",
                path,
            )


def _check_modules(device_map: DeviceMap, model: Any, path: str | None) -> None:
    modules = dict(model.named_modules())
    for name in device_map:
        if name not in modules:
            raise UnknownName("module of the model", name, modules, path)
    for name in model.state_dict():
        if _covering(name, device_map) is None:
            raise ModelError(f"the device map gives no device for the module {_owner(name)!r}", path)
    for pair in getattr(model, "all_tied_weights_keys", {}).items():
        on_disk = [device_map[_covering(name, device_map) or ""] == "disk" for name in pair]
        if any(on_disk) and not all(on_disk):
            first, second = map(_owner, pair)
            raise ModelError(f"{first!r} and {second!r} share weights: map both to the disk, or neither", path)


def _covering(tensor: str, modules: Iterable[str]) -> str | None:
    """The innermost of these modules that contains a tensor; None if none does."""
    owners = [module for module in modules if not module or tensor.startswith(f"{module}.")]
    return max(owners, key=len, default=None)


def _owner(tensor: str) -> str:
    return tensor.rpartition(".")[0]
