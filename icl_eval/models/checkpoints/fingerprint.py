"""Fingerprints of models, from files or from memory, and whether one still holds."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from icl_eval.models.checkpoints.names import is_endpoint, resolve
from icl_eval.models.options import LoadConfig, ModelConfig

HASHED = {".json", ".safetensors", ".bin", ".model", ".txt", ".py", ".tiktoken"}  # files that an answer can depend on


def is_current(fingerprint: str, device: str, name: str, model_config: ModelConfig, load_config: LoadConfig) -> bool:
    """Whether loading a model would give this fingerprint on this device, without reading its weights.

    The fingerprint must come from the same `ModelConfig`. False also if this cannot be determined, or if there are
    options that can only be checked by loading.
    """
    from icl_eval.models import masked, seq2seq
    from icl_eval.models.causal import model as causal
    from icl_eval.models.checkpoints.devices import device_named

    location = resolve(name, model_config.revision)
    plain = LoadConfig(
        device=load_config.device,
        trust_remote_code=load_config.trust_remote_code,
        allow_pickle=load_config.allow_pickle,
    )
    if is_endpoint(name) or load_config != plain or str(device_named(load_config.device)) != device:
        return False
    try:
        weights = re.escape(weights_name(name, location, commit_of(location, model_config.revision)))
    except OSError:  # loading will report it
        return False
    rules = "|".join((causal.RULES, seq2seq.RULES, masked.RULES))
    return re.fullmatch(rf"{weights}\|[^|]+\|({rules})", fingerprint) is not None


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

    from icl_eval.models.checkpoints.devices import tensor_of
    from icl_eval.models.generation.text import end_tokens

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
