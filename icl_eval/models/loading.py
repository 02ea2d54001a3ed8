"""From what a user names to a model: a directory, a Hub name, the bundled tiny GPT-2, or loaded objects."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from icl_eval.errors import ModelError
from icl_eval.models.options import Setup, Variant, split_options, unusable
from icl_eval.models.protocol import LanguageModel

TINY = "tiny"
TINY_PATH = Path(__file__).resolve().parent.parent / "tiny" / "model"
HASHED = {".json", ".safetensors", ".bin", ".model", ".txt", ".py", ".tiktoken"}  # what an answer can depend on
DTYPES = ("auto", "float32", "bfloat16", "float16")


def load_model(name: str, **options: Any) -> LanguageModel:
    """Load a language model and its tokenizer.

    Args:
        name: `tiny`, a directory with a checkpoint, or a name on the Hub.
        options: those of `Variant`, which can change scores (`revision`, `dtype`, `bos`, `window`), and those of
            `Setup`, which cannot (`device`, `trust_remote_code`, `allow_pickle`).

    Raises:
        ModelError: it cannot be loaded; the sentence says why.
        UnknownName: there is no such option.
    """
    asked, setup = split_options(options)
    try:
        variant = Variant(**asked)
    except ValidationError as error:
        raise unusable(error) from error
    return load(name, variant, setup)


def load(name: str, variant: Variant, setup: Setup) -> LanguageModel:
    """As `load_model`, of options that are sorted already."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    from icl_eval.models.causal import CausalLM
    from icl_eval.models.fused import fuse_activations

    loader: Any = AutoModelForCausalLM
    place = resolve(name)
    target = _device(setup.device)
    kind = _torch_dtype("float32" if (name, variant.dtype) == (TINY, "auto") else variant.dtype, target)
    shared = {"revision": variant.revision, "trust_remote_code": setup.trust_remote_code}
    safe = None if setup.allow_pickle else True
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **shared)
        model, loaded = loader.from_pretrained(
            place, dtype=kind, use_safetensors=safe, output_loading_info=True, **shared
        )
        model = model.to(target)
    except (
        OSError,
        ValueError,
        ImportError,
        KeyError,
        RuntimeError,
        SafetensorError,
        TypeError,
        AttributeError,
    ) as error:
        raise ModelError(f"{name!r} cannot be loaded: {_reason(error, setup.allow_pickle)}") from error
    if missing := sorted(loaded["missing_keys"]):
        raise ModelError(
            f"{name!r} lacks {len(missing)} of the weights its configuration asks for, such as {missing[0]!r}"
        )
    fuse_activations(model)
    fingerprint = _directory_digest(Path(place)) if Path(place).is_dir() else f"{name}@{model.config._commit_hash}"
    return CausalLM(model, tokenizer, name, fingerprint, bos=variant.bos, window=variant.window)


def wrap_model(
    model: Any, tokenizer: Any, *, name: str = "", bos: bool | None = None, window: int | None = None
) -> LanguageModel:
    """A loaded `transformers` model and tokenizer as a language model."""
    from icl_eval.models.causal import CausalLM

    name, digest = name or type(model).__name__, _weights_digest(model, tokenizer)
    return CausalLM(model, tokenizer, name, digest, bos=bos, window=window)


def resolve(name: str) -> str:
    """The directory that a name means, or the name itself if it can only be the Hub's.

    Raises:
        ModelError: the name is a path, but not that of a checkpoint.
    """
    if name == TINY:
        return str(TINY_PATH)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError("this directory is not a checkpoint: it has no config.json", path)
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError("there is no such model directory", path)
    return name


def _device(name: str | None) -> Any:
    import torch

    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch's two ways of saying that a device is not there
        raise ModelError(f"--device {name} cannot be used: {_first_sentence(error)}") from error


def _torch_dtype(name: str, device: Any) -> Any:
    import torch

    if name not in DTYPES:
        raise ModelError(f"--dtype {name} is not one of {', '.join(DTYPES)}")
    if name == "auto":
        return "auto" if device.type == "cuda" else torch.float32
    return getattr(torch, name)


def _reason(error: Exception, allow_pickle: bool) -> str:
    text = str(error)
    if "custom code" in text or "trust_remote_code" in text:
        return "its repository comes with code of its own, which --trust-remote-code would run"
    if "ignore_mismatched_sizes" in text:
        return "its weights do not have the shapes that its configuration gives"
    if "backend tokenizer" in text:
        return "it has no tokenizer, or one of a kind that needs a package that is not installed"
    if "safetensors" in text and "no file named" in text and not allow_pickle:
        return f"{_first_sentence(error)}; --allow-pickle also takes pickled weights, which can run code"
    return _first_sentence(error)


def _first_sentence(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip().rstrip(".") if lines else type(error).__name__


def _directory_digest(path: Path) -> str:
    """Hash of a checkpoint's content: configuration, tokenizer and weights."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(path.iterdir()):
        if file.suffix in HASHED and file.is_file():
            digest.update(file.name.encode())
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "blake2b").digest())
    return digest.hexdigest()


def _weights_digest(model: Any, tokenizer: Any) -> str:
    from icl_eval.models.written import end_tokens

    digest = hashlib.blake2b(str(sorted(tokenizer.get_vocab().items())).encode(), digest_size=16)
    digest.update(model.config.to_json_string().encode())
    digest.update(str(sorted(end_tokens(model, tokenizer))).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(dtype=_bytes()).numpy().tobytes())
    return digest.hexdigest()


def _bytes() -> Any:
    import torch

    return torch.uint8
