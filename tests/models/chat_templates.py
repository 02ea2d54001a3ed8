"""Chat templates of four published forms, and tokenizers that have their control tokens."""

from __future__ import annotations

from typing import Any

from icl_eval.models.tokenization import TokenizerModel, bos_tokens

from .checkpoints import byte_tokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if mood is defined %}[{{ mood }}]{% endif %}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and '</think>' in m.content %}{{ m.content.split('</think>')[-1] | trim }}"
    "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
TOKENS = {
    CHATML: ("<|im_start|>", "<|im_end|>"),
    THINKING: ("<|im_start|>", "<|im_end|>", "<think>", "</think>"),
    LLAMA: ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    MISTRAL: ("[INST]", "[/INST]"),
    GEMMA: ("<start_of_turn>", "<end_of_turn>"),
}


def chat_tokenizer(template: Any, *, adds_bos: bool = True) -> Any:
    """A tokenizer with a chat template and its control tokens, which adds BOS to plain texts."""
    special = [*TOKENS.get(template, ("<end>",))]
    return byte_tokenizer(adds_bos=adds_bos, chat_template=template, additional_special_tokens=special)


def reader(tokenizer: Any, window: int = 10_000) -> TokenizerModel:
    """A model that only encodes prompts."""
    lm = TokenizerModel(tokenizer, "chatty", bos_tokens(tokenizer, None))
    lm.window = window
    return lm
