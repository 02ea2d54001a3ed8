"""The special tokens that a tokenizer adds to texts, and the context length of a checkpoint."""

from __future__ import annotations

from typing import Any

from icl_eval.errors import ModelError

LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_sequence_length",
    "max_seq_len",
    "seq_length",
    "context_length",
)
RELATIVE = ("relative_attention_num_buckets", "relative_buckets")  # positions beyond the trained ones exist


def bos_tokens(tokenizer: Any, bos: bool | None) -> tuple[int, ...]:
    """The BOS token if every text begins with it; by default if the tokenizer adds it.

    Raises:
        ModelError: it is requested, but the tokenizer has none.
    """
    if bos is None:
        first = tokenizer("a", add_special_tokens=True)["input_ids"][:1]
        bos = first == [tokenizer.bos_token_id] and tokenizer.bos_token_id is not None
    if bos and tokenizer.bos_token_id is None:
        raise ModelError("--bos yes was requested, but the tokenizer has no BOS token")
    return (tokenizer.bos_token_id,) if bos else ()


def special_tokens(tokenizer: Any, bos: bool | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens that a tokenizer adds before and after a text.

    Args:
        tokenizer: such as that of BERT, which adds `[CLS]` and `[SEP]`.
        bos: `False` leaves out those before a text.

    Raises:
        ModelError: those before a text are requested, but there are none.
    """
    bare, whole = (tokenizer("a", add_special_tokens=added)["input_ids"] for added in (False, True))
    offsets = (offset for offset in range(len(whole)) if whole[offset : offset + len(bare)] == bare)
    before = next(offsets, 0)
    start, end = tuple(whole[:before]), tuple(whole[before + len(bare) :])
    if bos and not start:
        raise ModelError("--bos yes was requested, but the tokenizer adds nothing before a text")
    return (() if bos is False else start), end


def fallback_token(tokenizer: Any) -> int:
    """The token that replaces an empty context.

    Raises:
        ModelError: the tokenizer has no suitable token.
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.cls_token_id):
        if token is not None:
            return int(token)
    raise ModelError("the tokenizer has neither a BOS nor an EOS token to begin an empty context with")


def window_of(config: Any, tokenizer: Any, requested: int | None) -> int:
    """Context length in tokens: the requested one, or else that of the configuration or the tokenizer.

    Raises:
        ModelError: it is unknown, or longer than there are positions.
    """
    text = config.get_text_config()
    reported = _reported_window(text, tokenizer)
    relative = any(getattr(text, name, None) for name in RELATIVE)
    if requested is not None and reported is not None and requested > reported and not relative:
        raise ModelError(f"a window of {requested} tokens was requested, but the model reads {reported}")
    if requested is None and reported is None:
        raise ModelError(
            "neither the model's configuration nor its tokenizer says how long a window is; pass --max-length"
        )
    return requested or reported or 0


def _reported_window(text: Any, tokenizer: Any) -> int | None:
    for name in LENGTHS:
        if isinstance(size := getattr(text, name, None), int):
            return size
    if tokenizer.model_max_length < 10**9:  # in `transformers`, 10**30 means unknown
        return int(tokenizer.model_max_length)
    return None
