"""From what a user names to a model: a directory, a GGUF file, a Hub name, an endpoint's URL, or loaded objects."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from icl_eval.errors import ModelError
from icl_eval.models.encoding import vocabulary_digest
from icl_eval.models.gguf import gguf_file, is_gguf, pretrained
from icl_eval.models.options import Setup, Variant, split_options, unusable
from icl_eval.models.protocol import LanguageModel

TINY = "tiny"
TINY_PATH = Path(__file__).resolve().parent.parent / "tiny" / "model"
HASHED = {".json", ".safetensors", ".bin", ".model", ".txt", ".py", ".tiktoken"}  # what an answer can depend on
DTYPES = ("auto", "float32", "bfloat16", "float16")
WEIGHTS = ("dtype", "device", "allow_pickle")  # options that say how weights are loaded
SERVING = ("served_name", "concurrency", "timeout", "retries")  # options that say how a served model is asked
LOADING_ERRORS = (OSError, ValueError, ImportError, KeyError, RuntimeError, TypeError, AttributeError)


def load_model(name: str, **options: Any) -> LanguageModel:
    """Load a language model and its tokenizer.

    Args:
        name: `tiny`, a directory with a checkpoint, a GGUF file, a name on the Hub, or the URL of an endpoint.
        options: those of `Variant`, which can change scores (`revision`, `dtype`, `bos`, `window`, `tokenizer`,
            `served_name`), and those of `Setup`, which cannot (`device`, `trust_remote_code`, `allow_pickle`,
            `concurrency`, `timeout`, `retries`).

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
    if is_endpoint(name):
        return _connected(name, variant, setup)
    _refuse(SERVING, variant, setup, "a model that is not served")
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    from icl_eval.models.causal import CausalLM

    loader: Any = AutoModelForCausalLM
    place = resolve(name)
    target = _device(setup.device)
    kind = _torch_dtype("float32" if (name, variant.dtype) == (TINY, "auto") else variant.dtype, target)
    shared = {"revision": variant.revision, "trust_remote_code": setup.trust_remote_code}
    safe = None if setup.allow_pickle else True
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    source, own = pretrained(place)
    weights = {**pretrained(place, weights=True)[1], "dtype": kind, "use_safetensors": safe}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **own, **shared) if variant.tokenizer is None else None
        model, loaded = loader.from_pretrained(source, output_loading_info=True, **weights, **shared)
        model = model.to(target)
    except (*LOADING_ERRORS, SafetensorError) as error:
        raise ModelError(f"{name!r} cannot be loaded: {_reason(error, setup.allow_pickle)}") from error
    if missing := sorted(loaded["missing_keys"]):
        raise ModelError(
            f"{name!r} lacks {len(missing)} of the weights its configuration asks for, such as {missing[0]!r}"
        )
    fingerprint = (
        digest_of(Path(place)) if is_gguf(place) or Path(place).is_dir() else f"{name}@{model.config._commit_hash}"
    )
    if tokenizer is None:
        tokenizer = load_tokenizer(str(variant.tokenizer), trust_remote_code=setup.trust_remote_code)
        fingerprint = f"{fingerprint}|tokenizer-{vocabulary_digest(tokenizer)}"
    return CausalLM(model, tokenizer, name, fingerprint, bos=variant.bos, window=variant.window)


def load_tokenizer(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """A tokenizer of `transformers` from a directory, a GGUF file or the Hub.

    Raises:
        ModelError: it cannot be loaded; the sentence says why.
    """
    from transformers import AutoTokenizer

    path = Path(name).expanduser()
    if is_gguf(name):
        name = gguf_file(path)
    elif path.is_dir():
        name = str(path)
    elif _is_path(name):
        raise ModelError("there is no such tokenizer directory", path)
    source, own = pretrained(name)
    try:
        return AutoTokenizer.from_pretrained(source, **own, revision=revision, trust_remote_code=trust_remote_code)
    except LOADING_ERRORS as error:
        raise ModelError(f"the tokenizer {name!r} cannot be loaded: {_reason(error, allow_pickle=True)}") from error


def is_endpoint(name: str) -> bool:
    """Whether a model's name is the URL of a server."""
    return name.lower().startswith(("http://", "https://"))


def wrap_model(
    model: Any, tokenizer: Any, *, name: str = "", bos: bool | None = None, window: int | None = None
) -> LanguageModel:
    """A loaded `transformers` model and tokenizer as a language model."""
    from icl_eval.models.causal import CausalLM

    name, digest = name or type(model).__name__, _weights_digest(model, tokenizer)
    return CausalLM(model, tokenizer, name, digest, bos=bos, window=window)


def resolve(name: str) -> str:
    """The directory or GGUF file that a name means, or the name itself if it can only be the Hub's or a URL.

    Raises:
        ModelError: the name is a path, but not that of a checkpoint, or needs a package that is not there.
    """
    if is_endpoint(name):
        return name
    if name == TINY:
        return str(TINY_PATH)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError("this directory is not a checkpoint: it has no config.json", path)
        return str(path)
    if is_gguf(name):
        return gguf_file(path)
    if _is_path(name):
        raise ModelError("there is no such model directory", path)
    return name


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1


def _connected(name: str, variant: Variant, setup: Setup) -> LanguageModel:
    _refuse(WEIGHTS, variant, setup, "a served model")
    if variant.tokenizer is None:
        raise ModelError(
            "an endpoint needs --tokenizer: the directory or Hub name of the served model's tokenizer, in whose tokens "
            "prompts are fitted and answers found"
        )
    from icl_eval.models.served import connect

    tokenizer = load_tokenizer(variant.tokenizer, revision=variant.revision, trust_remote_code=setup.trust_remote_code)
    return connect(name, tokenizer, variant, setup)


def _refuse(options: Collection[str], variant: Variant, setup: Setup, whom: str) -> None:
    """Raise `ModelError` for an option that would have no effect."""
    for given, default in ((variant, Variant()), (setup, Setup())):
        for option, value in default:
            if option in options and getattr(given, option) != value:
                raise ModelError(f"`{option}` has no effect on {whom}")


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


def digest_of(path: Path) -> str:
    """Hash of a checkpoint's content, configuration, tokenizer and weights, or of a file."""
    digest = hashlib.blake2b(digest_size=16)
    if path.is_file():
        with path.open("rb") as content:
            digest.update(hashlib.file_digest(content, "blake2b").digest())
        return digest.hexdigest()
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
