"""The official release under `ICL_EVAL_DATA` and a checkpoint under `ICL_EVAL_MODEL`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from icl_eval.engine import Engine
from icl_eval.models import ScoreRequest, load_model
from icl_eval.results.run_config import RunConfig
from icl_eval.runs.cells import prepare
from icl_eval.runs.requests import RequestBuilder
from icl_eval.tasks import Library, LocalSource

needs_data = pytest.mark.skipif("ICL_EVAL_DATA" not in os.environ, reason="ICL_EVAL_DATA names no official release")
needs_model = pytest.mark.skipif("ICL_EVAL_MODEL" not in os.environ, reason="ICL_EVAL_MODEL names no checkpoint")
QUESTIONS = {  # of the official validation (AX: test) files; CB has 57 in the paper and 56 in the release
    "boolq": 3270,
    "cb": 56,
    "copa": 100,
    "multirc": 953,
    "rte": 277,
    "wic": 638,
    "wsc": 104,
    "axb": 1104,
    "axg": 178,
}


@pytest.fixture
def source() -> LocalSource:
    return LocalSource(Path(os.environ["ICL_EVAL_DATA"]))


@needs_data
@pytest.mark.parametrize("name", [*QUESTIONS, "record"])
def test_the_official_release_is_read_whole(name: str, source: LocalSource) -> None:
    task = Library().task(f"superglue/{name}")
    examples = task.evaluation(source)
    (prepared,) = prepare(task, None, RunConfig(model="tiny", tasks=(task.name,), shots=(4,)), source)

    task.check_fields(source)
    assert len({example.group for example in examples}) == QUESTIONS.get(name, len(examples))
    assert len({example.id for example in examples}) == len(examples)
    assert prepared.pool is not None
    assert len(prepared.pool.draw(examples[0], 4, 0)) == 4


@needs_data
@pytest.mark.parametrize(
    ("name", "prompt"), [("rte", "gpt3"), ("copa", "gpt3"), ("wsc", "partial"), ("cb", "lettered")]
)
@needs_model
@pytest.mark.slow
def test_a_real_model_gives_the_reference_log_probabilities(name: str, prompt: str, source: LocalSource) -> None:
    lm = load_model(os.environ["ICL_EVAL_MODEL"])
    config = RunConfig(model="model", tasks=(f"superglue/{name}",), shots=(0, 1), limit=2)
    (prepared,) = prepare(Library().task(f"superglue/{name}"), prompt, config, source)
    questions = list(RequestBuilder(prepared, lm, "error").queries())
    requests = [each for question in questions for each in question.requests if isinstance(each, ScoreRequest)]
    answers = Engine(lm).answer(requests)

    for request, answer in zip(requests, answers, strict=True):
        assert answer.logprobs == pytest.approx(_reference(lm.model, request), abs=1e-4)  # type: ignore[attr-defined]


def _reference(model: Any, request: ScoreRequest) -> list[float]:
    tokens = torch.tensor([list(request.tokens)])
    with torch.no_grad():
        logprobs = model(tokens).logits[0].log_softmax(dim=-1)
    return [float(logprobs[position - 1, tokens[0, position]]) for position in range(request.boundary, tokens.shape[1])]
