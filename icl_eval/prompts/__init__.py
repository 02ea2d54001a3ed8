"""Prompts: Jinja templates are rendered to text, and text is encoded to token ids that fit the context length."""

from icl_eval.prompts.assembly import PromptText, assemble, doubled_space
from icl_eval.prompts.chat import Chat, Message
from icl_eval.prompts.template import Prompt, prompt_of
from icl_eval.prompts.tokens import FittedPrompt, Scored, common_prefix, encode_apart, fit, split_tokens, with_start

__all__ = [
    "Chat",
    "FittedPrompt",
    "Message",
    "Prompt",
    "PromptText",
    "Scored",
    "assemble",
    "common_prefix",
    "doubled_space",
    "encode_apart",
    "fit",
    "prompt_of",
    "split_tokens",
    "with_start",
]
