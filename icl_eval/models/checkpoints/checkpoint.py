"""A checkpoint apart from its weights: its configuration, its tokenizer, and the empty model."""

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
from icl_eval.models.options import Setup, Variant

UNUSED = re.compile(
    r"\.(attn|attention)\.(attention\.)?(masked_)?bias$"  # causal masks
    r"|(^|[._])inv_freq$|(^|\.)position_ids$"
    r"|\.[kv]_scale$"  # of a cache in 8 bits
    r"|(^|\.)(pooler|seq_relationship)\."  # of BERT's other heads
)


class Checkpoint:
    """A checkpoint that is not loaded yet.

    Args:
        place: a directory, or a name on the Hub.
        loader: the auto class of `transformers` that will load it.
        shared: what the loaders of configuration, tokenizer and model are all told.
    """

    def __init__(self, place: str, loader: Any, shared: Mapping[str, Any]) -> None:
        self.place, self._loader, self._shared = place, loader, shared

    def config(self) -> Any:
        """Its configuration."""
        return configuration(self.place, self._shared)

    def empty(self) -> Any:
        """The model without its weights."""
        from accelerate import init_empty_weights

        with init_empty_weights():
            return self._loader.from_config(self.config(), trust_remote_code=self._shared["trust_remote_code"])

    def scratch(self) -> str:
        """A new temporary folder, which goes when this does."""
        folder = mkdtemp(prefix="icl-eval-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder


def configuration(place: str, shared: Mapping[str, Any]) -> Any:
    """The configuration of a checkpoint, read with what all its loaders are told."""
    from transformers import AutoConfig

    configs: Any = AutoConfig
    source, own = pretrained(place)
    return configs.from_pretrained(source, **own, **shared)


def check_weights(name: str, model: Any, loaded: Mapping[str, Any]) -> None:
    """See that a checkpoint has just the weights that its configuration asks for.

    Args:
        name: of the checkpoint.
        model: the loaded model.
        loaded: what `from_pretrained` says of the weights, without those that the model's class says it ignores.

    Raises:
        ModelError: weights are missing, or some are unused; those of other heads and stored constants may be.
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
    own = {*dict(model.named_children()), *dict(base.named_children())}
    return not key.startswith(prefix) and key.split(".")[0] not in own


def tokenizer_of(place: str, variant: Variant, setup: Setup) -> Any:
    """The tokenizer of the model in a directory or on the Hub, or the one that is asked for instead.

    Raises:
        ModelError: there is none, or one without a vocabulary.
        OSError, ValueError, ImportError, KeyError, RuntimeError, TypeError, AttributeError: it cannot be loaded.
    """
    from transformers import AutoTokenizer

    asked = variant.tokenizer
    loader: Any = AutoTokenizer
    source, own = pretrained(place if asked is None else located(asked, "tokenizer"))
    tokenizer = loader.from_pretrained(
        source,
        **own,
        revision=variant.revision if asked is None else None,
        trust_remote_code=setup.trust_remote_code,
    )
    if len(tokenizer) < 2:
        raise ModelError(f"{asked or place!r} has no tokenizer; --tokenizer names another one")
    return tokenizer
