from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from transformers import AutoTokenizer

from icl_eval.demos import Pool
from icl_eval.models import ControlTokens
from icl_eval.models.tokenization import line_encoder
from icl_eval.prompts import Scored
from icl_eval.tasks import Example, MemorySource, Task
from icl_eval.tasks.protocol import Protocol
from icl_eval.testing import FakeLM, check_task, invariants
from icl_eval.testing.invariants import WITH_DRAWS
from icl_eval.tiny import MODEL

RECORDS = [{"text": f"thing {index}", "label": index % 2} for index in range(8)]
SHOWN = [{"text": f"other {index}", "label": index % 2} for index in range(8)]


def made(**changes: Any) -> Task:
    settings: dict[str, Any] = {
        "evaluation": RECORDS,
        "demonstrations": SHOWN,
        "prompt": "{{ text }}\nanswer:",
        "options": ["yes", "no"],
        **changes,
    }
    return Task.from_records("things", **settings)


def complaint(task: Task, **options: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        check_task(task, **options)
    assert str(caught.value).startswith("things")
    return str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"demonstrations": None},
        {"draw": "fixed"},
        {"prompt": {"plain": "{{ text }}", "lettered": "{{ text }}\n{{ letters[0] }}"}},
        {"prompt": "{% block query %}{{ option }}:{% endblock %}{% block answer %} {{ text }}{% endblock %}"},
        {"options": ["{{ text }} yes", "{{ text }} no"]},
        {"prompt": "{% block query %}<u>{{ text }}<a>\n\n{% endblock %}{% block answer %}{{ option }}{% endblock %}"},
    ],
)
def test_a_sound_task_passes(changes: dict[str, Any]) -> None:
    check_task(made(**changes))
    check_task(made(**changes), model=FakeLM(bos=True), shots=[2])


def test_a_template_that_fails_for_one_record_is_found() -> None:
    records = [*RECORDS, {"text": None, "label": 0}]

    assert "cannot be rendered" in complaint(made(evaluation=records, prompt="{{ text.upper() }}"))


@pytest.mark.parametrize(("split", "word"), [("evaluation", "example"), ("demonstrations", "demonstration")])
def test_the_record_that_a_template_fails_for_is_named(split: str, word: str) -> None:
    splits = {
        name: [{**record, "key": f"{name} {number}"} for number, record in enumerate(records)]
        for name, records in (("evaluation", RECORDS), ("demonstrations", SHOWN))
    }
    splits[split].append({"key": "z9", "label": 0})

    assert f"'text' is undefined ({word} 'z9')" in complaint(made(**splits, id="key"))


def test_every_style_is_rendered() -> None:
    assert "'tex'" in complaint(made(prompt={"good": "{{ text }}", "bad": "{{ tex }}"}))


def test_a_context_that_ends_in_whitespace_is_found() -> None:
    assert "the context ends in whitespace" in complaint(made(prompt="{{ text }} "))


def test_an_empty_answer_is_found() -> None:
    assert "is empty" in complaint(made(options=["yes", ""]))


def test_options_that_read_the_same_are_found() -> None:
    assert "the options 'yes' and 'yes' have the same text in the prompt" in complaint(made(options=["yes", "yes"]))
    prompt = "{% block query %}{{ text }}{% endblock %}{% block answer %} right{% endblock %}"
    assert "the options 'yes' and 'no' have the same text in the prompt" in complaint(made(prompt=prompt))


def test_a_record_may_list_an_option_twice() -> None:
    check_task(made(options=["{{ text }}", "{{ text }}", "no"]))


def test_options_in_the_context_must_share_the_answer() -> None:
    prompt = "{% block query %}{{ option }}{% endblock %}{% block answer %} {{ option }}{% endblock %}"

    assert "queries differ between options, and so do the answers scored" in complaint(made(prompt=prompt))


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        ([Scored([1], [2]), Scored([3], [2])], "the options do not share the tokens of their context"),
        ([Scored([1], [2]), Scored([1], [])], "an answer has no tokens"),
    ],
)
def test_tokens_that_cannot_be_compared_are_found(
    tokens: list[Scored], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invariants, "split_tokens", lambda *_: tokens)

    assert sentence in complaint(made(), model=FakeLM())


def test_too_few_demonstrations_are_reported() -> None:
    assert "9 demonstrations were requested" in complaint(made(), shots=[9])


def test_a_query_that_does_not_fit_is_reported() -> None:
    assert "the query alone takes" in complaint(made(), model=FakeLM(window=8))


def test_a_label_out_of_range_is_found() -> None:
    assert "the label 7 is out of range for 2 options" in complaint(made(evaluation=[{"text": "a", "label": 7}]))


Draw = Callable[[Pool, Example, int, int], list[Example]]


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (lambda pool, query, shots, seed: [query][:shots], "is among its own demonstrations"),
        (
            lambda pool, query, shots, seed: [replace(query, id="copy")][:shots],
            "is among its own demonstrations",
        ),
        (
            lambda pool, query, shots, seed: [replace(query, id=f"{shots}", fields={"text": f"other {shots}"})] * shots,
            "the 1-shot draw is not a prefix of the larger one",
        ),
    ],
)
def test_draws_that_break_the_rules_are_found(draw: Draw, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pool, "draw", draw)

    assert sentence in complaint(made(demonstrations=None))


def test_a_task_without_records_needs_a_source() -> None:
    task = made()
    bare = replace(task, source=None)

    assert complaint(bare) == "things does not contain records; pass a source"
    check_task(bare, MemorySource({"evaluation": RECORDS, "demonstrations": SHOWN}))


def written(**changes: Any) -> Task:
    settings: dict[str, Any] = {"answer": "text", "options": None, "references": "answers", **changes}
    answers = ["one", "one", "two"]
    records = [{"text": f"thing {number}", "answers": answers, "part": number // 2} for number in range(8)]
    return made(evaluation=records, demonstrations=None, **settings)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"draw": "per_group", "group": "part"},
        {"answer": "likelihood", "references": "text"},
        {"prompt": "{% block query %}{{ text }}{% endblock %}{% block answer %} {{ options | join }}{% endblock %}"},
    ],
)
def test_a_sound_task_of_texts_passes(changes: dict[str, Any]) -> None:
    check_task(written(**changes), shots=[0, 1, 3])


def test_query_that_gives_the_reference_away_is_found() -> None:
    assert "the query uses `option`, which reveals the answer" in complaint(written(prompt="{{ text }} {{ option }}:"))


def test_document_may_exceed_the_window_and_a_prompt_may_not() -> None:
    window = FakeLM(window=8)
    check_task(written(answer="likelihood", references="text"), model=window, shots=[0])

    assert "the query alone takes" in complaint(written(), model=window, shots=[0])


def test_context_of_a_text_that_ends_in_whitespace_is_found() -> None:
    assert "the context ends in whitespace" in complaint(written(prompt="{{ text }} "))


def test_a_demonstration_of_the_querys_group_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    task = written(draw="per_group", group="part")
    sibling = {example.id: example for example in task.evaluation(MemorySource({}))}
    twins = {one: other for a, b in zip(*[iter(sibling)] * 2, strict=True) for one, other in ((a, b), (b, a))}
    monkeypatch.setattr(Pool, "draw", lambda _, query, shots, seed: [sibling[twins[query.id]]][:shots])

    assert "is among its own demonstrations" in complaint(task, shots=[1])


def test_a_record_is_encoded_as_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    lm = FakeLM(window=12)
    lm.controls = ControlTokens(tokenizer)
    monkeypatch.setattr(lm, "encode", line_encoder(tokenizer, lm.controls))
    records = [{"text": "<|endoftext|>" * 3, "label": 0}, {"text": "thing", "label": 1}]
    task = made(evaluation=records, demonstrations=None)

    assert "the query alone takes" in complaint(task, shots=[0], model=lm)  # a control token would be one token
    check_task(made(evaluation=records[1:], demonstrations=None), shots=[0], model=lm)


def test_draws_of_many_examples_are_checked_of_some_and_demonstrations_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 2 * WITH_DRAWS
    evaluation = [{"text": f"thing {index}", "label": 0, "kind": index == 17} for index in range(count)]
    demonstrations = [
        {**record, "text": f"other {index}", "kind": False} for index, record in enumerate(evaluation[:20])
    ]
    draws: list[str] = []
    draw = Pool.draw

    def counted(pool: Pool, query: Example, shots: int, seed: int) -> list[Example]:
        draws.extend([query.fields["text"]] * (shots > 0))
        return draw(pool, query, shots, seed)

    monkeypatch.setattr(Pool, "draw", counted)
    task = made(evaluation=evaluation, demonstrations=demonstrations)
    check_task(task)
    within = Protocol(within="kind")

    assert draws == [f"thing {index}" for index in range(0, count, 2) for _ in (1, 4)]
    alone = replace(task, definition=task.definition.model_copy(update={"protocol": within}))
    assert "there are 0 for the query" in complaint(alone)
