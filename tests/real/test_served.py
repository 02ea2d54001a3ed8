"""A served model under `ICL_EVAL_SERVER` against the checkpoint of its weights under `ICL_EVAL_MODEL`.

The server may compute in another arithmetic than float32, as llama.cpp does with activations of quantised weights: an
option may win that is better by less than what that does.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from icl_eval.engine import Engine
from icl_eval.models import GenerateRequest, LanguageModel, ScoreRequest, load_model
from icl_eval.results.run_config import RunConfig
from icl_eval.runs.cells import prepare
from icl_eval.runs.requests import RequestBuilder
from icl_eval.runs.tasks import SAMPLE_PATH
from icl_eval.tasks import Library, LocalSource

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("ICL_EVAL_SERVER" not in os.environ, reason="ICL_EVAL_SERVER names no endpoint"),
    pytest.mark.skipif("ICL_EVAL_MODEL" not in os.environ, reason="ICL_EVAL_MODEL names no checkpoint"),
]
QUESTIONS = int(os.environ.get("ICL_EVAL_SERVER_QUESTIONS", "100"))  # of COPA: two options each
WINDOW = int(os.environ.get("ICL_EVAL_SERVER_WINDOW", "510"))
PER_TOKEN, AVERAGE = 1.0, 0.1  # nats; llama.cpp with 4-bit weights was 0.52 and 0.072 apart, so these follow from it
DECIDED = 0.5  # nats between two options above which both must choose the same


@pytest.fixture(scope="module")
def local() -> LanguageModel:
    return load_model(os.environ["ICL_EVAL_MODEL"], bos=True, max_length=WINDOW)


@pytest.fixture(scope="module")
def served() -> LanguageModel:
    url, tokenizer = os.environ["ICL_EVAL_SERVER"], os.environ["ICL_EVAL_MODEL"]
    return load_model(url, tokenizer=tokenizer, bos=True, max_length=WINDOW, concurrency=2)


def test_a_server_ranks_options_as_the_model_it_serves(local: LanguageModel, served: LanguageModel) -> None:
    config = RunConfig(model="model", tasks=("superglue/copa",), shots=(0,), limit=QUESTIONS)
    source = LocalSource(Path(os.environ["ICL_EVAL_DATA"]) if "ICL_EVAL_DATA" in os.environ else SAMPLE_PATH)
    (prepared,) = prepare(Library().task("superglue/copa"), None, config, source)
    questions = list(RequestBuilder(prepared, local, "error").queries())
    requests = [[each for each in question.requests if isinstance(each, ScoreRequest)][:2] for question in questions]
    flat = [request for pair in requests for request in pair]
    expected, found = Engine(local).answer(flat), Engine(served).answer(flat)
    apart = [
        abs(one - other)
        for mine, theirs in zip(expected, found, strict=True)
        for one, other in zip(mine.logprobs, theirs.logprobs, strict=True)
    ]
    margins = [
        (sum(mine[0].logprobs) - sum(mine[1].logprobs), sum(theirs[0].logprobs) - sum(theirs[1].logprobs))
        for mine, theirs in zip(_pairs(expected), _pairs(found), strict=True)
    ]
    alike = sum(mine * theirs > 0 for mine, theirs in margins)
    close = max((abs(mine) for mine, theirs in margins if mine * theirs <= 0), default=0.0)
    print(
        f"\n{len(flat)} options, {len(apart)} tokens: {max(apart):.4f} nats apart at most, "
        f"{sum(apart) / len(apart):.4f}"
        f" on average; {alike} of {len(margins)} questions ranked alike, the others by up to {close:.3f} nats"
    )

    assert max(apart) <= PER_TOKEN
    assert sum(apart) / len(apart) <= AVERAGE
    assert all(mine * theirs > 0 for mine, theirs in margins if abs(mine) > DECIDED)


def test_a_server_writes_what_the_model_writes(local: LanguageModel, served: LanguageModel) -> None:
    from icl_eval.models import Decoding

    texts = ["The capital of France is Paris. The capital of Italy is", "One, two, three, four,", "Q: 2 + 2 =\nA:"]
    requests = [GenerateRequest.of([*local.start, *ids], Decoding(3, stop=("\n",))) for ids in local.encode(texts)]
    expected, found = Engine(local).answer(requests), Engine(served).answer(requests)

    assert [answer.texts for answer in found] == [answer.texts for answer in expected]
    for mine, theirs in zip(expected, found, strict=True):
        assert theirs.scores == pytest.approx(mine.scores, abs=PER_TOKEN)


def test_options_of_one_token_score_as_in_a_prompt(served: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["Review: a warm and funny film\nSentiment:", "Review: a dull film\nSentiment:"]
    options = served.encode([" positive", " negative"])
    requests = [ScoreRequest.of([*served.start, *ids], option) for ids in served.encode(texts) for option in options]
    if getattr(served, "next_token", None) is None:
        pytest.skip("the server gives no log-probabilities of next tokens")
    by_next_token = Engine(served).answer(requests)
    monkeypatch.setattr(served, "next_token", None)
    in_prompts = Engine(served).answer(requests)

    apart = max(
        abs(mine.logprobs[0] - theirs.logprobs[0]) for mine, theirs in zip(by_next_token, in_prompts, strict=True)
    )
    print(f"\n{len(requests)} options of one token: {apart:.4f} nats apart at most")
    assert apart <= AVERAGE
    assert [answer.greedy for answer in by_next_token] == [answer.greedy for answer in in_prompts]


def _pairs(answers: list) -> list:  # type: ignore[type-arg]
    return list(zip(answers[::2], answers[1::2], strict=True))
