"""Load a language model by its name, or wrap loaded objects of `transformers`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from icl_eval.config import PLL
from icl_eval.errors import ModelError
from icl_eval.models.checkpoints.checkpoint import Checkpoint, check_weights, configuration, tokenizer_of
from icl_eval.models.checkpoints.failures import loading, reason
from icl_eval.models.checkpoints.fingerprint import commit_of, weights_digest, weights_name
from icl_eval.models.checkpoints.gguf import pretrained
from icl_eval.models.checkpoints.names import TINY, check_options, is_endpoint, resolve
from icl_eval.models.encoding import tokenizer_digest
from icl_eval.models.options import LoadConfig, ModelConfig, read_options
from icl_eval.models.protocol import LanguageModel

if TYPE_CHECKING:
    from icl_eval.models.meta_model import MetaModel


def load_model(name: str, **options: Any) -> LanguageModel:
    """Load a language model and its tokenizer.

    Args:
        name: `tiny`, a directory with a checkpoint, a GGUF file, a name on the Hub, or the URL of an endpoint.
        options: those of `ModelConfig`, which can change scores (`revision`, `dtype`, `quantize`, `tokenizer` ...), and
            those of `LoadConfig`, which cannot (`device`, `device_map`, `trust_remote_code`, `timeout` ...).

    Raises:
        ModelError: it cannot be loaded; the sentence says why.
        UnknownName: there is no such option.
    """
    return load(name, *read_options(options))


def load(name: str, model_config: ModelConfig, load_config: LoadConfig) -> LanguageModel:
    """As `load_model`, with options that are already split."""
    check_options(name, model_config, load_config)
    if is_endpoint(name):
        return _connected(name, model_config, load_config)
    from transformers.utils import logging

    from icl_eval.models.checkpoints.placement import placement_arguments, settle
    from icl_eval.models.checkpoints.precision import check_quantization
    from icl_eval.models.checkpoints.tensor_parallel import in_step
    from icl_eval.models.kinds import check_pll, family_of, language_model, loader_of
    from icl_eval.models.networks.fused import fuse_activations
    from icl_eval.models.networks.network import full_device

    location = resolve(name, model_config.revision)
    model_config = model_config.model_copy(update={"dtype": _dtype(name, model_config)})
    safe = None if load_config.allow_pickle else True
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with loading(f"{name!r} cannot be loaded", load_config):
        commit = commit_of(location, model_config.revision)
        shared = {"revision": commit, "trust_remote_code": load_config.trust_remote_code}
        tokenizer = tokenizer_of(location, model_config.model_copy(update={"revision": commit}), load_config)
        config = configuration(location, shared)
        family = family_of(name, config)
        check_quantization(config)
        if load_config.tensor_parallel and family != "causal":
            raise ModelError(f"--tensor-parallel is for causal language models, and {name!r} is not one")
        check_pll(family, model_config, repr(name))
        loader = loader_of(family)
        checkpoint = Checkpoint(location, loader, shared)
        source, unpacking = pretrained(location, weights=True)
        arguments = {**unpacking, **placement_arguments(model_config, load_config, checkpoint)}
        model, loaded = loader.from_pretrained(
            source, use_safetensors=safe, output_loading_info=True, **shared, **arguments
        )
    settle(model, load_config, checkpoint)
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
    except RuntimeError as error:  # of `torch`, on weights that do not fit together
        raise ModelError(f"{name!r} cannot be run: {reason(error, load_config)}") from error
    return in_step(lm) if load_config.tensor_parallel else lm


def load_meta_model(name: str, model_config: ModelConfig, load_config: LoadConfig) -> MetaModel:
    """A causal language model without weights: only its configuration and tokenizer are read.

    Raises:
        ModelError: one of them cannot be read, or the model is of another kind; the sentence says why.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    from icl_eval.models.checkpoints.precision import type_named
    from icl_eval.models.kinds import family_of
    from icl_eval.models.meta_model import MetaModel

    if is_endpoint(name):
        raise ModelError(f"{name!r} is an endpoint, which does not show its model: plan the model's own configuration")
    models: Any = AutoModelForCausalLM
    location = resolve(name, model_config.revision)
    target = torch.device(load_config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    with loading(f"{name!r} cannot be planned", load_config):
        tokenizer = tokenizer_of(location, model_config, load_config)
        config = configuration(
            location, {"revision": model_config.revision, "trust_remote_code": load_config.trust_remote_code}
        )
        if family_of(name, config) != "causal":
            raise ModelError(f"a plan is made for causal language models, and {name!r} is a {config.model_type} model")
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
    """A language model of any kind without weights: only its configuration and tokenizer are read.

    Raises:
        ModelError: one of them cannot be read; the sentence says why.
    """
    import torch
    from transformers.utils import logging

    from icl_eval.models.kinds import family_of, loader_of
    from icl_eval.models.meta_model import TextReader

    if is_endpoint(name):
        raise ModelError(f"{name!r} is an endpoint, which does not show its model: name the model that it serves")
    location = resolve(name, model_config.revision)
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    with loading(f"{name!r} cannot be read", load_config):
        config = configuration(
            location, {"revision": model_config.revision, "trust_remote_code": load_config.trust_remote_code}
        )
        if (family := family_of(name, config)) == "causal":
            return load_meta_model(name, model_config, load_config)
        tokenizer = tokenizer_of(location, model_config, load_config)
        with torch.device("meta"):
            model = loader_of(family).from_config(config, trust_remote_code=load_config.trust_remote_code)
        return TextReader(model, tokenizer, name, family, bos=model_config.bos, window=model_config.max_length)


def wrap_model(
    model: Any,
    tokenizer: Any,
    *,
    name: str = "",
    bos: bool | None = None,
    max_length: int | None = None,
    pll: PLL = "l2r",
) -> LanguageModel:
    """A loaded `transformers` model and tokenizer as a language model of its kind."""
    from icl_eval.models.kinds import family_of_model, language_model

    name, digest = name or type(model).__name__, weights_digest(model, tokenizer)
    return language_model(
        family_of_model(model), model, tokenizer, name, digest, ModelConfig(bos=bos, max_length=max_length, pll=pll)
    )


def _dtype(name: str, model_config: ModelConfig) -> str:
    """The requested type; for `tiny`, the same on every device."""
    return "float32" if (name, model_config.dtype) == (TINY, "auto") else model_config.dtype


def _connected(name: str, model_config: ModelConfig, load_config: LoadConfig) -> LanguageModel:
    from icl_eval.models.served.model import connect

    with loading(f"the tokenizer {model_config.tokenizer!r} cannot be loaded", load_config):
        tokenizer = tokenizer_of(name, model_config, load_config)
    return connect(name, tokenizer, model_config, load_config)


def _check_vocabulary(model: Any, tokenizer: Any, name: str) -> None:
    """Raise `ModelError` if a tokenizer has tokens that the model does not have."""
    known = getattr(model.get_input_embeddings(), "num_embeddings", None)
    largest = max(tokenizer.get_vocab().values())
    if known is not None and largest >= known:
        raise ModelError(f"the tokenizer {name!r} has tokens up to {largest}, but the model has only {known}")
