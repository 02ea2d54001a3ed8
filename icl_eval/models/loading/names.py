"""Resolve the name of a model: the tiny GPT-2, a directory, a GGUF file, a name on the Hub, or an endpoint."""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from icl_eval.errors import ModelError
from icl_eval.models.options import LoadConfig, ModelConfig

TINY = "tiny"
TINY_PATH = Path(__file__).resolve().parents[2] / "tiny" / "model"
WEIGHTS = (  # options of how weights are loaded and placed
    *("dtype", "quantize", "pll", "device", "allow_pickle", "attn"),
    *("device_map", "max_memory", "offload_dir", "tensor_parallel"),
)
TOKENS = ("bos", "max_length")  # options of how texts become tokens
SERVING = ("served_name", "concurrency", "timeout", "retries")  # options of requests to a served model
SUFFIX = ".gguf"


def is_endpoint(name: str) -> bool:
    """Whether a model's name is the URL of a server."""
    return name.lower().startswith(("http://", "https://"))


def check_options(name: str, model_config: ModelConfig, load_config: LoadConfig) -> None:
    """Check that every option has an effect on a model of this name, and that an endpoint has a tokenizer or chats.

    Raises:
        ModelError: an option has no effect, or there is no tokenizer.
    """
    if not is_endpoint(name):
        _refuse(SERVING, model_config, load_config, "a model that is not served")
        return
    _refuse(WEIGHTS, model_config, load_config, "a served model")
    if model_config.tokenizer is None and model_config.chat:
        _refuse(TOKENS, model_config, load_config, "a chat endpoint, which has its own tokenizer")
    elif model_config.tokenizer is None:
        raise ModelError(
            "an endpoint needs --tokenizer, the directory or Hub name of the served model's tokenizer; leave it "
            "out only with --chat"
        )


def _refuse(options: Collection[str], model_config: ModelConfig, load_config: LoadConfig, whom: str) -> None:
    """Raise `ModelError` for an option that would have no effect."""
    for given, default in ((model_config, ModelConfig()), (load_config, LoadConfig())):
        for option, value in default:
            if option in options and getattr(given, option) != value:
                raise ModelError(f"`{option}` has no effect on {whom}")


def resolve(name: str, revision: str | None = None) -> str:
    """The directory or GGUF file that a name means, or the name itself if it can only be the Hub's or a URL.

    Raises:
        ModelError: the name is a path but not that of a checkpoint, or needs a package that is not installed; or a
            revision is given for a local or served model, which has none; or a URL contains a secret.
    """
    if is_endpoint(name):
        from icl_eval.models.served.model import checked_url

        url = checked_url(name)
        if revision is not None:
            raise ModelError(f"{url!r} is an endpoint and has no revisions; --revision is for names on the Hub")
        return url
    path = Path(name).expanduser()
    if revision is not None and (name == TINY or path.exists()):
        raise ModelError(f"{name!r} is on this machine and has no revisions; --revision is for names on the Hub")
    location = located(name, "model")
    if Path(location).is_dir() and not (Path(location) / "config.json").is_file():
        raise ModelError("this directory is not a checkpoint: it has no config.json", location)
    return location


def located(name: str, kind: str) -> str:
    """The directory or GGUF file that a name means, or the name itself if it can only be the Hub's.

    Args:
        name: of a model or a tokenizer.
        kind: which of the two it is, for the error.

    Raises:
        ModelError: the name is a path that does not exist, or needs a package that is not installed.
    """
    if name == TINY:
        return str(TINY_PATH)
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if is_gguf(name):
        return gguf_file(path)
    if path.is_file():
        raise ModelError(f"this is a file; a {kind} is a directory, a GGUF file, or a name on the Hub", path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"there is no such {kind} directory", path)
    return name


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
