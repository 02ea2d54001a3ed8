"""Maps of modules to devices, and how much of each memory a map may use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from icl_eval.errors import ModelError, UnknownName
from icl_eval.models.checkpoints import devices
from icl_eval.models.options import LoadConfig

POLICIES = ("auto", "balanced", "balanced_low_0", "sequential")  # of `accelerate`
MEMORIES = ("cpu", "disk")  # what holds weights that are brought to a device when they are used
LEVELS = 2  # of nesting in a file with a map: modules and devices
KEPT_FREE = 0.1  # of each memory, when the processes of a machine share it

DeviceMap = Mapping[str, int | str]


def read_map(given: str | DeviceMap, empty: Callable[[], Any]) -> DeviceMap:
    """A map that gives every weight of a model an existing device.

    Args:
        given: the map, or a YAML or JSON file that holds it.
        empty: makes the model without its weights.

    Raises:
        ModelError: the file cannot be read or has no map, a device does not exist or is shared by processes, a weight
            has no device, or tied weights are only partly on the disk.
        UnknownName: the model has no such module.
    """
    found, path = _read(given)
    _check_devices(found, path)
    _check_modules(found, empty(), path)
    return found


def memory_of(load_config: LoadConfig) -> dict[int | str, int | str] | None:
    """How much of each memory this process may use; None leaves it to `accelerate`.

    Raises:
        ModelError: a device is not there, a size cannot be read, or the processes of the machine cannot share it so.
    """
    from accelerate.utils import get_max_memory

    rank, processes = devices.local_process()
    limits = dict(load_config.max_memory) if load_config.max_memory is not None else None
    _check_memory(limits or {})
    if processes == 1:
        return limits
    if load_config.device_map == "balanced_low_0":
        raise ModelError(f"--device-map balanced_low_0 spares the GPU 0, but {processes} processes share this machine")
    mine = devices.gpus_of(rank, processes, torch.cuda.device_count())
    if limits is not None:
        return {device: size for device, size in limits.items() if isinstance(device, str) or device in mine}
    share = {"cpu": (1 - KEPT_FREE) / processes, "disk": 1.0} | dict.fromkeys(mine, 1 - KEPT_FREE)
    return {device: int(size * share[device]) for device, size in get_max_memory().items() if device in share}


def _check_memory(memory: Mapping[int | str, int | str]) -> None:
    from accelerate.utils import convert_file_size_to_int

    for device, size in memory.items():
        if device not in MEMORIES and (problem := devices.absent(device)):
            raise ModelError(f"--max-memory {device}={size}: this device is not there: {problem}")
        try:
            convert_file_size_to_int(size)
        except ValueError as error:
            raise ModelError(f"--max-memory {device}={size}: a size reads like 20GiB or 500MB") from error


def _read(given: str | DeviceMap) -> tuple[DeviceMap, str | None]:
    """A map of modules to devices, and its file."""
    if not isinstance(given, str):
        return given, None
    path = Path(given).expanduser()
    if not path.is_file():
        raise ModelError(f"--device-map takes {', '.join(POLICIES)} or a file, and there is no file {given!r}")
    try:
        text = path.read_text("utf-8")
        content = yaml.safe_load(text) if _is_shallow(text) else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(f"the device map cannot be read: {' '.join(str(error).split())}", path) from error
    if not isinstance(content, dict) or not content or not all(isinstance(name, str) for name in content):
        raise ModelError("a device map gives for names of modules a device each, such as `model.layers.0: cpu`", path)
    return content, str(path)


def _is_shallow(text: str) -> bool:
    """Whether YAML has at most two levels and no aliases; the rest of a deeper text, which takes long, is not read.

    Raises:
        yaml.YAMLError: it does not parse.
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
        if problem := devices.absent(device):
            raise ModelError(f"{name!r} goes to {device!r}, which is not there: {problem}", path)
        if processes > 1:
            raise ModelError(
                f"{name!r} goes to {device!r}, which {processes} processes would share: --device-map auto parts them",
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
            raise ModelError(f"{first!r} and {second!r} have the same weights: put both on the disk, or neither", path)


def _covering(tensor: str, modules: Iterable[str]) -> str | None:
    """The innermost of some modules that a tensor belongs to."""
    owners = [module for module in modules if not module or tensor.startswith(f"{module}.")]
    return max(owners, key=len, default=None)


def _owner(tensor: str) -> str:
    return tensor.rpartition(".")[0]
