"""Conversations in the words of the checkpoint under `ICL_EVAL_MODEL`, with the official data under `ICL_EVAL_DATA`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from icl_eval.models import ScoreRequest
from icl_eval.models.tokenization import TokenizerModel
from icl_eval.results.run_config import RunConfig
from icl_eval.runs.cells import prepare
from icl_eval.runs.model import chat_of
from icl_eval.runs.requests import RequestBuilder
from icl_eval.tasks import Library, LocalSource

pytestmark = [
    pytest.mark.skipif("ICL_EVAL_DATA" not in os.environ, reason="ICL_EVAL_DATA names no official release"),
    pytest.mark.skipif("ICL_EVAL_MODEL" not in os.environ, reason="ICL_EVAL_MODEL names no checkpoint"),
]


@pytest.mark.parametrize("name", ["superglue/rte", "mmlu/lettered", "gsm8k"])
def test_tokens_are_those_of_apply_chat_template_and_of_the_option(name: str) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(os.environ["ICL_EVAL_MODEL"])
    if not tokenizer.chat_template:
        pytest.skip("the tokenizer has no chat template")
    lm = TokenizerModel(tokenizer, "model", ())
    lm.window = 8192
    config = RunConfig(model="model", tasks=(name,), shots=(0, 3), limit=3, chat=True)
    task, source = Library().task(name), LocalSource(Path(os.environ["ICL_EVAL_DATA"]))
    (prepared,) = prepare(task, None, config, source)
    prompt, pool = prepared.prompt, {each.id: each for each in task.demonstrations(source)}

    for query in RequestBuilder(prepared, lm, "error", chat_of(lm, config)).queries():
        instruction = prompt.instruction(query.example.fields).rstrip()
        messages = [{"role": "system", "content": instruction}] if instruction else []
        for each in [*(pool[id] for id in query.demonstrations), query.example]:
            reply = prompt.answer(each.fields, each.options, each.gold[0] if each.gold else 0).lstrip()
            messages.append({"role": "user", "content": prompt.query(each.fields, each.options, 0)})
            messages.append({"role": "assistant", "content": reply})
        context = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True)["input_ids"]

        for option, request in enumerate(query.requests[: len(query.text.answers)]):
            boundary = request.boundary if isinstance(request, ScoreRequest) else len(request.tokens)
            reply = prompt.answer(query.example.fields, query.example.options, option).lstrip()
            whole = tokenizer.apply_chat_template([*messages[:-1], {"role": "assistant", "content": reply}])
            assert list(request.tokens[:boundary]) == context
            assert list(request.tokens) == whole["input_ids"][: len(request.tokens)]
