"""Tiny random models of many architectures, built from their configurations."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf

WINDOW, VOCABULARY = 64, 200
_SPECIAL: dict[str, Any] = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_GPT: dict[str, Any] = {**_SPECIAL, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": WINDOW}
_BERT: dict[str, Any] = {
    **_SPECIAL,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": WINDOW,
}
_LLAMA: dict[str, Any] = {**_BERT, "num_key_value_heads": 2}
_GEMMA: dict[str, Any] = {**_LLAMA, "head_dim": 8}
_OPT: dict[str, Any] = {
    **_SPECIAL,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "ffn_dim": 64,
    "max_position_embeddings": WINDOW,
}
_NEO: dict[str, Any] = {
    **_SPECIAL,
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": WINDOW,
    "attention_types": [[["global", "local"], 1]],
}
_FALCON: dict[str, Any] = {
    **_SPECIAL,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": WINDOW,
}
_LONGROPE: dict[str, Any] = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
}

CONFIGS: dict[str, tuple[type, dict[str, Any]]] = {
    "gpt2": (hf.GPT2Config, _GPT),
    "gpt_bigcode": (hf.GPTBigCodeConfig, _GPT),
    "gpt_neo": (hf.GPTNeoConfig, {**_NEO, "window_size": 4}),
    "gpt_neo_wide": (hf.GPTNeoConfig, {**_NEO, "window_size": 256}),
    "gptj": (hf.GPTJConfig, {**_GPT, "rotary_dim": 4}),
    "gpt_neox": (hf.GPTNeoXConfig, _BERT),
    "opt": (hf.OPTConfig, {**_OPT, "word_embed_proj_dim": 32}),
    "opt_projected": (hf.OPTConfig, {**_OPT, "word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "bloom": (hf.BloomConfig, {**_SPECIAL, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "llama": (hf.LlamaConfig, _LLAMA),
    "llama_tied": (hf.LlamaConfig, {**_LLAMA, "tie_word_embeddings": True}),
    "mistral": (hf.MistralConfig, {**_LLAMA, "sliding_window": None}),
    "mistral_sliding": (hf.MistralConfig, {**_LLAMA, "sliding_window": 12}),
    "mixtral": (hf.MixtralConfig, {**_LLAMA, "num_local_experts": 4, "sliding_window": None}),
    "gemma": (hf.GemmaConfig, _GEMMA),
    "gemma2": (hf.Gemma2Config, {**_GEMMA, "sliding_window": 12}),
    "gemma2_capped": (hf.Gemma2Config, {**_GEMMA, "sliding_window": 4096, "final_logit_softcapping": 0.5}),
    "gemma3": (hf.Gemma3TextConfig, {**_GEMMA, "sliding_window": 12}),
    "gemma3_narrow": (hf.Gemma3TextConfig, {**_GEMMA, "sliding_window": 3}),
    "qwen2": (hf.Qwen2Config, _LLAMA),
    "qwen2_sliding": (
        hf.Qwen2Config,
        {**_LLAMA, "use_sliding_window": True, "sliding_window": 12, "max_window_layers": 1},
    ),
    "qwen3": (hf.Qwen3Config, _GEMMA),
    "gpt_oss": (hf.GptOssConfig, {**_GEMMA, "sliding_window": 12, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "phi3_sliding": (hf.Phi3Config, {**_BERT, "sliding_window": 12}),
    "phi": (hf.PhiConfig, _BERT),
    "phi3_longrope": (hf.Phi3Config, {**_BERT, "rope_parameters": _LONGROPE, "original_max_position_embeddings": 16}),
    "falcon": (hf.FalconConfig, {**_FALCON, "alibi": False}),
    "falcon_alibi": (hf.FalconConfig, {**_FALCON, "alibi": True}),
    "mpt": (hf.MptConfig, {**_SPECIAL, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": WINDOW}),
    "cohere": (hf.CohereConfig, {**_LLAMA, "logit_scale": 0.5}),
    "mamba": (hf.MambaConfig, {**_SPECIAL, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
    "rwkv": (
        hf.RwkvConfig,
        {**_SPECIAL, "hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32, "context_length": WINDOW},
    ),
    "recurrent_gemma": (
        hf.RecurrentGemmaConfig,
        {**_BERT, "num_hidden_layers": 3, "attention_window_size": 12, "lru_width": 32},
    ),
    "lfm2": (hf.Lfm2Config, {**_LLAMA, "layer_types": ["conv", "full_attention"]}),
    "jamba": (
        hf.JambaConfig,
        {**_LLAMA, "num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 4},
    ),
}

BY_POSITION = "its layers have causal masks of their own"
NO_MASK = "its forward pass does not accept an ancestor mask"
UNHEEDED = "its layers ignore an ancestor mask"
WHY_NOT = {
    "gpt_bigcode": BY_POSITION,
    "gpt_neo": BY_POSITION,
    "gpt_neo_wide": BY_POSITION,
    "bloom": f"{NO_MASK} (ValueError)",
    "phi3_longrope": "beyond 16 tokens its rotary frequencies change",
    "falcon_alibi": f"{NO_MASK} (ValueError)",
    "mpt": "its attention depends on positions in the row",
    "mamba": f"{NO_MASK} (RuntimeError)",
    "rwkv": UNHEEDED,
    "recurrent_gemma": UNHEEDED,
    "lfm2": UNHEEDED,
    "jamba": UNHEEDED,
}


def build(name: str, *, sharpness: float = 1.0, **changes: Any) -> Any:
    """A random model; `sharpness` scales its matrices, so that attention and predictions are less uniform."""
    kind, settings = CONFIGS[name]
    torch.manual_seed(20)
    maker: Any = hf.AutoModelForCausalLM
    model = maker.from_config(kind(**{**settings, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.mul_(sharpness)
    return model
