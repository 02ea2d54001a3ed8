"""A checkpoint without its weights: configuration, tokenizer and empty model."""

from __future__ import annotations

import re
import shutil
import weakref
from collections.abc import Mapping
from tempfile import mkdtemp
from typing import Any

from icl_eval.errors import ModelError
from icl_eval.models.checkpoints.gguf import pretrained
from icl_eval.models.checkpoints.names import located
from icl_eval.models.options import LoadConfig, ModelConfig

UNUSED = re.compile(
    r"\.(attn|attention)\.(attention\.)?(masked_)?bias$"  # causal masks
    r"|(^|[._])inv_freq$|(^|\.)position_ids$"
    r"|\.[kv]_scale$"  # of a cache in 8 bits
    r"|(^|\.)(pooler|seq_relationship)\."  # of BERT's other heads
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
            f"{name!r} lacks {len(missing)} of the weights its configuration asks for, such as {missing[0]!r}"
        )
    if unused := sorted(key for key in loaded["unexpected_keys"] if not _may_be_unused(model, key)):
        raise ModelError(
            f"{name!r} has {len(unused)} weights that its configuration does not ask for, such as {unused[0]!r}"
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
        raise ModelError(f"{other or location!r} has no tokenizer; --tokenizer names another one")
    return tokenizer
