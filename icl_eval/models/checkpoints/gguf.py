"""GGUF files, whose weights `transformers` unpacks."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from icl_eval.errors import ModelError

SUFFIX = ".gguf"


def is_gguf(name: str) -> bool:
    """Whether a name is that of a GGUF file."""
    return name.lower().endswith(SUFFIX)


def gguf_file(path: Path) -> str:
    """The path of a file that can be loaded.

    Raises:
        ModelError: it does not exist, or the package that reads it is not installed.
    """
    if not path.is_file():
        raise ModelError("there is no such file", path)
    if find_spec("gguf") is None:
        raise ModelError("a GGUF file needs the package `gguf`: pip install 'icl-eval[gguf]'", path)
    return str(path)


def pretrained(location: str, *, weights: bool = False) -> tuple[str, dict[str, Any]]:
    """The name and further arguments of `from_pretrained` for a location; they unpack the weights of a GGUF file."""
    import transformers

    if not is_gguf(location):
        return location, {}
    path = Path(location)
    unpacking = getattr(transformers, "GgufConfig", None)  # older versions cannot but unpack
    found: dict[str, Any] = {"gguf_file": path.name}
    return str(path.parent), found | (
        {"quantization_config": unpacking(dequantize=True)} if weights and unpacking else {}
    )
