"""The precision of a model: the data type of its weights, and how they are quantised."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from icl_eval.config import DTYPES
from icl_eval.errors import ModelError, UnknownName

PACKAGE = "bitsandbytes"  # quantises weights while they are loaded


def type_named(name: str, device: torch.device) -> Any:
    """The argument `dtype` of `from_pretrained` for one of `DTYPES`; the device need not exist.

    Raises:
        ModelError: there is no such type.
    """
    if name not in DTYPES:
        raise ModelError(f"--dtype {name} is not one of {', '.join(DTYPES)}")
    if name == "auto":
        return "auto" if device.type == "cuda" else torch.float32
    return getattr(torch, name)


def weights_type(name: str, device: torch.device) -> Any:
    """The argument `dtype` of `from_pretrained` for one of `DTYPES`, after checking that the device supports it.

    Raises:
        ModelError: there is no such type, or the device does not support it.
    """
    kind = type_named(name, device)
    if kind != "auto" and not _supports(kind, device):
        raise ModelError(f"--dtype {name} cannot be used: {_named(device)} does not support it")
    return kind


def quantization(how: str, kind: Any, device: torch.device) -> Any:
    """The quantisation configuration for `from_pretrained`: LLM.int8 for `8bit`, the NF4 of QLoRA for `4bit`.

    Args:
        how: `8bit` or `4bit`.
        kind: the type of the weights that are not quantised. Products with 4-bit weights are computed in it, or, for
            `auto`, in a 16-bit type that the device supports.
        device: the device that computes.

    Raises:
        ModelError: the package for quantisation is not installed.
    """
    import transformers

    settings: Any = transformers.BitsAndBytesConfig
    if find_spec(PACKAGE) is None:
        raise ModelError(f"--quantize needs the package {PACKAGE}: pip install 'icl-eval[quantized]'")
    if how == "8bit":
        return settings(load_in_8bit=True)
    if kind == "auto":
        kind = torch.bfloat16 if _supports(torch.bfloat16, device) else torch.float16
    return settings(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=kind)


def check_quantization(config: Any) -> None:
    """Check that `transformers` knows the quantisation method of a checkpoint; it ignores unknown ones.

    Raises:
        ModelError: `quantization_config` is not a mapping.
        UnknownName: `transformers` does not have the method.
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
    by_bits = found.get("load_in_8bit") or found.get("load_in_4bit")  # bitsandbytes, whatever the method is called
    if not by_bits and method not in list(METHODS):
        raise UnknownName("quantisation method", str(method), METHODS)


def precision_of(model: Any) -> str:
    """The type of a model's weights, such as `float32`; for quantised ones after the method, such as `nf4-bfloat16`."""
    kind = str(model.dtype).removeprefix("torch.")
    settings = getattr(model.config, "quantization_config", None)
    return f"{quantized_as(settings)}-{kind}" if settings else kind


def quantized_as(settings: Any) -> str:
    """Method and bits of a `quantization_config`, such as `int8`, `nf4` or `gptq4`."""
    found = settings if isinstance(settings, dict) else settings.to_dict()
    if found.get("load_in_8bit"):
        return "int8"
    if found.get("load_in_4bit"):
        return str(found["bnb_4bit_quant_type"])
    method = found.get("quant_method", "quantized")
    return f"{getattr(method, 'value', method)}{found.get('bits', found.get('w_bit', ''))}"


def _supports(kind: torch.dtype, device: torch.device) -> bool:
    if device.type == "cuda" and kind is torch.bfloat16:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        numbers = torch.ones(2, 2, dtype=kind, device=device)
        numbers @ numbers
    except (RuntimeError, TypeError):  # torch raises either for a type that the device does not support
        return False
    return True


def _named(device: torch.device) -> str:
    return "this CPU" if device.type == "cpu" else f"the device {device}"
