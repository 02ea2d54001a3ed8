"""Place a model's weights: on one device, on several by a map, in other memory, or in several processes.

`accelerate` and `transformers` do all of this. This module determines their arguments, and checks them before any
weights are read.
"""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

import torch

from icl_eval.errors import ModelError
from icl_eval.models.checkpoints.checkpoint import Checkpoint
from icl_eval.models.checkpoints.device_map import MEMORIES, POLICIES, memory_of, read_map
from icl_eval.models.checkpoints.devices import device_named, torch_device
from icl_eval.models.checkpoints.gguf import is_gguf
from icl_eval.models.checkpoints.precision import quantization, quantized_as, weights_type
from icl_eval.models.options import LoadConfig, ModelConfig

START = "accelerate launch --num-processes N -m icl_eval run ..."


def placement_arguments(model_config: ModelConfig, load_config: LoadConfig, checkpoint: Checkpoint) -> dict[str, Any]:
    """Arguments of `from_pretrained` for devices, types and attention.

    Raises:
        ModelError: two options exclude each other, or something is not available; the sentence says which.
    """
    _check_together(load_config)
    where, device = _tensor_parallel(checkpoint) if load_config.tensor_parallel else _mapped(load_config, checkpoint)
    arguments = {"dtype": weights_type(model_config.dtype, device), **where}
    if model_config.quantize:
        if is_gguf(checkpoint.location):
            raise ModelError("--quantize has no effect on a GGUF file, whose weights are unpacked")
        if settings := getattr(checkpoint.config(), "quantization_config", None):
            raise ModelError(
                f"--quantize has no effect on weights that are quantised already: {quantized_as(settings)}"
            )
        arguments["quantization_config"] = quantization(model_config.quantize, arguments["dtype"], device)
    if load_config.attn:
        arguments["attn_implementation"] = load_config.attn
    return arguments


def settle(model: Any, load_config: LoadConfig, checkpoint: Checkpoint) -> None:
    """Attach the checkpoint to a loaded model, and check that it uses the requested attention.

    Raises:
        ModelError: it uses another one, or cannot use it with weights of its type.
    """
    model.icl_eval_checkpoint = checkpoint  # and with it the folder of its offloaded weights
    attends = model.config.get_text_config()._attn_implementation
    if not load_config.attn:
        return
    if load_config.attn != attends and not ("flash" in load_config.attn and "flash" in attends):  # of another package
        raise ModelError(f"--attn {load_config.attn} cannot be used: {type(model).__name__} takes {attends}")
    if "flash" in load_config.attn and model.dtype not in (torch.bfloat16, torch.float16):
        raise ModelError(f"--attn {load_config.attn} needs --dtype bfloat16 or float16")


def _check_together(load_config: LoadConfig) -> None:
    mapped = load_config.device_map is not None
    if load_config.device is not None and mapped:
        raise ModelError("give either --device or --device-map, not both")
    if load_config.tensor_parallel and (mapped or load_config.device is not None):
        raise ModelError(
            "--tensor-parallel gives every process a device; it goes with neither --device nor --device-map"
        )
    if load_config.max_memory is not None and load_config.device_map not in POLICIES:
        raise ModelError(f"--max-memory is for --device-map {', '.join(POLICIES[:-1])} or {POLICIES[-1]}")
    if load_config.offload_dir is not None and not mapped:
        raise ModelError("--offload-dir is for the weights that a --device-map leaves on the disk")


def _mapped(load_config: LoadConfig, checkpoint: Checkpoint) -> tuple[dict[str, Any], torch.device]:
    """Arguments of `from_pretrained`, and the device that computes."""
    if load_config.device_map is None:
        device = device_named(load_config.device)
        return {"device_map": {"": device}}, device
    folder = str(load_config.offload_dir or checkpoint.scratch())
    if isinstance(load_config.device_map, str) and load_config.device_map in POLICIES:
        memory = memory_of(load_config)
        gpus = torch.cuda.device_count() if memory is None else sum(isinstance(each, int) for each in memory)
        device = torch.device("cuda" if gpus else "cpu")
        return {"device_map": load_config.device_map, "max_memory": memory, "offload_folder": folder}, device
    devices = read_map(load_config.device_map, checkpoint.empty)
    computing = [torch_device(each) for each in devices.values() if each not in MEMORIES]
    return {"device_map": dict(devices), "offload_folder": folder}, next(iter(computing), torch.device("cpu"))


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
