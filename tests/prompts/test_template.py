from __future__ import annotations

import _thread
import logging
import math
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from unittest.mock import Mock

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_eval.config import ChatDemonstrations
from icl_eval.errors import IclEvalError, PromptError, UnknownName
from icl_eval.prompts import Prompt, PromptText, assemble, doubled_space, sandbox
from icl_eval.prompts.chat import Chat, Message

OPTIONS = ("no", "yes")
TEXT = Prompt("<{{ text }}>")


def query(source: str, **fields: Any) -> str:
    return Prompt(source).query(fields, OPTIONS, 0)


def block(name: str, body: str) -> str:
    return f"{{% block {name} %}}{body}{{% endblock %}}"


def test_source_without_blocks_is_the_query() -> None:
    prompt = Prompt("{{ text }}?")

    assert prompt.query({"text": "t"}, OPTIONS, 0) == "t?"
    assert prompt.answer({"text": "t"}, OPTIONS, 1) == " yes"
    assert prompt.instruction({"text": "t"}) == ""
    assert (prompt.separator, prompt.answer_context({})) == ("\n\n", "Answer:")


def test_a_prompt_has_every_block_in_order() -> None:
    bodies = {"instruction": "I {{ topic }}", "query": "Q {{ text }}", "answer": ": {{ option }}{{ index }}"}
    prompt = Prompt("\n".join(block(*each) for each in {**bodies, "separator": "|", "answer_context": "A"}.items()))
    demonstration = prompt.demonstration({"text": "d"}, OPTIONS, 1)
    text = assemble(prompt, {"text": "q", "topic": "sky"}, OPTIONS, [demonstration])

    assert text.context(0) + text.answers[0] == "I sky|Q d: yes1|Q q: no0"
    assert prompt.answer_context({}) == "A"


def test_parts_of_a_prompt_make_its_context() -> None:
    text = PromptText("Do it.", ("Q a: A", "Q b: B"), ("Q c:",), (" C",), "\n\n", replies=(" A", " B"))
    forms: tuple[ChatDemonstrations, ...] = ("turns", "message")
    texts = {"plain": text} | {str(form): replace(text, chat=Chat(_spoken, form)) for form in forms}
    named = {name: [(part, piece) for piece, part in each.parts(0, 1) if part] for name, each in texts.items()}

    for each in texts.values():
        assert "".join(piece for piece, _ in each.parts(0, 2)) == each.context(0, 2)
    whole = [("instruction", "Do it."), ("demonstration", "Q a: A"), ("query", "Q c:")]
    turns = [("demonstration", "Q a:"), ("demonstration", "A")]
    assert named == {"plain": whole, "turns": [whole[0], *turns, whole[2]], "message": whole}


def _spoken(messages: Sequence[Message]) -> str:
    return "".join(f"<{each['role']}>{each['content']}" for each in messages)


def test_demonstration_block_replaces_query_and_answer() -> None:
    prompt = Prompt(block("query", "{{ text }}") + block("demonstration", "{{ text }}={{ option }}"))

    assert prompt.demonstration({"text": "t"}, OPTIONS, 1) == "t=yes"
    assert prompt.query({"text": "t"}, OPTIONS, 1) == "t"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("a", "a"),
        ("\na\n", "a"),
        ("\n\na\n\n", "\na\n"),
        ("\n  a \n", "  a "),
        ("\n{{ text }}\n", "t"),
        ("\n{{ text }}\n{{ text }}\n", "t\nt"),
        ("\n{% if text %}\nb\n{% endif %}\n", "\nb\n"),
        ("", ""),
        ("\r\na\r\n", "a"),
    ],
)
def test_only_the_line_breaks_next_to_the_tags_of_a_block_are_dropped(body: str, text: str) -> None:
    assert query(block("query", body), text="t") == text


@pytest.mark.parametrize("body", ["\n", "\n\n"])
def test_a_block_of_nothing_but_line_breaks_is_an_error(body: str) -> None:
    with pytest.raises(PromptError, match=r'the block `separator` contains only line breaks.*write \{\{ "\\n" \}\}'):
        Prompt(block("query", "{{ text }}") + block("separator", body))


def test_answer_context_sees_the_fields() -> None:
    prompt = Prompt(block("query", "{{ text }}") + block("answer_context", "{{ text }}:"))

    assert prompt.answer_context({"text": "t"}) == "t:"


def test_empty_instruction_leaves_no_separator() -> None:
    assert PromptText("", ("d",), ("q",), ("a",), "|").context(0) == "d|q"


def test_empty_query_is_still_separated_from_what_stands_before() -> None:
    assert PromptText("i", ("d",), ("",), ("a",), "|").context(0) == "i|d|"
    assert PromptText("", (), ("",), ("a",), "|").context(0) == ""


@given(st.integers(0, 3))
def test_context_with_fewer_shots_keeps_the_first(shots: int) -> None:
    text = PromptText("i", ("a", "b", "c"), ("q",), ("x",), "|")

    assert text.context(0, shots) == "|".join(["i", *"abc"[:shots], "q"])


@pytest.mark.parametrize("option", ["", " ", "\n"])
def test_empty_answer_is_an_error(option: str) -> None:
    with pytest.raises(PromptError, match=r"the answer for option .* is empty"):
        assemble(Prompt("{{ text }}"), {"text": "t"}, ("yes", option), [])


@pytest.mark.parametrize(
    "literal",
    [
        "{{ text }}",
        "{% endblock %}",
        "{# comment",
        "'''",
        '"quoted" & <b>',
        "C:\\new",
        "00",
        "1000",
        "日本語のテキスト",
        "שלום עולם",
        "\u202eabc\u202c",
        "e\u0301 🏳️‍🌈",
        " space ",
        "\ttab",
    ],
)
def test_fields_and_options_are_rendered_literally(literal: str) -> None:
    prompt = Prompt(block("query", "<{{ text }}>") + block("answer", "<{{ option }}>"))
    text = assemble(prompt, {"text": literal}, (literal, "x"), [prompt.demonstration({"text": literal}, (literal,), 0)])

    assert text.context(0) + text.answers[0] == f"<{literal}><{literal}>\n\n<{literal}><{literal}>"


@given(st.text().filter(str.strip))
def test_any_text_is_rendered_literally(literal: str) -> None:
    assert TEXT.query({"text": literal}, OPTIONS, 0) == f"<{literal}>"
    assert TEXT.answer({}, (literal,), 0) == f" {literal}"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a\n{{ text", "PATH:2: the template does not parse: unexpected end of template"),
        ("{% if %}", "PATH:1: the template does not parse: Expected an expression"),
        ("a\n{{ text | uper }}", "PATH:2: the template does not parse: no filter is named 'uper'; did you mean upper?"),
        ("a\n{{ text is evn }}", "PATH:2: the template does not compile: No test named 'evn'"),
        (
            block("query", "a") + "\n" + block("anser", "b"),
            "PATH:2: no prompt block is named 'anser'; did you mean answer?",
        ),
        (block("answer", "a"), "PATH: there is no `{% block query %}`"),
        (block("query", "a") + "\n" + block("query", "b"), "PATH:2: the block `query` appears twice"),
        (block("query", "a\n" + block("answer", "b")), "PATH:2: the block `answer` is inside another"),
        (block("query", "a") + "\nlost\n", "PATH:1: text outside of blocks would not be part of any prompt"),
        (block("query", "a") + "\n{% set a = 1 %}", "PATH:2: text outside of blocks would not be part of any prompt"),
        (block("query", "a") + "{{ text }}", "PATH:1: text outside of blocks would not be part of any prompt"),
        (
            block("query", "a") + block("separator", "{{ text }}"),
            "PATH:1: block `separator` cannot be rendered: 'text' is",
        ),
        (block("query", "a"), ""),
    ],
)
def test_mistake_in_a_file_is_named_with_its_line(source: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "plain.jinja"
    path.write_text(source, encoding="utf-8")
    if not message:
        assert Prompt.from_file(path).style == "plain"
        return
    with pytest.raises(IclEvalError) as caught:
        Prompt.from_file(path)

    assert isinstance(caught.value, PromptError | UnknownName)
    assert str(caught.value).startswith(message.replace("PATH", str(path)))


def test_comments_and_blank_lines_may_stand_outside_blocks() -> None:
    assert query("{# about #}\n\n" + block("query", "a") + "\n\n{# more #}\n") == "a"


@pytest.mark.parametrize("content", [b"\xff", None])
def test_unreadable_file_is_an_error(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "plain.jinja"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(PromptError, match=r"plain\.jinja: cannot be read: "):
        Prompt.from_file(path)


@pytest.mark.parametrize("name", ["query", "answer", "demonstration", "instruction"])
def test_misspelt_field_is_named_with_its_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "plain.jinja"
    path.write_text(f"{block('query', 'q') if name != 'query' else ''}\n{block(name, 'a' + chr(10) + '{{ txt }}')}")
    prompt = Prompt.from_file(path)

    with pytest.raises(UnknownName) as caught:
        prompt.check_fields(["text", "other"])
    assert str(caught.value) == f"{path}:3: no field of the example is named 'txt'; did you mean text?"


def test_misspelt_field_never_renders_as_an_empty_text() -> None:
    with pytest.raises(PromptError, match="prompt 'inline':2: block `query` cannot be rendered: 'txt' is undefined"):
        query("a\n{{ txt }}", text="t")
    with pytest.raises(PromptError, match="has no attribute 'txt'"):
        query("{{ answer.txt }}", answer={"text": "t"})


def test_names_that_templates_are_given_are_no_fields() -> None:
    Prompt(
        "{{ options | join }}{{ option }}{{ letters[index] }}{% for o in options %}{{ o }}{% endfor %}"
    ).check_fields([])


@pytest.mark.parametrize("name", ["option", "index", "letters"])
def test_field_with_the_name_of_something_given_is_an_error(name: str) -> None:
    prompt = Prompt("\n{{ " + name + " }}")
    prompt.check_fields(["text"])

    with pytest.raises(PromptError, match=f"'inline':2: `{name}` is a field of the example"):
        prompt.check_fields(["text", name])
    Prompt("{{ text }}").check_fields(["text", name])


@pytest.mark.parametrize(
    ("source", "partial"),
    [
        ("{{ text }}", False),
        ("{{ option }}", True),
        ("{{ letters[index] }}", True),
        ("{{ options | join(', ') }}", False),
        ("{% for option in options %}{{ option }}{% endfor %}", False),
        (block("query", "q") + block("answer", "{{ option }}"), False),
    ],
)
def test_query_with_the_option_in_it_is_partial_evaluation(source: str, partial: bool) -> None:
    prompt = Prompt(source)
    contexts = {prompt.query({"text": "a text"}, ("yes", "no"), index) for index in range(2)}

    assert (len(contexts) == 2) == partial


def test_letters_are_enough_for_a_story_full_of_entities() -> None:
    assert query("{{ letters[0] }} {{ letters[25] }} {{ letters[26] }} {{ letters[701] }}") == "A Z AA ZZ"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "a value is null and would be written as `None`"),
        (["a"], "a list cannot be written as text"),
        (("a",), "a tuple cannot be written as text"),
        ({"a": 1}, "a dict cannot be written as text"),
        ({"a"}, "a set cannot be written as text"),
        (math.nan, "a value is not finite and would be written as `nan`"),
        (-math.inf, "a value is not finite and would be written as `-inf`"),
    ],
)
def test_value_without_an_obvious_text_is_an_error(value: Any, message: str) -> None:
    sources = ("{{ text }}", "{{ 'a' ~ text }}", "{{ ['a', text] | join }}", "{{ text | trim }}", "{{ text | upper }}")
    for source in (*sources, "{{ [text] | map('title') | list | first }}", "{{ text | replace('a', 'b') }}"):
        with pytest.raises(PromptError, match=message):
            query(source, text=value)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ 1 }} {{ 1.5 }} {{ true }}", "1 1.5 True"),
        ("{{ none | default('-', true) }}", "-"),
        ("{{ text | trim | capitalize }}", "A b"),
        ("{{ text.strip().upper() }}", "A B"),
        ("{{ 'a' ~ 1 ~ 'b' }}", "a1b"),
        ("{{ 'a' * 3 + 'b' }}", "aaab"),
        ("{{ text | replace('a', 'c') }}", " c b "),
        ("{{ text[1:] }}{{ text[1] }}", "a b a"),
        ("{{ (1, 2) | map('string') | join('+') }}", "1+2"),
        ("{% set a = text.split() %}{{ a[1] }}{{ a | length }}", "b2"),
        ("{% for o in options %}{{ loop.index }}{{ o }}{{ ', ' if not loop.last }}{% endfor %}", "1no, 2yes"),
        ("{% for o in options %}{{ loop.index }}{{ o }}{{ '' if loop.last else ', ' }}{% endfor %}", "1no, 2yes"),
        ("{% for o in options if o != 'no' %}{{ o }}{% else %}none{% endfor %}", "yes"),
        ("{% for k, v in more.items() %}{{ k }}={{ v }}{% endfor %}", "x=1"),
        ("{{ 2.5 | round(1) }} {{ 7 // 2 }} {{ 7 % 2 }}", "2.5 3 1"),
    ],
)
def test_language_is_rich_enough_for_prompts(source: str, text: str) -> None:
    assert query(source, text=" a b ", more={"x": 1}) == text


@pytest.mark.parametrize(
    "source",
    [
        "{% include 'a' %}",
        "{% import 'a' as b %}",
        "{% from 'a' import b %}",
        "{% extends 'a' %}",
        "{% macro a() %}{{ a() }}{% endmacro %}",
        "{% call a() %}{% endcall %}",
        "{% filter upper %}a{% endfilter %}",
        "{% with a = 1 %}{% endwith %}",
        "{% set a %}b{% endset %}",
        "{% for a in options recursive %}{{ loop(options) }}{% endfor %}",
        "{% autoescape true %}{% endautoescape %}",
        "{{ 9 ** 9 }}",
        "{{ cycler(1) }}",
        "{{ self.query() }}",
        "{{ super() }}",
        "{{ lipsum() }}",
        "{{ text['upper']() }}",
        "{{ (text.upper if text else text.lower)() }}",
        "{{ text.format(1) }}",
        "{{ text.center(1000000000) }}",
        "{{ text.replace('a', 'b') }}",
        "{{ text.encode() }}",
        "{{ options.append(1) }}",
        "{{ text | attr('upper') }}",
        "{{ text | random }}",
        "{{ text | center(1000000000) }}",
        "{{ text | indent(1000000000) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ options | sum(start=[]) }}",
        "{{ text | tojson }}",
        "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
        "{% for a in text %}" * 40 + "{% endfor %}" * 40,
        "{{ " + "-" * 3000 + "1 }}",
    ],
)
def test_what_the_language_lacks_is_an_error_of_the_file(source: str) -> None:
    with pytest.raises(PromptError, match=r"prompt 'inline'(:1)?: the template does not (parse|compile): "):
        Prompt(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ text.__class__ }}",
        "{{ text['__class__'] }}",
        "{{ options.__class__.__mro__ }}",
        "{{ text.upper }}",
        "{{ (text.upper).__self__ }}",
        "{{ ['__class__'] | map(attribute='__class__') | join }}",
        "{{ '{0.__class__}' % text }}",
        "{{ loop }}",
        "{{ config }}",
        "{{ namespace }}",
    ],
)
def test_attributes_of_python_are_out_of_reach(source: str) -> None:
    with pytest.raises(PromptError, match="cannot be rendered"):
        query(source, text="t")


LOOPS = "{% for a in range(100000) %}{% for b in range(100000) %}BODY{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for a in range(100001) %}{% endfor %}", "Range too big"),
        (LOOPS.replace("BODY", "{{ 'a' * 1000000 }}"), "the text is longer than 10000000 characters"),
        ("{{ range }}", "cannot be written as text"),
        ("{{ range(2).__class__ }}", "'__class__' of 'range' object is unsafe"),
    ],
)
def test_ranges_and_texts_are_bounded(source: str, message: str) -> None:
    assert query("{% for a in range(2, 4) %}{{ a }}{% endfor %}") == "23"
    Prompt(source).check_fields([])
    with pytest.raises(PromptError, match=message):
        query(source)


def test_an_interrupt_ends_a_slow_template_which_is_named_meanwhile() -> None:
    rendering: list[list[str] | None] = []

    def interrupt() -> None:
        rendering.append(sandbox._watch().rendering)
        _thread.interrupt_main()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process may be started without one
    try:
        threading.Timer(0.05, interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            query(LOOPS.replace("BODY", "{% if a is upper %}{% endif %}"))
    finally:
        signal.signal(signal.SIGINT, before)

    assert rendering == [["the block `query` of prompt 'inline'"]]


def test_what_renders_for_long_is_named_once() -> None:
    warnings: SimpleQueue[str] = SimpleQueue()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warnings.put(record.getMessage())

    logger, listener = logging.getLogger("icl_eval"), Listener()
    logger.addHandler(listener)
    watch = sandbox._Watch(patience=0.02)
    try:
        for name in ("one", "other"):
            watch.rendering = [name]
            message = warnings.get(timeout=60)
            assert message == f"{name} has been rendering for more than 0.02 seconds; Ctrl-C ends it"
    finally:
        watch.rendering = None
        logger.removeHandler(listener)
    assert warnings.empty()


def test_long_text_and_many_turns_are_within_bounds() -> None:
    source = "{{ text | trim }}{% for pair in pairs %}{{ pair.key }}: {{ pair.value | upper }}\n{% endfor %}"
    pairs = [{"key": str(number), "value": "v" * 20} for number in range(20_000)]

    assert query(source, text=" " + "x" * 2_000_000, pairs=pairs).endswith(f"19999: {'V' * 20}\n")


def test_rendering_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = Prompt("{{ text }}")
    prompt.answer({"text": "t"}, OPTIONS, 0)

    def refuse(*args: object, **kwargs: object) -> str:
        raise AssertionError("a template was compiled again")

    monkeypatch.setattr(jinja2.Environment, "compile", refuse)

    assert prompt.demonstration({"text": "t"}, OPTIONS, 0) == "t no"


def test_digest_is_of_the_source() -> None:
    assert Prompt("a").digest == Prompt("a", "other").digest
    assert Prompt("a").digest != Prompt("a ").digest


def test_prompt_renders_the_same_again_after_a_failure() -> None:
    prompt = Prompt("{{ text }}")
    with pytest.raises(PromptError):
        prompt.query({}, OPTIONS, 0)

    assert prompt.query({"text": "t"}, OPTIONS, 0) == "t"


def test_a_template_in_a_task_file_gives_a_list_only_if_it_is_one_expression() -> None:
    view = {"a": "x", "b": "y"}

    assert sandbox.evaluate("{{ [a, b] }}", view, "options") == ["x", "y"]
    assert sandbox.evaluate("{{ a }}", view, "options") == "x"
    assert sandbox.evaluate("{{ a }}{{ b }}", view, "options") == "xy"
    assert sandbox.evaluate("plain", view, "options") == "plain"
    with pytest.raises(ValueError, match="a list cannot be written as text"):
        sandbox.evaluate("{% if a %}{{ [a, b] }}{% endif %}", view, "options")


@pytest.mark.parametrize("option", [" even", "even"])
def test_a_space_that_the_answer_block_doubles_is_named(option: str) -> None:
    answers = {answer: doubled_space(option, answer) for answer in (f" {option}", option, "even")}

    assert {answer for answer, problem in answers.items() if problem} == ({f" {option}"} if option[0] == " " else set())


@pytest.mark.parametrize("source", ["", " \n\t\n"])
def test_a_file_without_words_is_an_error_and_a_query_that_says_nothing_is_not(source: str, tmp_path: Path) -> None:
    path = tmp_path / "plain.jinja"
    path.write_text(source)
    with pytest.raises(PromptError) as caught:
        Prompt.from_file(path)

    assert str(caught.value).startswith(f"{path}: the file is empty; ")
    path.write_text(block("query", ""))
    assert Prompt.from_file(path).query({}, ("a",), 0) == ""


@pytest.mark.parametrize(("source", "renderings"), [("{{ text }}", 1), ("{{ text }} {{ option }}", 2)])
def test_a_query_that_reads_the_same_for_all_options_is_rendered_once(
    source: str, renderings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt, render = Prompt(source), Mock(wraps=sandbox.render)
    monkeypatch.setattr(sandbox, "render", render)

    assert prompt.queries({"text": "t"}, OPTIONS) == tuple(prompt.query({"text": "t"}, OPTIONS, i) for i in (0, 1))
    assert render.call_count == renderings + 2


def test_a_file_is_compiled_once_until_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "plain.jinja"
    path.write_text("Q: {{ text }}")
    first = Prompt.from_file(path)
    same = Prompt.from_file(path)
    path.write_text("A: {{ text }}")  # of the same size, perhaps at the same time

    assert same is first
    assert Prompt.from_file(path).query({"text": "b"}, ("a",), 0) == "A: b"
    assert first.query({"text": "b"}, ("a",), 0) == "Q: b"


def test_a_field_of_the_instruction_is_part_of_the_question() -> None:
    prompt = Prompt(
        "{% block instruction %}{{ passage }}{% endblock %}{% block query %}{{ question }}{% endblock %}"
        "{% block answer_context %}{{ hint }}{% endblock %}",
        "p",
    )

    assert prompt.question_fields == {"passage", "question"}


@pytest.mark.parametrize("source", ["Q: {{ text }}", "{% block query %}Q: {{ text }}{% endblock %}"])
def test_byte_order_mark_is_not_part_of_the_prompt(source: str, tmp_path: Path) -> None:
    path = tmp_path / "plain.jinja"
    path.write_bytes(b"\xef\xbb\xbf" + source.encode())

    assert Prompt.from_file(path).query({"text": "x"}, (), 0) == "Q: x"
