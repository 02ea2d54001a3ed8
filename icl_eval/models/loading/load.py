"""Load a language model of any kind by its name, or wrap a loaded model of `transformers`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from icl_eval.config import PLL
from icl_eval.errors import ModelError
from icl_eval.models.loading.checkpoint import (
    TINY,
    Checkpoint,
    check_weights,
    commit_of,
    configuration,
    explaining_errors,
    pretrained,
    reason,
    resolve,
    tokenizer_of,
    weights_digest,
    weights_name,
)
from icl_eval.models.locking import COMPUTING
from icl_eval.models.options import LoadConfig, ModelConfig, check_options, is_endpoint, read_options
from icl_eval.models.protocol import LanguageModel
from icl_eval.models.tokenization import tokenizer_digest

if TYPE_CHECKING:
    from icl_eval.models.meta_model import MetaModel

Family = Literal["causal", "seq2seq", "masked"]
MASKED_HEADS = ("ForMaskedLM", "ForPreTraining")  # the second also has another head
CAUSAL_HEADS = ("ForCausalLM", "LMHeadModel")


def load_model(name: str, **options: Any) -> LanguageModel:
    """Load a language model and its tokenizer.

    Args:
        name: `tiny`, a directory with a checkpoint, a GGUF file, a name on the Hub, or the URL of an endpoint.
        options: the fields of `ModelConfig`, which can change scores (`revision`, `dtype`, `quantize`, `tokenizer` ...)
            and of `LoadConfig`, which cannot (`device`, `device_map`, `trust_remote_code`, `timeout` ...).

    Raises:
        ModelError: the model cannot be loaded; the message says why.
        UnknownName: an option does not exist.
    """
    return load(name, *read_options(options))


def load(name: str, model_config: ModelConfig, load_config: LoadConfig) -> LanguageModel:
    """Load a language model and its tokenizer, as `load_model` does, with validated options."""
    check_options(name, model_config, load_config)
    if is_endpoint(name):
        return _connected(name, model_config, load_config)
    with COMPUTING:
        return _loaded(name, model_config, load_config)


def _loaded(name: str, model_config: ModelConfig, load_config: LoadConfig) -> LanguageModel:
    """Load a model of `transformers`."""
    from transformers.utils import logging

    from icl_eval.models.loading.placement import check_attention, placement_arguments
    from icl_eval.models.loading.precision import check_quantization
    from icl_eval.models.loading.tensor_parallel import lead_or_follow
    from icl_eval.models.network import full_device, fuse_activations

    location = resolve(name, model_config.revision)
    model_config = model_config.model_copy(update={"dtype": _dtype(name, model_config)})
    safe = None if load_config.allow_pickle else True
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with explaining_errors(f"{name!r} cannot be loaded", load_config):
        commit = commit_of(location, model_config.revision)
        shared = {"revision": commit, "trust_remote_code": load_config.trust_remote_code}
        tokenizer = tokenizer_of(location, model_config.model_copy(update={"revision": commit}), load_config)
        config = configuration(location, shared)
        family = family_of(name, config)
        check_quantization(config)
        if load_config.tensor_parallel and family != "causal":
            raise ModelError(f"--tensor-parallel needs a causal language model, and {name!r} is not one")
        check_pll(family, model_config, repr(name))
        loader = loader_of(family)
        checkpoint = Checkpoint(location, loader, shared)
        source, unpacking = pretrained(location, weights=True)
        arguments = {**unpacking, **placement_arguments(model_config, load_config, checkpoint)}
        model, loaded = loader.from_pretrained(
            source, use_safetensors=safe, output_loading_info=True, **shared, **arguments
        )
    model.icl_eval_checkpoint = checkpoint  # keeps the folder of offloaded weights
    check_attention(model, load_config)
    check_weights(name, model, loaded)
    fuse_activations(model)
    fingerprint = weights_name(name, location, commit)
    if model_config.tokenizer is not None:
        _check_vocabulary(model, tokenizer, model_config.tokenizer)
        fingerprint += f"|{tokenizer_digest(tokenizer)}"
    own_attention = load_config.attn is not None
    try:
        with full_device():
            lm = language_model(family, model, tokenizer, name, fingerprint, model_config, own_attention=own_attention)
    except RuntimeError as error:  # `torch` raises it for weights with incompatible shapes
        raise ModelError(f"{name!r} cannot be run: {reason(error, load_config)}") from error
    return lead_or_follow(lm) if load_config.tensor_parallel else lm


def is_current(fingerprint: str, device: str, name: str, model_config: ModelConfig, load_config: LoadConfig) -> bool:
    """Whether a model would have this fingerprint and device if it were loaded, found out without reading its weights.

    The fingerprint must be of the same `ModelConfig`. False if this cannot be determined without loading the model.
    """
    from icl_eval.models import masked, seq2seq
    from icl_eval.models.causal import model as causal
    from icl_eval.models.loading.devices import device_named

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
    except OSError:  # reported when the model is loaded
        return False
    rules = "|".join((causal.RULES, seq2seq.RULES, masked.RULES))
    return re.fullmatch(rf"{weights}\|[^|]+\|({rules})", fingerprint) is not None


def load_meta_model(name: str, model_config: ModelConfig, load_config: LoadConfig) -> MetaModel:
    """A causal language model without weights, to plan runs; only its configuration and tokenizer are read.

    Raises:
        ModelError: one of them cannot be read, or the model is of another kind; the message says why.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from icl_eval.models.loading.precision import type_named
    from icl_eval.models.meta_model import MetaModel

    models: Any = AutoModelForCausalLM
    target = torch.device(load_config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with COMPUTING, _configured(name, "planned", model_config, load_config) as (location, config):
        tokenizer = tokenizer_of(location, model_config, load_config)
        if family_of(name, config) != "causal":
            raise ModelError(f"a plan needs a causal language model, and {name!r} is a {config.model_type} model")
        kind = type_named(_dtype(name, model_config), target)
        if hasattr(config, "quantization_config"):
            del config.quantization_config  # the plan is for the weights before quantisation
        with torch.device("meta"):
            model = models.from_config(
                config,
                dtype=config.dtype or torch.float32 if kind == "auto" else kind,
                trust_remote_code=load_config.trust_remote_code,
            )
    return MetaModel(model, tokenizer, name, device=target.type, bos=model_config.bos, window=model_config.max_length)


def load_text_reader(name: str, model_config: ModelConfig, load_config: LoadConfig) -> LanguageModel:
    """A language model of any kind without weights, to encode texts; only its configuration and tokenizer are read.

    Raises:
        ModelError: one of them cannot be read; the message says why.
    """
    import torch

    from icl_eval.models.meta_model import TextReader

    with COMPUTING, _configured(name, "read", model_config, load_config) as (location, config):
        if (family := family_of(name, config)) == "causal":
            return load_meta_model(name, model_config, load_config)
        tokenizer = tokenizer_of(location, model_config, load_config)
        with torch.device("meta"):
            model = loader_of(family).from_config(config, trust_remote_code=load_config.trust_remote_code)
        return TextReader(model, tokenizer, name, family, bos=model_config.bos, window=model_config.max_length)


@contextmanager
def _configured(
    name: str, purpose: str, model_config: ModelConfig, load_config: LoadConfig
) -> Iterator[tuple[str, Any]]:
    """The location and the configuration of a model; errors in the block say that it cannot be `purpose`.

    Raises:
        ModelError: the model is served, its configuration cannot be read, or the block raised an error.
    """
    from transformers.utils import logging

    if is_endpoint(name):
        raise ModelError(
            f"{name!r} is an endpoint, whose configuration is not available: give the name or directory of the model"
        )
    location = resolve(name, model_config.revision)
    shared = {"revision": model_config.revision, "trust_remote_code": load_config.trust_remote_code}
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    with explaining_errors(f"{name!r} cannot be {purpose}", load_config):
        yield location, configuration(location, shared)


def wrap_model(
    model: Any,
    tokenizer: Any,
    *,
    name: str = "",
    bos: bool | None = None,
    max_length: int | None = None,
    pll: PLL = "l2r",
) -> LanguageModel:
    """Wrap a loaded model and tokenizer of `transformers` as a `LanguageModel` of its kind.

    Args:
        model: a `PreTrainedModel` with a language-model head.
        tokenizer: its tokenizer.
        name: the name in tables; by default that of the model's class.
        bos, max_length, pll: as for `evaluate`.

    Raises:
        ModelError: the model or its tokenizer cannot be used; the message says why.
    """
    name, digest = name or type(model).__name__, weights_digest(model, tokenizer)
    config = ModelConfig(bos=bos, max_length=max_length, pll=pll)
    with COMPUTING:
        return language_model(family_of_model(model), model, tokenizer, name, digest, config)


def _dtype(name: str, model_config: ModelConfig) -> str:
    """The requested data type; for `tiny`, `auto` is float32 on every device."""
    return "float32" if (name, model_config.dtype) == (TINY, "auto") else model_config.dtype


def _connected(name: str, model_config: ModelConfig, load_config: LoadConfig) -> LanguageModel:
    from icl_eval.models.served.chat import connect_chat
    from icl_eval.models.served.model import connect

    if model_config.tokenizer is None:  # only for a chat endpoint
        return connect_chat(name, model_config, load_config)
    with explaining_errors(f"the tokenizer {model_config.tokenizer!r} cannot be loaded", load_config):
        tokenizer = tokenizer_of(name, model_config, load_config)
    return connect(name, tokenizer, model_config, load_config)


def _check_vocabulary(model: Any, tokenizer: Any, name: str) -> None:
    """Raise `ModelError` if a tokenizer has tokens that the model does not have."""
    known = getattr(model.get_input_embeddings(), "num_embeddings", None)
    largest = max(tokenizer.get_vocab().values())
    if known is not None and largest >= known:
        raise ModelError(f"the tokenizer {name!r} has token ids up to {largest}, but the model has {known} tokens")


def family_of(name: str, config: Any) -> Family:
    """The kind of language model in a checkpoint, from its configuration.

    Raises:
        ModelError: it is not a language model of text.
    """
    from transformers.models.auto import modeling_auto as auto

    masked = auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    auto_map = getattr(config, "auto_map", None) or {}
    has_masked = config.model_type in masked or "AutoModelForMaskedLM" in auto_map
    causal_head = any(head.endswith(CAUSAL_HEADS) for head in config.architectures or ())
    family: Family = "causal"
    if getattr(config, "is_encoder_decoder", False):
        family = "seq2seq"
    elif has_masked and not causal_head and not getattr(config, "is_decoder", False):
        family = "masked"
    loader = loader_of(family)
    if type(config) not in loader._model_mapping and loader.__name__ not in auto_map:
        words = f" ({', '.join(config.architectures)})" if config.architectures else ""
        raise ModelError(
            f"{name!r} is a checkpoint of {config.model_type}{words}, "
            "which is not a causal, encoder-decoder or masked language model of text"
        )
    return family


def family_of_model(model: Any) -> Family:
    """The kind of a loaded language model, from its class and configuration."""
    from transformers.models.auto import modeling_auto as auto

    if getattr(model.config, "is_encoder_decoder", False):
        return "seq2seq"
    name = type(model).__name__
    masked = set(auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES.values()) - set(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    return "masked" if name in masked or name.endswith(MASKED_HEADS[0]) else "causal"


def check_pll(family: Family, model_config: ModelConfig, name: str) -> None:
    """Raise `ModelError` if `pll` is given for a model that is not masked."""
    if family != "masked" and model_config.pll != "l2r":
        raise ModelError(f"--pll {model_config.pll} needs a masked language model, and {name} is not one")


def loader_of(family: Family) -> Any:
    """The auto class of `transformers` that loads this kind of language model."""
    import transformers

    return {
        "causal": transformers.AutoModelForCausalLM,
        "seq2seq": transformers.AutoModelForSeq2SeqLM,
        "masked": transformers.AutoModelForMaskedLM,
    }[family]


def language_model(
    family: Family,
    model: Any,
    tokenizer: Any,
    name: str,
    fingerprint: str,
    model_config: ModelConfig,
    *,
    own_attention: bool = False,
) -> LanguageModel:
    """The `LanguageModel` of a loaded model and tokenizer.

    Args:
        family: the kind of model.
        model, tokenizer: objects of `transformers`.
        name: the name in tables.
        fingerprint: identifies weights and tokenizer.
        model_config: options of the model.
        own_attention: whether a causal model may only use its own implementation of attention.

    Raises:
        ModelError: the model cannot be used, or `pll` is given for a model that is not masked.
    """
    from icl_eval.models.causal.model import CausalLM
    from icl_eval.models.masked import MaskedLM
    from icl_eval.models.seq2seq import Seq2SeqLM

    rules: dict[str, Any] = {"bos": model_config.bos, "window": model_config.max_length}
    if family == "masked":
        return MaskedLM(model, tokenizer, name, fingerprint, pll=model_config.pll, **rules)
    check_pll(family, model_config, type(model).__name__)
    if family == "seq2seq":
        return Seq2SeqLM(model, tokenizer, name, fingerprint, **rules)
    return CausalLM(model, tokenizer, name, fingerprint, own_attention=own_attention, **rules)
