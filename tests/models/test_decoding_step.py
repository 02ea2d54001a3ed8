"""Steps that are recorded once and replayed, with a trace of the operations instead of a CUDA graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from icl_eval.models import Decoding
from icl_eval.models.generation import probing
from icl_eval.models.generation.decoding_step import Compute, cuda_graphs
from icl_eval.models.generation.generation import _enqueue_best
from icl_eval.models.generation.kv_pool import PooledDecoder, assigned

from .black_boxes import write
from .test_generation import FREE, STOPS, causal, decoder_of, prompts_of, sharp


class Trace:
    """Records operations on tensors; a replay repeats them with the same numbers in Python, in the same memory."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, compute: Compute) -> Compute:
        operations: Any = make_fx(compute)()
        self.recorded += 1
        memory: list[torch.Tensor] = []

        def replay() -> torch.Tensor:
            self.replayed += 1
            found = operations()
            if not memory:
                memory.append(found)
            return memory[0].copy_(found)

        return replay


def recording(monkeypatch: pytest.MonkeyPatch, record: Any, name: str = "llama") -> Any:
    """A model whose steps are recorded, as on a GPU."""
    monkeypatch.setattr(probing, "on_one_gpu", lambda _: True)
    monkeypatch.setattr(probing, "cuda_graphs", lambda _: record)
    lm = causal(sharp(name))
    assert decoder_of(lm) is PooledDecoder
    return lm


@pytest.mark.parametrize(
    ("name", "decoding"),
    [
        ("gemma2_capped", Decoding(10, STOPS)),
        ("gpt_oss", Decoding(6, FREE, beams=3)),
    ],
)
def test_recorded_steps_generate_what_others_do(monkeypatch: pytest.MonkeyPatch, name: str, decoding: Decoding) -> None:
    """With soft caps, a window and sinks, and hypotheses that leave while others go on."""
    prompts = prompts_of(5, count=5)
    expected = write(causal(sharp(name)), prompts, decoding)
    trace = Trace()
    lm = recording(monkeypatch, trace, name)

    answers = write(lm, prompts, decoding)

    assert trace.recorded >= 1
    assert trace.replayed > trace.recorded
    for answer, other in zip(answers, expected, strict=True):
        assert (answer.texts, answer.tokens, answer.finished) == (other.texts, other.tokens, other.finished)
        assert answer.scores == pytest.approx(other.scores, abs=1e-4)


def kept_in(recorded: list[Compute]) -> Any:
    """Records a computation as itself, and keeps it in a list."""

    def record(compute: Compute) -> Compute:
        recorded.append(compute)
        return compute

    return record


def test_hypotheses_that_leave_stay_in_their_slots_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[Compute] = []
    lm = recording(monkeypatch, kept_in(recorded))
    prompts = [[token, token + 1] for token in range(3, 11)]

    write(lm, prompts, *(Decoding(8 + (index > 1), FREE) for index in range(8)))
    together = len(recorded)
    write(lm, prompts, *(Decoding(8 + 8 * (index > 3), FREE) for index in range(8)))

    assert together == 1  # two of eight leave
    assert len(recorded) == 3  # four of eight leave, and a later step of the others is recorded


def test_steps_are_recorded_only_once_they_have_been_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """With hypotheses that soon leave, recording would take longer than it saves."""
    recorded: list[Compute] = []
    lm = recording(monkeypatch, kept_in(recorded))

    write(lm, [[3, 4], [4, 5], [5, 6]], *(Decoding(3 * index + 3, FREE) for index in range(3)))

    assert recorded == []


def failing(_: Compute) -> Compute:
    raise RuntimeError("operation not permitted when stream is capturing\nand more")


def wrong(compute: Compute) -> Compute:
    return lambda: compute().flip(1)


def empty(compute: Compute) -> Compute:
    """As a graph of another GPU: what is recorded is computed at once, and never again."""
    output = compute()
    return lambda: output


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (failing, "operation not permitted when stream is capturing"),
        (wrong, "a replay differs"),
        (empty, "a replay differs"),
    ],
)
def test_steps_that_cannot_be_recorded_are_computed_one_by_one(
    monkeypatch: pytest.MonkeyPatch, record: Any, reason: str
) -> None:
    prompts, decoding = prompts_of(5), Decoding(8, FREE)
    expected = write(causal(sharp("llama")), prompts, decoding)
    lm = recording(monkeypatch, record)

    with pytest.warns(RuntimeWarning) as found:
        answers = write(lm, prompts, decoding)

    assert [str(each.message) for each in found] == [
        f"a step cannot be recorded as a CUDA graph ({reason}), so the model generates more slowly"
    ]
    assert [answer.texts for answer in answers] == [answer.texts for answer in expected]


class Cuda:
    """What `torch` keeps of GPUs: the current one and its stream, what waiting does, and where graphs were recorded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current = ["gpu 0", "its usual stream"]
        self.waiting = "default"
        self.recorded_on: list[list[str]] = []
        for name in ("device", "stream", "get_sync_debug_mode", "set_sync_debug_mode"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: f"a stream of {device}")
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: self)

    @contextmanager
    def device(self, device: str) -> Iterator[None]:
        with self.then([device, "its usual stream"]):
            yield

    @contextmanager
    def stream(self, stream: str) -> Iterator[None]:
        with self.then([self.current[0], stream]):
            yield

    @contextmanager
    def then(self, current: list[str]) -> Iterator[None]:
        before, self.current = self.current, current
        try:
            yield
        finally:
            self.current = before

    def get_sync_debug_mode(self) -> str:
        return self.waiting

    def set_sync_debug_mode(self, mode: str) -> None:
        self.waiting = mode

    def capture_begin(self) -> None:
        self.recorded_on.append(self.current)

    def capture_end(self) -> None:
        raise RuntimeError("the graph cannot be finished")

    def wait(self) -> None:
        if self.waiting == "error":
            raise RuntimeError("called a synchronizing CUDA operation")


def test_a_graph_is_recorded_on_the_gpu_of_the_model_and_leaves_the_current_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = Cuda(monkeypatch)
    record: Any = cuda_graphs("gpu 1")  # type: ignore[arg-type]

    with pytest.raises(RuntimeError, match="the graph cannot be finished"):
        record(lambda: torch.zeros(1))

    assert cuda.recorded_on == [["gpu 1", "a stream of gpu 1"]]
    assert (cuda.current, cuda.waiting) == (["gpu 0", "its usual stream"], "default")


def test_a_step_that_waits_for_the_gpu_is_never_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a recording that fails, the allocator of `torch` can never free memory again."""
    cuda = Cuda(monkeypatch)
    record: Any = cuda_graphs("gpu 1")  # type: ignore[arg-type]

    for _ in range(2):
        with pytest.raises(RuntimeError, match="called a synchronizing CUDA operation"):
            record(cuda.wait)

    assert cuda.recorded_on == []
    assert cuda.waiting == "default"


def test_a_full_gpu_is_reported_as_such_while_a_graph_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is halving the batch that helps then, although the graph cannot be finished either."""
    cuda = Cuda(monkeypatch)
    record: Any = cuda_graphs("gpu 1")  # type: ignore[arg-type]

    def full_when_recorded() -> None:
        if cuda.recorded_on:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        record(full_when_recorded)


def test_a_device_that_is_full_while_a_step_is_recorded_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    full = [torch.OutOfMemoryError("CUDA out of memory")]

    def once(compute: Compute) -> Compute:
        if full:
            raise full.pop()
        return compute

    prompts, decoding = prompts_of(5)[:4], Decoding(12, FREE)
    expected = write(causal(sharp("llama")), prompts, decoding)
    lm = recording(monkeypatch, once)
    before = lm.generation.budget.size

    answers = write(lm, prompts, decoding)

    assert lm.generation.budget.size < before
    assert [answer.texts for answer in answers] == [answer.texts for answer in expected]


SLOTS = st.lists(st.integers(0, 3), min_size=1, max_size=9).flatmap(
    lambda prefixes: st.tuples(st.just(prefixes), st.lists(st.integers(0, len(prefixes) - 1), min_size=1, max_size=9))
)


@given(SLOTS)
def test_extensions_get_slots_of_their_prefix(case: tuple[list[int], list[int]]) -> None:
    prefix_of, parents = map(np.array, case)
    wanted, offered = (np.bincount(each, minlength=4) for each in (prefix_of[parents], prefix_of))

    slots = assigned(parents, prefix_of)

    assert (slots is None) == bool((wanted > offered).any())
    if slots is not None:
        assert len(set(slots.tolist())) == len(parents)
        assert (prefix_of[slots] == prefix_of[parents]).all()
        assert all(slots[parents.tolist().index(parent)] == parent for parent in parents)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_of_equally_likely_tokens_the_lowest_come_first(count: int) -> None:
    logits = torch.tensor([[0.0, 1, 3, 3, 2, 3, 3, 1], [5, 1, 1, 1, 4, 1, 1, 1], [0, 1, 2, 3, 4, 5, 6, 7]])
    expected = [sorted(range(8), key=lambda token: (-float(row[token]), token))[:count] for row in logits]

    found = _enqueue_best(logits, count)()

    assert found.tokens.tolist() == expected
    assert np.allclose(found.logprobs, np.take_along_axis(logits.log_softmax(1).numpy(), found.tokens, 1))
