"""The kind of language model of a checkpoint or a loaded model, and its class."""

from __future__ import annotations

from typing import Any, Literal

from icl_eval.errors import ModelError
from icl_eval.models.options import ModelConfig
from icl_eval.models.protocol import LanguageModel

Family = Literal["causal", "seq2seq", "masked"]
MASKED_HEADS = ("ForMaskedLM", "ForPreTraining")  # the second has a masked-language-model head and another one
CAUSAL_HEADS = ("ForCausalLM", "LMHeadModel")


def family_of(name: str, config: Any) -> Family:
    """The kind of a checkpoint, by its configuration.

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
    """The kind of a loaded model."""
    from transformers.models.auto import modeling_auto as auto

    if getattr(model.config, "is_encoder_decoder", False):
        return "seq2seq"
    name = type(model).__name__
    masked = set(auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES.values()) - set(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    return "masked" if name in masked or name.endswith(MASKED_HEADS[0]) else "causal"


def check_pll(family: Family, model_config: ModelConfig, whom: str) -> None:
    """Raise `ModelError` if a rule for masked language models is given for another kind."""
    if family != "masked" and model_config.pll != "l2r":
        raise ModelError(f"--pll {model_config.pll} is for masked language models, and {whom} is not one")


def loader_of(family: Family) -> Any:
    """The class of `transformers` that loads a kind."""
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
    """A model and its tokenizer as a language model of its kind.

    Args:
        family: its kind.
        model, tokenizer: of `transformers`.
        name: what tables call it.
        fingerprint: identifies weights and tokenizer.
        model_config: its options.
        own_attention: whether to use only a causal model's own implementation of attention.

    Raises:
        ModelError: it cannot be used, or `pll` is given for a model that is not masked.
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
