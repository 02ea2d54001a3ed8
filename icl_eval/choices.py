"""The words that options take, on the command line as in Python and in manifests."""

from __future__ import annotations

from typing import Literal, get_args

Dtype = Literal["auto", "float32", "bfloat16", "float16"]  # the arithmetic of a model
DTYPES: tuple[str, ...] = get_args(Dtype)
Quantization = Literal["8bit", "4bit"]  # of weights, while they are loaded
Attention = Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"]  # implementations
PLL = Literal["l2r", "plain"]  # what a masked language model's token is masked with
Overflow = Literal["drop", "error", "truncate"]  # what happens to a prompt that is longer than the window
