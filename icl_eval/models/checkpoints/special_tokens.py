"""What a checkpoint says of its texts: how long they may be, and which special tokens stand around them."""

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
    """The BOS token if every text begins with it; by default if the tokenizer puts it there itself.

    Raises:
        ModelError: it is asked for, but the tokenizer has none.
    """
    if bos is None:
        own = tokenizer("a", add_special_tokens=True)["input_ids"][:1]
        bos = own == [tokenizer.bos_token_id] and tokenizer.bos_token_id is not None
    if bos and tokenizer.bos_token_id is None:
        raise ModelError("--bos yes was asked for, but the tokenizer has no BOS token")
    return (tokenizer.bos_token_id,) if bos else ()


def special_tokens(tokenizer: Any, bos: bool | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens that a tokenizer puts before and after a text.

    Args:
        tokenizer: such as BERT's, which puts `[CLS]` and `[SEP]`.
        bos: `False` leaves out those before it.

    Raises:
        ModelError: those before a text are asked for, but there are none.
    """
    bare, whole = (tokenizer("a", add_special_tokens=added)["input_ids"] for added in (False, True))
    places = (place for place in range(len(whole)) if whole[place : place + len(bare)] == bare)
    before = next(places, 0)
    start, end = tuple(whole[:before]), tuple(whole[before + len(bare) :])
    if bos and not start:
        raise ModelError("--bos yes was asked for, but the tokenizer puts nothing before a text")
    return (() if bos is False else start), end


def fallback_token(tokenizer: Any) -> int:
    """The token that stands for an empty context.

    Raises:
        ModelError: the tokenizer has none that could.
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.cls_token_id):
        if token is not None:
            return int(token)
    raise ModelError("the tokenizer has neither a BOS nor an EOS token to begin an empty context with")


def window_of(config: Any, tokenizer: Any, asked: int | None) -> int:
    """Tokens to read at once: what is asked for, else what the configuration or the tokenizer says.

    Raises:
        ModelError: nobody says, or more is asked for than there are positions.
    """
    text = config.get_text_config()
    said = _reported_window(text, tokenizer)
    relative = any(getattr(text, name, None) for name in RELATIVE)
    if asked is not None and said is not None and asked > said and not relative:
        raise ModelError(f"a window of {asked} tokens was asked for, but the model reads {said}")
    if asked is None and said is None:
        raise ModelError("neither the model's configuration nor its tokenizer says how long a window is; pass --window")
    return asked or said or 0


def _reported_window(text: Any, tokenizer: Any) -> int | None:
    for name in LENGTHS:
        if isinstance(size := getattr(text, name, None), int):
            return size
    if tokenizer.model_max_length < 10**9:  # `transformers` stands 10**30 for unknown
        return int(tokenizer.model_max_length)
    return None
