"""What every fast path must equal: one sequence, one full forward pass, float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.random import Generator

from icl_eval.models import ScoreRequest

from .architectures import VOCABULARY


def references(model: Any, requests: list[ScoreRequest]) -> list[list[float]]:
    """Log-probabilities of the continuations of requests in nats, by a pass for each sequence that differs."""
    sequences = {tuple(request.tokens) for request in requests}
    found = {tokens: _logprobs(model, torch.tensor([tokens])) for tokens in sequences}
    return [found[tuple(request.tokens)][request.boundary - 1 :] for request in requests]


def _logprobs(model: Any, tokens: torch.Tensor) -> list[float]:
    """Of every token of a sequence but the first; `tokens` has the shape (1, length)."""
    with torch.no_grad():
        logits = model(tokens[:, :-1]).logits[0].float()  # (T, V)
    rows: list[float] = logits.log_softmax(dim=-1).gather(1, tokens[0, 1:, None])[:, 0].tolist()
    return rows


def reference(model: Any, request: ScoreRequest) -> list[float]:
    """Log-probabilities of a request's continuation in nats."""
    return references(model, [request])[0]


def moments(logprobs: Any) -> tuple[float, float]:
    """Expectation and standard deviation of log p under p, of the log-probabilities (V,) of a next token."""
    values = np.asarray(logprobs, np.float64)
    mean = np.average(values, weights=np.exp(values))
    return float(mean), float(np.average((values - mean) ** 2, weights=np.exp(values)) ** 0.5)


def random_requests(rng: Generator, sequences: int = 8, longest: int = 40) -> list[ScoreRequest]:
    """Requests with nested prefixes: extensions, prefixes, repetitions and several boundaries of the same tokens."""
    texts: list[list[int]] = [rng.integers(3, VOCABULARY, longest // 2).tolist()]
    for _ in range(sequences):
        parent = texts[rng.integers(len(texts))]
        tail = rng.integers(3, VOCABULARY, rng.integers(1, longest // 2)).tolist()
        texts.append((parent[: rng.integers(1, len(parent) + 1)] + tail)[:longest])
    texts += [texts[1], texts[2][: max(2, len(texts[2]) // 2)], texts[1][:2]]
    boundaries = [(text, cut) for text in texts for cut in {1, len(text) - 1, int(rng.integers(1, len(text)))}]
    return [ScoreRequest.of(text[:cut], text[cut:]) for text, cut in boundaries]


def worst(model: Any, requests: list[ScoreRequest], answers: Any) -> float:
    """The largest difference between answers and the reference, in nats."""
    return furthest(references(model, requests), answers)


def furthest(expected: list[list[float]], answers: Any) -> float:
    """The largest difference between the log-probabilities of answers and the expected ones, in nats."""
    pairs = zip(expected, answers, strict=True)
    return max(float(np.abs(np.array(each) - np.array(answer.logprobs)).max()) for each, answer in pairs)


def written(model: Any, prompt: list[int], count: int, ends: Any) -> tuple[list[int], float]:
    """What greedy search writes, one full forward pass per token, and its log-probability in nats."""
    tokens, total = list(prompt), 0.0
    while len(tokens) < len(prompt) + count:
        with torch.no_grad():
            row = model(torch.tensor([tokens]), use_cache=False).logits[0, -1].float().log_softmax(dim=-1)
        tokens.append(int(row.argmax()))
        total += float(row.max())
        if tokens[-1] in ends:
            break
    return tokens[len(prompt) :], total
