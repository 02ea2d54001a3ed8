from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from icl_eval.errors import PromptError
from icl_eval.prompts import Prompt
from icl_eval.prompts.formats import Format

LETTERED = """\
{% block query %}
{{ premise }}
Question: {{ question }}
{% for text in options %} {{ letters[loop.index0] }}. {{ text }}
{% endfor %}Answer:
{% endblock %}
{% block answer %} {{ letters[index] }}{% endblock %}
"""
CLOZE = "Review: {{ text }}\nSentiment:"
OPTIONS = ("one", "two", "three")
FIELDS = {"premise": "Answer: A. yes\nQuestion: no\n\nQ: \ta", "question": "Question: B || why:\nAnswer: C"}
BUNDLED = sorted((Path(__file__).parents[2] / "prompts").rglob("*.jinja"))


def rendered(prompt: Prompt, fields: dict[str, Any] | None = None, options: tuple[str, ...] = OPTIONS) -> str:
    """The first example with its second option."""
    fields = FIELDS if fields is None else fields
    return prompt.query(fields, options, 1) + "⟦" + prompt.answer(fields, options, 1) + "⟧"


def test_the_first_format_is_the_prompt_itself_and_no_format_comes_twice() -> None:
    prompt = Prompt(LETTERED, "p")
    formats = prompt.formats(60, 0)

    assert formats[0] is prompt
    assert [each.style for each in formats[:3]] == ["p", "p~f1", "p~f2"]
    assert len({rendered(each) for each in formats}) == len({each.digest for each in formats}) == 60


def test_texts_of_records_and_the_texts_of_options_never_change() -> None:
    for each in Prompt(LETTERED, "p").formats(60, 0):
        text = rendered(each)

        assert FIELDS["premise"] in text
        assert FIELDS["question"] in text
        assert all(text.count(option) == 1 for option in OPTIONS)


def test_formats_of_a_seed_are_the_same_everywhere_and_the_first_of_more() -> None:
    few, many, others = (
        [each.format.words for each in Prompt(CLOZE, "p").formats(number, seed)[1:] if each.format]
        for number, seed in ((4, 0), (20, 0), (4, 1))
    )

    assert few == [
        'separator "::", spacing "; \\n", names lower',
        'separator ":: ", spacing "; \\n", demonstrations "\\n\\n\\n", names lower',
        'separator " : ", spacing " || ", demonstrations "\\n\\n\\n", names upper',
    ]
    assert many[:3] == few
    assert not {*others} & {*few}
    assert Prompt(CLOZE, "p").formats(2, 7)[1].style == "p~f1s7"


@pytest.mark.parametrize(
    ("format", "text"),
    [
        (Format(separator=" - ", casing="upper"), "REVIEW - fine\nSENTIMENT -⟦ two⟧"),
        (Format(separator=":\n", casing="lower"), "review:\nfine\nsentiment:\n⟦two⟧"),
        (Format(separator="::", spacing=" || "), "Review::fine || Sentiment::⟦two⟧"),
        (Format(separator=" ", spacing="; \n"), "Review fine; \nSentiment⟦ two⟧"),
    ],
)
def test_separator_casing_and_spacing_of_fields(format: Format, text: str) -> None:
    prompt = Prompt(CLOZE, "p", format=format)

    assert rendered(prompt, {"text": "fine"}) == text
    assert prompt.demonstration({"text": "fine"}, OPTIONS, 1) == text.replace("⟦", "").replace("⟧", "")


@pytest.mark.parametrize(
    ("enumerator", "lines", "answer"),
    [
        ("(A)", " (A) one\n (B) two\n", " B"),
        ("[1]", " [1] one\n [2] two\n", " 2"),
        ("i.", " i. one\n ii. two\n", " ii"),
        ("a)", " a) one\n b) two\n", " b"),
    ],
)
def test_options_and_the_answer_have_the_same_enumerators(enumerator: str, lines: str, answer: str) -> None:
    text = rendered(Prompt(LETTERED, "p", format=Format(enumerator=enumerator)), options=("one", "two"))

    assert text.endswith(f"why:\nAnswer: C\n{lines}Answer:⟦{answer}⟧")


def test_enumerators_go_beyond_an_alphabet() -> None:
    letters = {first: Format(enumerator=f"{first}.").letters for first in "Aa1iI"}

    assert {first: each and (each[0], each[27], each[51]) for first, each in letters.items()} == {
        "A": ("A", "AB", "AZ"),
        "a": ("a", "ab", "az"),
        "1": ("1", "28", "52"),
        "i": ("i", "xxviii", "lii"),
        "I": ("I", "XXVIII", "LII"),
    }


def test_options_whose_letters_the_template_lists_keep_their_enumerators() -> None:
    formats = Prompt(LETTERED.replace("Question:", "Choose A, B or C.\nQuestion:"), "p").formats(30, 0)

    assert {each.format.enumerator for each in formats if each.format} == {None}


def test_line_breaks_of_a_chat_template_stay() -> None:
    source = "<|im_start|>user\nReview: {{ text }}<|im_end|>\n<|im_start|>assistant\nSentiment:"
    formats = Prompt(source, "p").formats(30, 0)

    assert {each.format.spacing for each in formats if each.format} == {None}
    assert len({each.format.separator for each in formats if each.format}) > 5


def test_a_name_that_comes_from_a_record_keeps_its_case_and_gets_the_separator() -> None:
    source = "{{ language }}: {{ text }}\n{{ other }}:"
    fields = {"language": "German", "text": "ja", "other": "French"}
    formats = Prompt(source, "p").formats(20, 0)

    assert {each.format.casing for each in formats if each.format} == {None}
    assert rendered(Prompt(source, "p", format=Format(separator=" - ")), fields) == "German - ja\nFrench -⟦ two⟧"


def test_a_heading_stays_on_a_separate_line() -> None:
    source = "Choices:\n{% for text in options %}- {{ text }}\n{% endfor %}Answer:"

    assert rendered(Prompt(source, "p", format=Format(separator=" - ", spacing=" ")), {}) == (
        "Choices -\n- one - two - three Answer -⟦ two⟧"
    )


def test_paragraphs_stay_apart_and_worked_examples_of_an_instruction_change_too() -> None:
    source = (
        "{% block instruction %}Note: read.\n\nQ: 1?\nA: 2.{% endblock %}"
        "{% block query %}{{ passage }}\n\nQ: {{ question }}\nA:{% endblock %}"
    )
    prompt = Prompt(source, "p", format=Format(separator=" - ", spacing=" || ", casing="lower"))

    assert prompt.instruction({}) == "Note: read.\n\nq - 1? || a - 2."
    assert rendered(prompt, {"passage": "P", "question": "Q"}) == "P\n\nq - Q || a -⟦ two⟧"
    assert prompt.answer_context({}) == "answer -"


def test_a_name_on_a_separate_line_needs_line_breaks_between_fields() -> None:
    formats = [each.format for each in Prompt(CLOZE, "p").formats(60, 0) if each.format]
    broken = [each for each in formats if each.separator and "\n" in each.separator]

    assert broken
    assert [each for each in broken if each.spacing and "\n" not in each.spacing] == []


def test_demonstrations_are_farther_apart_than_fields() -> None:
    for source, breaks in ((CLOZE, {"\n\n", "\n\n\n"}), (CLOZE.replace("\n", "\n\n"), {"\n\n", "\n\n\n"})):
        assert {each.separator for each in Prompt(source, "p").formats(30, 0)} == breaks


def test_a_generated_answer_ends_before_the_next_example_of_its_format() -> None:
    prompt = Prompt("Question: {{ q }}\nAnswer:", "p", format=Format(separator=" - ", casing="upper"))

    assert [*map(prompt.stop, ("Question:", "\n\n"))] == ["\nQUESTION -", "\n\n"]
    assert Prompt("Question: {{ q }}\nAnswer:").stop("Question:") == "Question:"


@pytest.mark.parametrize("source", ["{{ x }} ->", "{{ x }}\n{{ y }}", "Say {{ x }}"])
def test_a_prompt_without_names_and_letters_is_refused(source: str) -> None:
    with pytest.raises(
        PromptError, match=r"^prompt 'p': the prompt has no formats: it has no field names \(`Name:` at"
    ):
        Prompt(source, "p").formats(2, 0)


def test_more_formats_than_a_prompt_has_are_refused() -> None:
    source = "Review: {{ text }} is"
    with pytest.raises(PromptError, match=r"the prompt has 39 formats, so 40 cannot be drawn$"):
        Prompt(source, "p").formats(40, 0)

    assert len({rendered(each, {"text": "fine"}) for each in Prompt(source, "p").formats(39, 0)}) == 39


def test_roman_numerals_name_options_only_where_the_answer_is_not_one_of_them() -> None:
    texts = LETTERED.replace("{{ letters[index] }}", "{{ option }}")
    firsts = [
        {
            each.format.enumerator.strip("([.)]")
            for each in Prompt(source, "p").formats(60, 0)
            if each.format and each.format.enumerator
        }
        for source in (LETTERED, texts)
    ]

    assert firsts == [{"A", "a", "1"}, {"A", "a", "1", "i", "I"}]


def test_bundled_prompts_have_formats_or_are_refused() -> None:
    lists = {"history": [{"question": "<q>", "answer": "<a>"}], "highlights": ["<h>"], "answers": []}
    varied, refused = [], []
    for source in {re.sub(r"\{#.*?#\}\n", "", path.read_text("utf-8")) for path in BUNDLED}:
        prompt = Prompt(source, "p")
        try:
            formats = prompt.formats(2, 0)
        except PromptError as error:
            refused.append(str(error))
            continue
        fields = {name: f"<{name}>" for name in re.findall(r"[a-z]\w*", source)} | lists
        varied.append(len({rendered(each, fields) for each in formats}))

    assert varied == [2] * len(varied)
    assert all("has no formats: it has no field names" in each for each in refused)
    assert (len(varied), len(refused)) > (40, 10)
