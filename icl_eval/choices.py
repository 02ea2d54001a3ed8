"""The words that options take, on the command line as in Python and in manifests."""

from __future__ import annotations

import re
from typing import Literal, get_args

Dtype = Literal["auto", "float32", "bfloat16", "float16"]  # the arithmetic of a model
DTYPES: tuple[str, ...] = get_args(Dtype)
Quantization = Literal["8bit", "4bit"]  # of weights, while they are loaded
Attention = Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"]  # implementations
PLL = Literal["l2r", "plain"]  # what a masked language model's token is masked with
Overflow = Literal["drop", "error", "truncate"]  # what happens to a prompt that is longer than the window


def parse_limit(value: int | str) -> int | str:
    """A limit as it is kept: the size of a sample as a number, or `first:N`.

    Raises:
        ValueError: it is neither.
    """
    if not re.fullmatch(r"(first:)?[1-9][0-9]{0,17}", str(value)):
        raise ValueError(f"{value!r} is neither a number of examples, at least 1, nor first:N for the first N")
    return int(value) if str(value).isdecimal() else value
