"""Checkpoints: where the name of a model leads, and all but the weights: configuration, tokenizer, fingerprint.

A name is `tiny`, a directory, a GGUF file, or a name on the Hub.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from icl_eval.errors import IclEvalError, ModelError
from icl_eval.models.options import LoadConfig, ModelConfig, is_endpoint

TINY = "tiny"
TINY_PATH = Path(__file__).resolve().parents[2] / "tiny" / "model"
SUFFIX = ".gguf"
UNUSED = re.compile(
    r"\.(attn|attention)\.(attention\.)?(masked_)?bias$"  # causal masks
    r"|(^|[._])inv_freq$|(^|\.)position_ids$"
    r"|\.[kv]_scale$"  # scales of an 8-bit cache
    r"|(^|\.)(pooler|seq_relationship)\."  # other heads of BERT
)
HASHED = {".json", ".safetensors", ".bin", ".model", ".txt", ".py", ".tiktoken", ".jinja"}
"""Suffixes of files that an answer can depend on."""


def resolve(name: str, revision: str | None = None) -> str:
    """The directory or GGUF file of a model, or its name if it is on the Hub or served.

    Raises:
        ModelError: a path does not lead to a checkpoint, or needs a package that is not installed; a revision is given
            for a model that is not on the Hub; or a URL contains a secret.
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
    """The directory or GGUF file of a model or tokenizer, or its name if it is on the Hub.

    Args:
        name: the name.
        kind: `model` or `tokenizer`, for errors.

    Raises:
        ModelError: a path does not exist, or needs a package that is not installed.
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
    """Whether a name has the suffix of GGUF files."""
    return name.lower().endswith(SUFFIX)


def gguf_file(path: Path) -> str:
    """The path of a GGUF file, after checking that it can be read.

    Raises:
        ModelError: the file does not exist, or the package that reads it is not installed.
    """
    if not path.is_file():
        raise ModelError("there is no such file", path)
    if find_spec("gguf") is None:
        raise ModelError("a GGUF file needs the package `gguf`: pip install 'icl-eval[gguf]'", path)
    return str(path)


def pretrained(location: str, *, weights: bool = False) -> tuple[str, dict[str, Any]]:
    """The name and further arguments of `from_pretrained` for a location.

    With `weights`, the arguments also dequantise the weights of a GGUF file.
    """
    import transformers

    if not is_gguf(location):
        return location, {}
    path = Path(location)
    unpacking = getattr(transformers, "GgufConfig", None)  # older versions always dequantise
    found: dict[str, Any] = {"gguf_file": path.name}
    return str(path.parent), found | (
        {"quantization_config": unpacking(dequantize=True)} if weights and unpacking else {}
    )


class Checkpoint:
    """A checkpoint whose weights are not loaded.

    Args:
        location: a directory, a GGUF file, or a name on the Hub.
        loader: the auto class of `transformers` for the model.
        shared: arguments that the loaders of configuration, tokenizer and model have in common.
    """

    def __init__(self, location: str, loader: Any, shared: Mapping[str, Any]) -> None:
        self.location, self._loader, self._shared = location, loader, shared

    def config(self) -> Any:
        """The configuration."""
        return configuration(self.location, self._shared)

    def empty(self) -> Any:
        """The model without its weights."""
        from accelerate import init_empty_weights

        with init_empty_weights():
            return self._loader.from_config(self.config(), trust_remote_code=self._shared["trust_remote_code"])

    def scratch(self) -> str:
        """A new temporary folder, which is deleted together with this object."""
        folder = mkdtemp(prefix="icl-eval-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder


def configuration(location: str, shared: Mapping[str, Any]) -> Any:
    """The configuration of a checkpoint; `shared` are arguments that all loaders of `transformers` take."""
    from transformers import AutoConfig

    configs: Any = AutoConfig
    source, arguments = pretrained(location)
    return configs.from_pretrained(source, **arguments, **shared)


def check_weights(name: str, model: Any, loaded: Mapping[str, Any]) -> None:
    """Check that a checkpoint has exactly the weights that its configuration requires.

    Args:
        name: the name of the checkpoint.
        model: the loaded model.
        loaded: the loading info that `from_pretrained` returns.

    Raises:
        ModelError: weights are missing, or the model does not use some that are neither constants nor parts of another
            head.
    """
    if missing := sorted(loaded["missing_keys"]):
        raise ModelError(
            f"{name!r} lacks {len(missing)} of the weights that its configuration requires, such as {missing[0]!r}"
        )
    if unused := sorted(key for key in loaded["unexpected_keys"] if not _may_be_unused(model, key)):
        raise ModelError(
            f"{name!r} has {len(unused)} weights that its configuration does not use, such as {unused[0]!r}"
        )


def _may_be_unused(model: Any, key: str) -> bool:
    """Whether a weight is a constant that the model computes itself, or belongs to a head that it does not have."""
    if UNUSED.search(key):
        return True
    base, prefix = model.base_model, f"{model.base_model_prefix}."
    children = {*dict(model.named_children()), *dict(base.named_children())}
    return not key.startswith(prefix) and key.split(".")[0] not in children


def tokenizer_of(location: str, model_config: ModelConfig, load_config: LoadConfig) -> Any:
    """The tokenizer of a model in a directory or on the Hub, or the one that `--tokenizer` names.

    Raises:
        ModelError: there is no tokenizer, or it has no vocabulary.
        Exception: whatever `transformers` raises if it cannot be loaded.
    """
    from transformers import AutoTokenizer

    other = model_config.tokenizer
    loader: Any = AutoTokenizer
    source, arguments = pretrained(location if other is None else located(other, "tokenizer"))
    tokenizer = loader.from_pretrained(
        source,
        **arguments,
        revision=model_config.revision if other is None else None,
        trust_remote_code=load_config.trust_remote_code,
    )
    if len(tokenizer) < 2:
        raise ModelError(f"{other or location!r} has no tokenizer; name one with --tokenizer")
    return tokenizer


@contextmanager
def explaining_errors(what: str, load_config: LoadConfig) -> Iterator[None]:
    """Turn any error that a library raises in the block into a `ModelError` of one sentence.

    Args:
        what: the beginning of the sentence, such as `'gpt2' cannot be loaded`.
        load_config: the options, from which the sentence gives advice.

    Raises:
        ModelError: the block raised an error.
    """
    try:
        yield
    except IclEvalError:
        raise
    except Exception as error:  # libraries raise all kinds of errors for a bad file
        raise ModelError(f"{what}: {reason(error, load_config)}") from error


def reason(error: Exception, load_config: LoadConfig) -> str:
    """Why a checkpoint cannot be loaded, in one clause, with the option that would help.

    Args:
        error: the error that a library raised.
        load_config: the options.
    """
    text = str(error)
    if isinstance(error, RecursionError):
        return "one of its files is nested too deeply"
    if load_config.attn and ("attn_implementation" in text or "Attention" in text or "attention" in text):
        return f"--attn {load_config.attn} cannot be used: {_first_sentence(error).split('. ')[0]}"
    if "llm_int8_enable_fp32_cpu_offload" in text:
        return "quantised weights must fit the GPUs and cannot be offloaded to the CPU or the disk"
    if "custom code" in text or "trust_remote_code" in text:
        return "its repository contains code, which is run only with --trust-remote-code"
    if "ignore_mismatched_sizes" in text:
        return "the shapes of its weights do not match its configuration"
    if "Weights only load failed" in text:
        return "its pickled weights contain more than tensors, such as code, and are not read"
    if "backend tokenizer" in text:
        return "it has no tokenizer, or its tokenizer needs a package that is not installed"
    if "safetensors" in text and "no file named" in text and not load_config.allow_pickle:
        return f"{_first_sentence(error)}; --allow-pickle also loads pickled weights, which can run code"
    return _first_sentence(error)


def _first_sentence(error: Exception) -> str:
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    if isinstance(error, KeyError):
        lines = [f"{lines[0]} is missing or unknown"]
    return " ".join(lines[:2] if lines[0].endswith(":") else lines[:1]) if lines else type(error).__name__


def commit_of(location: str, revision: str | None) -> str | None:
    """The commit to which a revision of a repository on the Hub points now; None for a directory or a file.

    Raises:
        OSError: the repository has no such revision or no configuration, or cannot be reached.
    """
    from transformers.utils.hub import cached_file

    if Path(location).exists():
        return None
    return Path(str(cached_file(location, "config.json", revision=revision))).parent.name


def weights_name(name: str, location: str, commit: str | None) -> str:
    """The first part of a fingerprint: the digest of a directory or file, or name and commit on the Hub."""
    return _digest(Path(location)) if commit is None else f"{name}@{commit}"


def weights_digest(model: Any, tokenizer: Any) -> str:
    """Hash of a loaded model and its tokenizer: vocabulary, configuration, end tokens and weights."""
    import torch

    from icl_eval.models.loading.devices import tensor_of
    from icl_eval.models.tokenization import end_tokens

    digest = hashlib.blake2b(str(sorted(tokenizer.get_vocab().items())).encode(), digest_size=16)
    digest.update(model.config.to_json_string().encode())
    digest.update(str(sorted(end_tokens(model, tokenizer))).encode())
    for name, tensor in sorted(model.state_dict().items()):
        tensor = tensor_of(model, name) if tensor.is_meta else tensor
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _digest(path: Path) -> str:
    """Hash of a file, or of the files of a directory that an answer can depend on."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.is_file() and (file == path or file.suffix in HASHED):
            digest.update(file.name.encode() if path.is_dir() else b"")
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "blake2b").digest())
    return digest.hexdigest()
