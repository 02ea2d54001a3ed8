"""The likelihood of a text longer than the model's window: several requests that score every token once."""

from __future__ import annotations

from collections.abc import Iterator

from icl_eval.models import ScoreRequest
from icl_eval.prompts import Scored


def strides(text: Scored, window: int, stride: int) -> Iterator[ScoreRequest]:
    """Requests whose continuations are the text's tokens, each once and in order.

    The first reads as much as a window holds. Every further one scores the next `stride` tokens, after as many of those
    before them as the window then has room for: with a stride of the whole window after a single one, as the perplexity
    of a long text is usually taken (Radford et al. 2019 use shorter strides). An encoder and a decoder have a window
    each: one for the tokens before, one for those that are scored.

    Args:
        text: context and continuation.
        window: tokens the model reads at once.
        stride: tokens that a further window adds; at most the window.
    """
    tokens, end = [*text.context, *text.continuation], len(text.context)
    room = window if text.apart else max(window + 1 - end, 1)  # of the first request
    while end < len(tokens):
        begin = end
        end = min(len(tokens), begin + (stride if begin > len(text.context) else room))
        start = max((begin if text.apart else end - 1) - window, 0)
        yield ScoreRequest.of(tokens[start:begin], tokens[begin:end])
