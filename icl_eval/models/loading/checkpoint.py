"""A checkpoint without its weights: configuration, tokenizer, empty model, fingerprint; why it cannot be loaded."""

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
    r"|\.[kv]_scale$"  # of a cache in 8 bits
    r"|(^|\.)(pooler|seq_relationship)\."  # of BERT's other heads
)
HASHED = {
    ".json",
    ".safetensors",
    ".bin",
    ".model",
    ".txt",
    ".py",
    ".tiktoken",
    ".jinja",
}  # files that an answer can depend on


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


class Checkpoint:
    """A checkpoint that is not loaded yet.

    Args:
        location: a directory, or a name on the Hub.
        loader: the auto class of `transformers` that will load it.
        shared: arguments of the loaders of configuration, tokenizer and model.
    """

    def __init__(self, location: str, loader: Any, shared: Mapping[str, Any]) -> None:
        self.location, self._loader, self._shared = location, loader, shared

    def config(self) -> Any:
        """Its configuration."""
        return configuration(self.location, self._shared)

    def empty(self) -> Any:
        """The model without its weights."""
        from accelerate import init_empty_weights

        with init_empty_weights():
            return self._loader.from_config(self.config(), trust_remote_code=self._shared["trust_remote_code"])

    def scratch(self) -> str:
        """A new temporary folder, which is deleted with this object."""
        folder = mkdtemp(prefix="icl-eval-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder


def configuration(location: str, shared: Mapping[str, Any]) -> Any:
    """The configuration of a checkpoint, loaded with the shared arguments."""
    from transformers import AutoConfig

    configs: Any = AutoConfig
    source, arguments = pretrained(location)
    return configs.from_pretrained(source, **arguments, **shared)


def check_weights(name: str, model: Any, loaded: Mapping[str, Any]) -> None:
    """Check that a checkpoint has exactly the weights of its configuration.

    Args:
        name: of the checkpoint.
        model: the loaded model.
        loaded: the loading info of `from_pretrained`, without weights that the class of the model ignores.

    Raises:
        ModelError: weights are missing, or some are unused that are neither constants nor of other heads.
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
    """Whether a weight is a constant that is computed, or belongs to a head that the model's class does not have."""
    if UNUSED.search(key):
        return True
    base, prefix = model.base_model, f"{model.base_model_prefix}."
    children = {*dict(model.named_children()), *dict(base.named_children())}
    return not key.startswith(prefix) and key.split(".")[0] not in children


def tokenizer_of(location: str, model_config: ModelConfig, load_config: LoadConfig) -> Any:
    """The tokenizer of a model in a directory or on the Hub, or the one that `--tokenizer` names.

    Raises:
        ModelError: there is none, or one without a vocabulary.
        OSError, ValueError, ImportError, KeyError, RuntimeError, TypeError, AttributeError: it cannot be loaded.
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
def loading(what: str, load_config: LoadConfig) -> Iterator[None]:
    """Turn any error of a library that loads files into one sentence.

    Args:
        what: the beginning of the sentence, such as `'gpt2' cannot be loaded`.
        load_config: how it is loaded.

    Raises:
        ModelError: something cannot be loaded.
    """
    try:
        yield
    except IclEvalError:
        raise
    except Exception as error:  # libraries raise every kind of error on a bad file
        raise ModelError(f"{what}: {reason(error, load_config)}") from error


def reason(error: Exception, load_config: LoadConfig) -> str:
    """Why `transformers` cannot load a checkpoint, and the option that would help.

    Args:
        error: raised by a library.
        load_config: how the checkpoint is loaded.
    """
    text = str(error)
    if isinstance(error, RecursionError):
        return "a file of it is nested too deeply"
    if load_config.attn and ("attn_implementation" in text or "Attention" in text or "attention" in text):
        return f"--attn {load_config.attn} cannot be used: {_first_sentence(error).split('. ')[0]}"
    if "llm_int8_enable_fp32_cpu_offload" in text:
        return "quantised weights cannot be left on the CPU or the disk, and the GPUs have no room for all of them"
    if "custom code" in text or "trust_remote_code" in text:
        return "its repository has its own code, which --trust-remote-code would run"
    if "ignore_mismatched_sizes" in text:
        return "its weights do not have the shapes that its configuration gives"
    if "Weights only load failed" in text:
        return "its pickled weights hold more than tensors, such as code, and are not read"
    if "backend tokenizer" in text:
        return "it has no tokenizer, or one of a kind that needs a package that is not installed"
    if "safetensors" in text and "no file named" in text and not load_config.allow_pickle:
        return f"{_first_sentence(error)}; --allow-pickle also takes pickled weights, which can run code"
    return _first_sentence(error)


def _first_sentence(error: Exception) -> str:
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    if isinstance(error, KeyError):
        lines = [f"{lines[0]} is missing or unknown"]
    return " ".join(lines[:2] if lines[0].endswith(":") else lines[:1]) if lines else type(error).__name__


def commit_of(location: str, revision: str | None) -> str | None:
    """The commit that a revision of a repository on the Hub means now, as the cache names it; a directory has none.

    Raises:
        OSError: the repository has no such revision or no configuration, or cannot be reached.
    """
    from transformers.utils.hub import cached_file

    if Path(location).exists():
        return None
    return Path(str(cached_file(location, "config.json", revision=revision))).parent.name


def weights_name(name: str, location: str, commit: str | None) -> str:
    """The first part of a fingerprint: the digest of a directory or a file, or a commit on the Hub."""
    return _digest(Path(location)) if commit is None else f"{name}@{commit}"


def weights_digest(model: Any, tokenizer: Any) -> str:
    """Hash of a loaded model and tokenizer: vocabulary, configuration, end tokens and weights."""
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
    """Hash of a checkpoint's content, configuration, tokenizer and weights, or of a file's."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.is_file() and (file == path or file.suffix in HASHED):
            digest.update(file.name.encode() if path.is_dir() else b"")
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "blake2b").digest())
    return digest.hexdigest()
