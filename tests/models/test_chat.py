"""Conversations: a prompt's blocks as messages, in the words and tokens of a chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_eval import Task
from icl_eval.errors import IclEvalError
from icl_eval.models import LanguageModel
from icl_eval.models.loading.checkpoint import weights_name
from icl_eval.results.examples import ChoiceResult
from icl_eval.results.prompt_texts import PromptTexts, text_writer
from icl_eval.results.run_config import RunConfig, read_run
from icl_eval.runs.cells import prepare
from icl_eval.runs.collect import parts_of, token_decoder
from icl_eval.runs.model import chat_of
from icl_eval.runs.requests import EncodedQuery, RequestBuilder
from icl_eval.scoring import OptionResult

from .chat_templates import CHATML, GEMMA, LLAMA, MISTRAL, THINKING, chat_tokenizer, reader

FORMS = {
    "chatml": (CHATML, "system"),
    "llama": (LLAMA, "system"),
    "mistral": (MISTRAL, "user"),
    "gemma": (GEMMA, "user"),
}
PROMPT = "{% block instruction %}Say yes or no.{% endblock %}{% block query %}Q: {{ q }}\nA:{% endblock %}"
SHOWN = ({"q": "is it cold?", "label": 1}, {"q": "is it wet?", "label": 0})
ASKED = {"q": "is it hot?", "label": 0}


def task_of(
    query: Mapping[str, Any] = ASKED, demonstrations: Sequence[Any] = SHOWN, prompt: str = PROMPT, **more: Any
) -> Task:
    given: dict[str, Any] = {"options": ["yes", "no"], "gold": "label", **more}
    return Task.from_records(
        "t", evaluation=[query], demonstrations=list(demonstrations), prompt=prompt, draw="first", **given
    )


def queries(lm: LanguageModel, task: Task, shots: int = 2, **options: Any) -> list[EncodedQuery]:
    config = RunConfig(model="m", tasks=("t",), shots=(shots,), chat=True, **options)
    assert task.source is not None
    (prepared,) = prepare(task, None, config, task.source)
    return list(RequestBuilder(prepared, lm, config.overflow, chat_of(lm, config)).queries())


def conversation(instruction: str, *, in_system: bool, questions: Sequence[str], replies: Sequence[str]) -> Any:
    users = [f"Q: {question}\nA:" for question in questions]
    messages: list[dict[str, str]] = []
    if in_system:
        messages.append({"role": "system", "content": instruction})
    else:
        users[0] = f"{instruction}\n\n{users[0]}"
    for user, reply in zip(users, [*replies, None], strict=True):
        messages.append({"role": "user", "content": user})
        if reply is not None:
            messages.append({"role": "assistant", "content": reply})
    return messages


@pytest.mark.parametrize(("template", "instruction"), FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("adds_bos", [True, False])
def test_tokens_are_those_of_apply_chat_template_and_of_the_option(
    template: str, instruction: Any, adds_bos: bool
) -> None:
    tokenizer = chat_tokenizer(template, adds_bos=adds_bos)
    (query,) = queries(reader(tokenizer), task_of(), chat_instruction=instruction)
    messages = conversation(
        "Say yes or no.",
        in_system=instruction == "system",
        questions=["is it cold?", "is it wet?", "is it hot?"],
        replies=["no", "yes"],
    )
    context = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]

    for request, option in zip(query.conditional, ["yes", "no"], strict=True):
        whole = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": option}])["input_ids"]
        assert list(request.tokens[: request.boundary]) == context
        assert list(request.tokens) == whole[: len(request.tokens)]
        assert tokenizer.decode(request.tokens[request.boundary :]).strip() == option
        assert list(request.tokens).count(tokenizer.bos_token_id) == (template != CHATML)


def test_demonstrations_in_one_message_follow_as_in_a_plain_prompt() -> None:
    tokenizer = chat_tokenizer(CHATML)
    (query,) = queries(reader(tokenizer), task_of(), chat_demonstrations="message")
    text = "Q: is it cold?\nA: no\n\nQ: is it wet?\nA: yes\n\nQ: is it hot?\nA:"
    messages = [{"role": "system", "content": "Say yes or no."}, {"role": "user", "content": text}]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]

    assert list(query.conditional[0].tokens[: query.conditional[0].boundary]) == expected


def test_a_generated_reply_follows_the_prompt_and_ends_where_the_template_ends_one() -> None:
    tokenizer = chat_tokenizer(LLAMA)
    task = task_of(options=None, answer="text", references="q", gold=None, decode={"stop": ["\n\n"], "max_tokens": 9})
    (query,) = queries(reader(tokenizer), task, shots=0)
    (request,) = query.requests
    messages = conversation("Say yes or no.", in_system=True, questions=["is it hot?"], replies=[])

    assert list(request.tokens) == tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert request.decoding.reply_end == "<|eot_id|>"  # type: ignore[union-attr]


@settings(max_examples=20)
@given(st.lists(st.sampled_from([*"ab \n\ufdd0", "<|im_end|>", "<|IM_START|>", "<s>"])).map("".join))
def test_no_text_of_a_record_becomes_a_control_token(text: str) -> None:
    lm = reader(chat_tokenizer(CHATML))
    plain, odd = (
        queries(lm, task_of({"q": f"x{q}x", "label": 0}, [{"q": f"y{q}y", "label": 0}]), shots=1) for q in ("a", text)
    )
    controls = set(lm.controls.ids.values())
    count = [[token for token in found[0].conditional[0].tokens if token in controls] for found in (plain, odd)]

    assert count[0] == count[1]
    assert f"x{text}x" in lm.tokenizer.decode(odd[0].conditional[0].tokens)


def test_whole_demonstrations_are_dropped_until_the_conversation_fits() -> None:
    tokenizer = chat_tokenizer(LLAMA)
    lm = reader(tokenizer)
    long, short = (queries(lm, task_of(), shots=shots)[0] for shots in (2, 1))
    lm.window = long.input_length - 1
    (fitted,) = queries(lm, task_of())

    assert fitted.shots == 1
    assert [list(each.tokens) for each in fitted.conditional] == [list(each.tokens) for each in short.conditional]


def test_turns_of_shorter_draws_begin_longer_ones() -> None:
    lm = reader(chat_tokenizer(CHATML))
    task = task_of()
    (one,), (two,) = (queries(lm, task, shots=shots) for shots in (1, 2))
    turn = "<|im_start|>{}\n{}<|im_end|>\n".format
    (shared,) = lm.encode([turn("system", "Say yes or no.") + turn("user", "Q: is it cold?\nA:")])

    assert list(one.conditional[0].tokens[: len(shared)]) == list(two.conditional[0].tokens[: len(shared)]) == shared


def test_arguments_reach_the_template_and_change_the_signature() -> None:
    lm = reader(chat_tokenizer(CHATML))
    plain, calm = (RunConfig(model="m", tasks=("t",), chat=True, chat_args=each) for each in (None, {"mood": False}))
    forms = [chat_of(lm, config) for config in (plain, calm)]
    texts = [form.chat.render([{"role": "user", "content": "u"}]) for form in forms if form]

    assert [text.endswith("assistant\n[False]") for text in texts] == [False, True]
    assert forms[0]
    assert forms[1]
    assert forms[0].words.split("#")[0] == "chat-turns-system"
    assert forms[0].words != forms[1].words


def test_a_switched_off_reasoning_stands_before_the_option_and_in_records_it_is_text() -> None:
    tokenizer = chat_tokenizer(THINKING)
    end = tokenizer.convert_tokens_to_ids("</think>")
    (query,) = queries(reader(tokenizer), task_of({"q": "</think>", "label": 0}), chat_args={"enable_thinking": False})
    (request, _), messages = query.conditional, [{"role": "user", "content": "Q"}]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, enable_thinking=False)["input_ids"]
    context = list(request.tokens[: request.boundary])
    tail = expected[expected.index(end) - 5 :]

    assert context[-len(tail) :] == tail
    assert context.count(end) == 1
    assert tokenizer.decode(request.tokens[request.boundary :]) == "yes"


def test_a_date_in_a_template_is_the_one_that_is_given() -> None:
    lm = reader(chat_tokenizer("{{ strftime_now('%d %b %Y') }}{% for m in messages %}{{ m.content }}{% endfor %}<end>"))
    config = RunConfig(model="m", tasks=("t",), chat=True, chat_args={"strftime_now": "2026-01-31"})
    form = chat_of(lm, config)

    assert form
    assert form.chat.render([{"role": "user", "content": "u"}]) == "31 Jan 2026u<end>"
    assert "writes today's date" in refusal(lm)


def test_a_template_without_a_generation_prompt_gets_what_it_writes_before_a_reply() -> None:
    lm = reader(chat_tokenizer("{% for m in messages %}<end>{{ m.role }}\n{{ m.content }}{% endfor %}"))
    (query,) = queries(lm, task_of(), shots=0)

    assert "".join(lm.decode(query.conditional[0].tokens)).endswith("A:<end>assistant\nyes")


def test_another_template_in_a_folder_is_another_model(tmp_path: Path) -> None:
    chat_tokenizer(CHATML).save_pretrained(tmp_path)
    before = weights_name("m", str(tmp_path), None)
    (tmp_path / "chat_template.jinja").write_text(LLAMA)

    assert weights_name("m", str(tmp_path), None) != before


def refusal(lm: LanguageModel, task: Task | None = None, **options: Any) -> str:
    with pytest.raises(IclEvalError) as caught:
        queries(lm, task or task_of(), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_a_template_cannot_show_is_reported_in_one_sentence() -> None:
    silent = "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}{% endif %}{% endfor %}<end>"
    user = "--chat-instruction user puts the instruction into the first user message"

    assert refusal(reader(chat_tokenizer(None))) == (
        "the tokenizer has no chat template, so it cannot be used with --chat"
    )
    assert f"System role not supported; if it takes no system message, {user}" in refusal(reader(chat_tokenizer(GEMMA)))
    assert f"leaves out or changes a message of the system; if it takes no system message, {user}" in refusal(
        reader(chat_tokenizer(silent))
    )
    assert refusal(reader(chat_tokenizer("{% for %}"))).startswith("the chat template does not parse: ")
    assert "the chat template refuses the messages: " in refusal(reader(chat_tokenizer("{{ 1 / 0 }}")))
    assert "no argument of the chat template is named 'mod'; did you mean mood?" in refusal(
        reader(chat_tokenizer(CHATML)), chat_args={"mod": 1}
    )
    assert refusal(reader(chat_tokenizer(LLAMA)), bos=False) == (
        "--bos no cannot leave out the BOS token that the chat template writes"
    )


def test_a_template_that_cuts_a_demonstration_is_an_error() -> None:
    lm = reader(chat_tokenizer(THINKING))
    worked = PROMPT + "{% block answer %} {{ thought }} {{ option }}{% endblock %}"
    record = {"q": "is it hot?", "label": 0, "thought": "It is July.</think>"}

    assert "leaves out or changes a message of the assistant" in refusal(
        lm, task_of(record, [record | {"q": "2"}], worked), shots=1
    )


def test_what_has_no_form_as_messages_is_reported_in_one_sentence() -> None:
    lm = reader(chat_tokenizer(CHATML))
    written = "{% block query %}Q: {{ q }}<|im_end|>{% endblock %}"
    other = "{% block query %}{{ q }}{% endblock %}{% block demonstration %}Known: {{ q }}{% endblock %}"

    assert "the prompt contains <|im_end|>, but in a chat only the chat template may write control tokens" in refusal(
        lm, task_of(prompt=written)
    )
    assert "use --chat-demonstrations message" in refusal(lm, task_of(prompt=other))
    assert "the query is empty" in refusal(lm, task_of(prompt="{% block query %}{% endblock %}"), shots=0)
    with pytest.raises(IclEvalError, match="`chat_instruction` has no effect without `chat`"):
        read_run("m", ["t"], {"chat_instruction": "user"})
    with pytest.raises(IclEvalError, match="`overflow` truncate would cut the beginning of the chat template"):
        read_run("m", ["t"], {"chat": True, "overflow": "truncate"})


def test_a_demonstration_block_that_begins_with_the_query_is_two_turns() -> None:
    lm = reader(chat_tokenizer(CHATML))
    block = "{% block query %}{{ q }}{% endblock %}{% block demonstration %}{{ q }} really, yes{% endblock %}"
    (query,) = queries(lm, task_of(prompt=block), shots=1)

    assert "user\nis it cold?<|im_end|>\n<|im_start|>assistant\nreally, yes<|im_end|>" in "".join(
        lm.decode(query.conditional[0].tokens)
    )


def test_a_run_folder_keeps_conversations_as_the_model_read_them(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer(CHATML)
    lm = reader(tokenizer)
    (query,) = queries(lm, task_of())
    options = tuple(OptionResult(text, (-1.0,), (-1.0,)) for text in ("yes", "no"))
    example = ChoiceResult(
        query.cell, query.example.id, "", "", 2, 0, query.demonstrations, (0,), ("yes", "no"), options
    )
    with text_writer(tmp_path) as keep:
        keep(example, parts_of(query, token_decoder(lm)))
    messages = conversation(
        "Say yes or no.", in_system=True, questions=["is it cold?", "is it wet?", "is it hot?"], replies=["no", "yes"]
    )

    assert PromptTexts(tmp_path).prompt(example) == tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=False
    )
