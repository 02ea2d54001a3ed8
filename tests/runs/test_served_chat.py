"""Runs of a chat endpoint, which gets messages and answers with texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from completions import CHAT_TEMPLATE, Completions, Habits, failing, serving, wait_for_nothing
from toy_tasks import parity, records
from transformers import AutoModelForCausalLM, AutoTokenizer

from icl_eval import Task, evaluate
from icl_eval.errors import IclEvalError, ModelError
from icl_eval.models.loading.checkpoint import TINY_PATH
from icl_eval.results.examples import TextResult, read_examples

torch.set_num_threads(1)

Start = Callable[..., tuple[str, Completions]]
PROMPT = "{% block instruction %}Even or odd?{% endblock %}{% block query %}Q: {{ n }}\nA:{% endblock %}"

DEMONSTRATION = [{"role": "user", "content": "Q: 101\nA:"}, {"role": "assistant", "content": "odd"}]


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(TINY_PATH)
    tokenizer.chat_template = CHAT_TEMPLATE
    return AutoModelForCausalLM.from_pretrained(TINY_PATH), tokenizer


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tiny: tuple[Any, Any]) -> Iterator[Start]:
    wait_for_nothing(monkeypatch)
    with ExitStack() as stack:

        def started(**habits: Any) -> tuple[str, Completions]:
            served = Completions(*tiny, Habits(**habits))
            return stack.enter_context(serving(served)), served

        yield started


def generated(queries: int = 2, **decode: Any) -> Task:
    decode = {"max_tokens": 3, "stop": ["\n\n"], **decode}
    return Task.from_records(
        "generated",
        evaluation=[{**each, "answer": "even"} for each in records(range(queries))],
        demonstrations=[{**each, "answer": "odd"} for each in records([101])],
        prompt=PROMPT,
        answer="text",
        references="answer",
        id="id",
        decode=decode,
    )


def options(**more: Any) -> dict[str, Any]:
    return {"chat": True, "shots": [0, 1], "retries": 1, "concurrency": 2, **more}


def texts(folder: Path) -> list[tuple[str, ...]]:
    return [each.generated for each in read_examples(folder / "examples.jsonl") if isinstance(each, TextResult)]


@pytest.mark.parametrize("habits", [{}, {"limits": ("max_completion_tokens",), "chat_logprobs": False}])
def test_messages_get_the_texts_that_the_template_gets_here(
    habits: dict[str, Any], start: Start, tiny: tuple[Any, Any], tmp_path: Path
) -> None:
    url, server = start(**habits)
    served = evaluate(url, generated(), out=tmp_path / "served", **options())
    evaluate(tiny, generated(), chat=True, shots=[0, 1], out=tmp_path / "local")
    request = server.requests[-1]

    assert texts(tmp_path / "served") == texts(tmp_path / "local")
    assert request["messages"][0] == {"role": "system", "content": "Even or odd?"}
    assert request["messages"][-1] in [{"role": "user", "content": f"Q: {n}\nA:"} for n in range(2)]
    assert request["messages"][1:-1] in ([], DEMONSTRATION)
    assert request["stop"] == ["\n\n"]
    words = "served:chat+logprobs" if not habits else "served:chat"
    assert f"|{words}|chat-turns-system#" in served.scores[0].signature


def test_a_run_goes_on_where_the_chat_endpoint_failed(start: Start, tmp_path: Path) -> None:
    url, server = start(after=3, always=failing(500))
    with pytest.raises(ModelError) as caught:
        evaluate(url, generated(), out=tmp_path / "run", **options(concurrency=1))
    server.habits.after = 10**6
    result = evaluate(url, generated(), out=tmp_path / "run", **options())

    assert str(caught.value).startswith(f"{url}/chat/completions answers 500")
    assert (result.manifest.reused, result.manifest.computed) == (2, 2)
    assert len(server.requests) == 5 + 3  # a probe, two answers, a failure and its retry; a probe and the other answers
    assert len(texts(tmp_path / "run")) == 4


def test_arguments_go_to_the_servers_template_and_samples_have_seeds(start: Start) -> None:
    url, server = start()
    sampling = {"samples": 2, "temperature": 0.5}
    evaluate(url, generated(1, **sampling), **options(shots=0, chat_args={"enable_thinking": False}))
    first, second = server.requests[-2:]

    assert first["chat_template_kwargs"] == {"enable_thinking": False}
    assert first["messages"] == second["messages"]
    assert first["seed"] != second["seed"]


def test_reasoning_that_a_server_gives_apart_stands_before_the_answer(start: Start, tmp_path: Path) -> None:
    url, server = start(reasoning="3 is\n\nodd")
    evaluate(url, generated(1, reasoning_end="</think>"), out=tmp_path / "cut", **options(shots=0))
    ((text,),) = texts(tmp_path / "cut")
    reasoning, answer = text.split("</think>")

    assert "stop" not in server.requests[1]
    assert reasoning == "3 is\n\nodd"
    assert len(answer.split()) == 1  # the stop of the task, a line break, ends it only after its first word


def test_what_a_chat_endpoint_cannot_do_is_reported_in_one_sentence(start: Start) -> None:
    def refusal(url: str, task: Any, **more: Any) -> str:
        with pytest.raises(IclEvalError) as caught:
            evaluate(url, task, **options(**more))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    url, _ = start()
    assert refusal(url, parity()) == (
        "a chat endpoint gives no log-probabilities of given texts; with --tokenizer, prompts are sent to the "
        "completions endpoint instead; parity needs them"
    )
    assert "an endpoint has no beam search" in refusal(url, generated(beams=2))
    assert "`bos` has no effect on a chat endpoint" in refusal(url, generated(), bos=True)
    assert "answers 404: no chat here" in refusal(start(always=failing(404, "no chat here"))[0], generated())
    empty: Any = 200, {}, json.dumps({"choices": [{"finish_reason": "stop"}]}).encode()
    assert "the server's answer has no `message` with a text" in refusal(start(always=empty)[0], generated())
    assert "only with --chat may it be left out" in refusal(url, generated(), chat=False)


def test_with_a_tokenizer_an_endpoint_ranks_options_after_the_template(
    start: Start, tiny: tuple[Any, Any], tmp_path: Path
) -> None:
    tiny[1].save_pretrained(tmp_path / "tokenizer")
    served = evaluate(start()[0], parity(range(2)), **options(shots=1, tokenizer=str(tmp_path / "tokenizer")))
    local = evaluate(tiny, parity(range(2)), shots=1, chat=True)

    assert [score.value for score in served] == [score.value for score in local]
    assert "|chat-turns-system#" in served.scores[0].signature
