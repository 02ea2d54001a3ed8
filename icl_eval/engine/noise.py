"""The arithmetic noise of a model: how much log-probabilities change if the same requests are batched differently."""

from __future__ import annotations

import math
from collections.abc import Sequence

from icl_eval.engine.engine import Engine
from icl_eval.errors import ModelError
from icl_eval.models import LanguageModel, ScoreRequest

TOKENS = 48  # tokens of each request, half of them scored: enough to find a maximum, few enough to compute quickly
LEAST = 4  # minimum number of tokens of a request
TEXT = """The bridge over the river was closed for repairs last spring, so the children walked through the old market
on their way to school. Question: Where did the children walk? Answer: through the market. Most of them liked the new
way better, because the baker gave them warm bread when it was cold, and nobody was late."""


def measure_noise(model: LanguageModel) -> float | None:
    """The largest difference between log-probabilities of tokens in a separate request and in a batch, in nats.

    The three requests are the same in every run. They are parts of one text; the third has the context of the first.

    Returns:
        The difference, rounded up to one digit, or the noise that the model reports. None if it is unknown, because the
        model does not run in this process or cannot answer these requests.
    """
    if not model.measures_noise:
        return model.noise
    if not (requests := _requests(model)):
        return None
    try:
        together = Engine(model).answer(requests)
        separately = [answer for request in requests[:2] for answer in Engine(model).answer([request])]
    except ModelError:  # the run itself will report it
        return None
    pairs = zip(separately, together[:2], strict=True)
    return _rounded_up(max(abs(x - y) for a, b in pairs for x, y in zip(a.logprobs, b.logprobs, strict=True)))


def _requests(model: LanguageModel) -> Sequence[ScoreRequest]:
    """Three requests that fit the context length; none if the text or the context length is too short."""
    ids = model.encode([TEXT])[0]
    size = min(TOKENS, model.window - len(model.start), 2 * len(ids) // 3)
    if size < LEAST:
        return []
    half = size // 2
    first, second, third = ids[:half], ids[half:size], ids[size : size + half]
    texts = ((first, second), (second, third), (first, third))
    return [ScoreRequest.of([*model.start, *context], continuation) for context, continuation in texts]


def _rounded_up(value: float) -> float:
    """The value, rounded up to one significant digit."""
    if value == 0:
        return 0.0
    digits = -math.floor(math.log10(value))
    digit = math.ceil(round(value * 10.0**digits, 6))
    return float(f"{digit}e{-digits}")
