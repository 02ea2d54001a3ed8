"""The precision of a model: the type of its weights, and their quantisation."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from icl_eval.config import DTYPES
from icl_eval.errors import ModelError, UnknownName

PACKAGE = "bitsandbytes"  # which quantises weights while they are loaded


def type_named(name: str, device: torch.device) -> Any:
    """What `from_pretrained` takes for one of `DTYPES`, on a device that may be absent.

    Raises:
        ModelError: there is no such type.
    """
    if name not in DTYPES:
        raise ModelError(f"--dtype {name} is not one of {', '.join(DTYPES)}")
    if name == "auto":
        return "auto" if device.type == "cuda" else torch.float32
    return getattr(torch, name)


def weights_type(name: str, device: torch.device) -> Any:
    """What `from_pretrained` takes for one of `DTYPES`.

    Raises:
        ModelError: there is no such type, or the device cannot compute with it.
    """
    kind = type_named(name, device)
    if kind != "auto" and not _computes(kind, device):
        raise ModelError(f"--dtype {name} cannot be used: {_named(device)} does not compute with it")
    return kind


def quantization(how: str, kind: Any, device: torch.device) -> Any:
    """The settings by which `transformers` quantises weights: LLM.int8 for `8bit`, NF4 of QLoRA for `4bit`.

    Args:
        how: `8bit` or `4bit`.
        kind: type of all that is not quantised; with `auto`, 4-bit weights are multiplied in a 16-bit type of the GPU.
        device: the device that computes.

    Raises:
        ModelError: the package that does it is not installed.
    """
    import transformers

    settings: Any = transformers.BitsAndBytesConfig
    if find_spec(PACKAGE) is None:
        raise ModelError(f"--quantize needs the package {PACKAGE}: pip install 'icl-eval[quantized]'")
    if how == "8bit":
        return settings(load_in_8bit=True)
    if kind == "auto":
        kind = torch.bfloat16 if _computes(torch.bfloat16, device) else torch.float16
    return settings(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=kind)


def check_quantization(config: Any) -> None:
    """Check that the quantisation method of a checkpoint is known; `transformers` would ignore others.

    Raises:
        ModelError: its configuration describes no quantisation.
        UnknownName: it names a method that `transformers` does not have.
    """
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING as METHODS

    settings = getattr(config, "quantization_config", None)
    if settings is None:
        return
    found = settings if isinstance(settings, dict) else getattr(settings, "to_dict", lambda: None)()
    if not isinstance(found, dict):
        raise ModelError("its `quantization_config` is not a mapping")
    method = found.get("quant_method")
    method = getattr(method, "value", method)
    by_bits = found.get("load_in_8bit") or found.get("load_in_4bit")  # of bitsandbytes, whatever the method is called
    if not by_bits and method not in list(METHODS):
        raise UnknownName("quantisation method", str(method), METHODS)


def precision_of(model: Any) -> str:
    """The type of a model's weights, such as `float32`, led by how others are quantised, such as `nf4-bfloat16`."""
    kind = str(model.dtype).removeprefix("torch.")
    settings = getattr(model.config, "quantization_config", None)
    return f"{quantized_as(settings)}-{kind}" if settings else kind


def quantized_as(settings: Any) -> str:
    """The method and the bits of a configuration's `quantization_config`, such as `int8`, `nf4` or `gptq4`."""
    found = settings if isinstance(settings, dict) else settings.to_dict()
    if found.get("load_in_8bit"):
        return "int8"
    if found.get("load_in_4bit"):
        return str(found["bnb_4bit_quant_type"])
    method = found.get("quant_method", "quantized")
    return f"{getattr(method, 'value', method)}{found.get('bits', found.get('w_bit', ''))}"


def _computes(kind: torch.dtype, device: torch.device) -> bool:
    if device.type == "cuda" and kind is torch.bfloat16:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        numbers = torch.ones(2, 2, dtype=kind, device=device)
        numbers @ numbers
    except (RuntimeError, TypeError):  # the two errors of a device without this arithmetic
        return False
    return True


def _named(device: torch.device) -> str:
    return "this CPU" if device.type == "cpu" else f"the device {device}"
