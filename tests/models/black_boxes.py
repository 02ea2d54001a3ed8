"""Tiny models that plan their batches themselves, requests to them, and ways to watch and to disturb them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import cycle
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from icl_eval.models import Decoding, GenerateAnswer, GenerateRequest, ScoreAnswer, ScoreRequest
from icl_eval.models.masked import MaskedLM
from icl_eval.models.seq2seq import Seq2SeqLM
from icl_eval.prompts import split_tokens

from .kinds import SEQ2SEQ, build, tokenizer_for


@cache
def network(name: str) -> Any:
    """Of a kind in `kinds`; shared, so not to be changed."""
    return build(name)


def seq2seq_lm(name: str, model: Any = None, **changes: Any) -> Seq2SeqLM:
    lm = Seq2SeqLM(model or network(name), tokenizer_for(name), "tiny", "weights", **changes)
    lm.budget.size = 150  # several batches, with padding
    return lm


def masked_lm(name: str, model: Any = None, **changes: Any) -> MaskedLM:
    lm = MaskedLM(model or network(name), tokenizer_for(name), "tiny", "weights", **changes)
    lm.budget.size = 200  # several batches, with padding
    return lm


def lm_of(name: str) -> Any:
    return seq2seq_lm(name) if name in SEQ2SEQ else masked_lm(name)


def requests_of(name: str) -> list[ScoreRequest]:
    return contexts_of(name) if name in SEQ2SEQ else texts_of(name)


def contexts_of(name: str) -> list[ScoreRequest]:
    """Contexts of very different lengths, each with several continuations; the first tokens are the tokenizer's."""
    rng, lm = np.random.default_rng(0), seq2seq_lm(name)
    contexts = [[*lm.start, *rng.integers(10, 80, size).tolist()] for size in (3, 30, 4, 17, 1, 45, 9)]
    return [
        ScoreRequest.of(context, rng.integers(10, 80, size).tolist()) for context in contexts for size in (1, 5, 2, 12)
    ]


def texts_of(name: str) -> list[ScoreRequest]:
    """Options of a question, and contexts of very different lengths."""
    texts = [("Is the sky blue?", " yes"), ("Is the sky blue?", " no"), ("Is the sky blue?", " skying blue.")]
    texts += [("a", " unlikely"), ("so it is " * 3, "unlikely, he said")]
    lm = masked_lm(name)
    return [ScoreRequest.of(each.context, each.continuation) for each in split_tokens(lm.encode, texts, lm.start, 0)]


def answer(lm: Any, requests: Sequence[ScoreRequest]) -> list[ScoreAnswer]:
    answers: dict[int, ScoreAnswer] = {}
    lm.score(requests, answers.__setitem__)
    return [answers[index] for index in range(len(requests))]


def write(lm: Any, prompts: Sequence[Sequence[int]], *decodings: Decoding) -> list[GenerateAnswer]:
    """What follows prompts, by one decoding or by one for each."""
    answers: dict[int, GenerateAnswer] = {}
    requests = [GenerateRequest.of(*each) for each in zip(prompts, cycle(decodings), strict=False)]
    lm.generate(requests, answers.__setitem__)
    return [answers[index] for index in range(len(prompts))]


def given_to(module: Any, name: str = "input_ids") -> list[torch.Tensor]:
    """Grows by what a module is given under a name."""
    given: list[torch.Tensor] = []
    module.register_forward_pre_hook(lambda _, __, named: given.append(named[name]), with_kwargs=True)
    return given


def positions_given_to(head: Any) -> list[int]:
    """Grows by the number of positions that reach a head."""
    indices: list[int] = []
    head.register_forward_hook(lambda _, inputs, __: indices.append(inputs[0].shape[:-1].numel()))
    return indices


def crowd(monkeypatch: pytest.MonkeyPatch, model: Any, too_much: Callable[[Mapping[str, Any]], bool]) -> None:
    """Leave a model's device no memory for inputs that are too much."""
    forward = type(model).forward

    def crowded(model: Any, *inputs: Any, **settings: Any) -> Any:
        if too_much(settings):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(model, *inputs, **settings)

    monkeypatch.setattr(type(model), "forward", crowded)


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The operations that would wait for a GPU: those whose results, or the sizes of these, the CPU needs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        by_mask = name == "index" and any(each is not None and each.dtype == torch.bool for each in args[1])
        if by_mask or name in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique"):
            self.found.append(name)
        return function(*args, **(kwargs or {}))
