"""From what a user names to a model: a directory, a Hub name, the bundled tiny GPT-2, or loaded objects."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from icl_eval.errors import ModelError
from icl_eval.models.protocol import LanguageModel

TINY = "tiny"
TINY_PATH = Path(__file__).resolve().parent.parent / "tiny" / "model"
DTYPES = ("auto", "float32", "bfloat16", "float16")


def load_model(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
    bos: bool | None = None,
    window: int | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> LanguageModel:
    """Load a causal language model and its tokenizer.

    Args:
        name: `tiny`, a directory with a checkpoint, or a name on the Hub.
        revision: of the Hub's repository.
        dtype: `float32`, `bfloat16`, `float16`, or `auto`: the checkpoint's own type on a GPU, float32 on a processor.
        device: `cpu`, `cuda`, `cuda:1` ...; by default a GPU if there is one.
        bos: whether texts begin with the BOS token; by default as the tokenizer does it.
        window: tokens to read at once, where the checkpoint does not say.
        trust_remote_code: run code from the model's repository.
        allow_pickle: load pickled weights, which can run code, where there are no safetensors.

    Raises:
        ModelError: it cannot be loaded; the sentence says why.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    from icl_eval.models.causal import CausalLM

    place = _resolve(name)
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    kind = _torch_dtype(dtype, target)
    shared = {"revision": revision, "trust_remote_code": trust_remote_code}
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **shared)
        model = AutoModelForCausalLM.from_pretrained(
            place, dtype=kind, use_safetensors=None if allow_pickle else True, **shared
        ).to(target)
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        raise ModelError(f"{name!r} cannot be loaded: {_reason(error, allow_pickle)}") from error
    fingerprint = _directory_digest(Path(place)) if Path(place).is_dir() else f"{name}@{model.config._commit_hash}"
    return CausalLM(model, tokenizer, name, fingerprint, bos=bos, window=window)


def wrap_model(model: Any, tokenizer: Any, *, name: str = "", bos: bool | None = None) -> LanguageModel:
    """A loaded `transformers` model and tokenizer as a language model."""
    from icl_eval.models.causal import CausalLM

    return CausalLM(model, tokenizer, name or type(model).__name__, _weights_digest(model, tokenizer), bos=bos)


def _resolve(name: str) -> str:
    if name == TINY:
        return str(TINY_PATH)
    path = Path(name)
    if path.is_dir() and not (path / "config.json").is_file():
        raise ModelError("this directory is not a checkpoint: it has no config.json", path)
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_local and not path.expanduser().is_dir():
        raise ModelError("there is no such model directory", path)
    return str(path.expanduser()) if path.expanduser().is_dir() else name


def _torch_dtype(name: str, device: Any) -> Any:
    import torch

    if name not in DTYPES:
        raise ModelError(f"--dtype {name} is not one of {', '.join(DTYPES)}")
    if name == "auto":
        return "auto" if device.type == "cuda" else torch.float32
    return getattr(torch, name)


def _reason(error: Exception, allow_pickle: bool) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    if "safetensors" in str(error) and not allow_pickle:
        return f"{first.rstrip('.')}; --allow-pickle also takes pickled weights, which can run code"
    return first


def _directory_digest(path: Path) -> str:
    """Hash of a checkpoint's content: configuration, tokenizer and weights."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(path.iterdir()):
        if file.suffix in {".json", ".safetensors", ".bin", ".model", ".txt"} and file.is_file():
            digest.update(file.name.encode())
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "blake2b").digest())
    return digest.hexdigest()


def _weights_digest(model: Any, tokenizer: Any) -> str:
    digest = hashlib.blake2b(str(sorted(tokenizer.get_vocab().items())).encode(), digest_size=16)
    digest.update(model.config.to_json_string().encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(dtype=_bytes()).numpy().tobytes())
    return digest.hexdigest()


def _bytes() -> Any:
    import torch

    return torch.uint8
