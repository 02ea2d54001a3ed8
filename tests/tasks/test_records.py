from __future__ import annotations

import datetime
import json
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import jinja2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import nodes

from icl_eval.errors import DataError, UnknownName
from icl_eval.prompts import sandbox
from icl_eval.tasks import Example, MemorySource, Task, TaskDefinition, conversion
from icl_eval.tasks.files import parse_json
from icl_eval.tasks.records import Examples

Records = list[dict[str, Any]]


def definition(**overrides: Any) -> TaskDefinition:
    default = {
        "task": "sky",
        "about": "",
        "splits": {"demonstrations": "train", "evaluation": "validation"},
        "gold": {"field": "label", "names": ["no", "yes"]},
        "options": ["No", "Yes"],
        "prompts": ["plain"],
        "fields": {"text": "text"},
    }
    return TaskDefinition.model_validate(default | overrides)


def converted(records: Records, **overrides: Any) -> list[Example]:
    return list(Examples(definition(**overrides), records, "sky: split 'train'"))


def failure(records: Records, **overrides: Any) -> str:
    with pytest.raises((DataError, UnknownName)) as caught:
        converted(records, **overrides)
    return str(caught.value)


def gold(label: Any, **overrides: Any) -> tuple[int, ...]:
    return converted([{"text": "t", "label": label}], **overrides)[0].gold


def test_empty_split_is_an_error() -> None:
    assert failure([]) == "sky: split 'train' is empty"


def test_missing_field_names_record_and_nearest_field() -> None:
    records = [{"text": "t", "label": "no"}, {"txt": "t", "label": "no"}]

    assert failure(records) == "sky: split 'train', record 2: no field of the record is named 'text'; did you mean txt?"


def test_path_into_a_text_is_an_error() -> None:
    assert "'text.inner' cannot be read: 'inner' would be in a str" in failure(
        [{"text": "t", "label": "no"}], fields={"a": "text.inner"}
    )


def test_dotted_path_leads_into_mappings() -> None:
    (example,) = converted([{"a": {"b": {"c": 1}}, "label": "no"}], fields={"inner": "a.b.c"})

    assert example.fields == {"inner": 1}


def test_field_whose_name_has_a_dot_is_found() -> None:
    (example,) = converted([{"question.text": "t", "label": "no"}], fields={})

    assert example.fields == {"question.text": "t", "label": "no"}


@pytest.mark.parametrize(
    ("label", "index"),
    [("no", 0), ("yes", 1), (0, 0), (1, 1), (1.0, 1), ("0", 0), ("1", 1)],
)
def test_label_is_a_name_or_an_index(label: Any, index: int) -> None:
    assert gold(label) == (index,)


@pytest.mark.parametrize(("label", "index"), [(False, 1), (True, 0), ("false", 1), (1, 0), (0, 1)])
def test_name_of_an_option_comes_before_its_number(label: Any, index: int) -> None:
    names = ["true", "false"] if isinstance(label, bool | str) else ["1", "0"]

    assert gold(label, gold={"field": "label", "names": names}) == (index,)


@pytest.mark.parametrize("names", [["True", "False"], ["TRUE", "FALSE"], ["true", "false"]])
@pytest.mark.parametrize(("label", "index"), [(True, 0), (False, 1)])
def test_truth_value_equals_a_name_regardless_of_letter_case(label: bool, index: int, names: list[str]) -> None:
    assert gold(label, gold={"field": "label", "names": names}) == (index,)


@pytest.mark.parametrize("names", [["yes", "no"], ["1", "0"], ["true", "no"]])
def test_truth_value_that_no_name_equals_is_an_error(names: list[str]) -> None:
    assert "no label is named 'False'; choose from " in failure(
        [{"text": "t", "label": False}], gold={"field": "label", "names": names}
    )


@pytest.mark.parametrize("label", [True, [False, True]])
def test_truth_value_without_names_does_not_choose_an_option(label: Any) -> None:
    assert "which option does that mean? List the names in the order" in failure(
        [{"text": "t", "label": label}], gold={"field": "label"}
    )


STARS = {"options": ["bad", "fair", "good"], "gold": {"field": "label", "names": ["1", "2", "3"]}}


@pytest.mark.parametrize(("label", "index"), [(1, 0), (1.0, 0), ("1", 0), (2.0, 1), (3, 2), (3.0, 2), ([1.0, 3], None)])
def test_number_equals_the_name_with_its_value(label: Any, index: int | None) -> None:
    assert gold(label, **STARS) == ((index,) if index is not None else (0, 2))


@pytest.mark.parametrize("label", [1, 1.0, "1.0"])
def test_names_may_be_decimal_numbers(label: Any) -> None:
    assert gold(label, options=["bad", "good"], gold={"field": "label", "names": ["1.0", "2.0"]}) == (0,)


@pytest.mark.parametrize("label", [0, 0.0, "0", "01", "1.0", 4, 1.5, True, "-2", "x"])
def test_numbers_are_no_indices_if_names_are_numbers(label: Any) -> None:
    assert f"no label is named '{label}'; " in failure([{"text": "t", "label": label}], **STARS)


@pytest.mark.parametrize("label", ["01", "00", "1.0"])
def test_text_with_another_form_of_a_number_is_no_index(label: str) -> None:
    assert f"no label is named '{label}'; choose from no, yes" in failure([{"text": "t", "label": label}])


@pytest.mark.parametrize("label", [None, math.nan])
def test_missing_label_equals_no_name(label: float | None) -> None:
    names = {"field": "label", "names": ["None", "nan"]}

    assert failure([{"text": "t", "label": label}], gold=names).split(": ")[-1].startswith("the record has no label")


@pytest.mark.parametrize("label", [[1, 0, 0], [0, 0], ["no", 0]])
def test_list_that_marks_each_option_is_an_error(label: Any) -> None:
    assert "has a label twice; " in failure([{"text": "t", "label": label}])


def test_several_options_may_be_right() -> None:
    assert gold(["yes", 0]) == (1, 0)


def test_gold_may_be_a_template() -> None:
    assert gold("no", gold={"field": "{{ 1 if label == 'no' else 0 }}"}) == (1,)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("yess", "no label is named 'yess'; did you mean yes?"),
        ("perhaps", "no label is named 'perhaps'; choose from no, yes"),
        (2, "the label 2 is out of range for 2 options"),
        ("-2", "the label -2 is out of range for 2 options"),
        (-1, "the record has no label; the labels of this split may not be public"),
        (None, "the record has no label; the labels of this split may not be public"),
        ([], "no option is marked as right"),
        ("²", "no label is named '²'"),
        ("--1", "no label is named '--1'"),
        ("", "no label is named ''"),
        (1.5, "no label is named '1.5'"),
        ("9" * 5000, "no label is named '9999"),
    ],
)
def test_wrong_label_is_an_error(label: Any, message: str) -> None:
    assert failure([{"text": "t", "label": label}]).startswith(f"sky: split 'train', record 1: {message}")


def test_label_name_without_names_shows_the_numbers() -> None:
    assert failure([{"text": "t", "label": "x"}], gold={"field": "label"}).endswith(
        "'x'; choose from 0, 1; if labels have names, list them in the order of the options: `gold.names`"
    )


def test_label_name_beyond_the_options_of_its_record_is_an_error() -> None:
    keys = {
        "options": "choices",
        "fields": {"choices": "choices"},
        "gold": {"field": "label", "names": ["A", "B", "C"]},
    }
    records = [{"choices": ["x", "y"], "label": "C"}]

    assert failure(records, **keys).endswith("the label 2 is out of range for 2 options")


@pytest.mark.parametrize("listed", [[], "text", None, {}])
def test_field_that_lists_no_options_is_an_error(listed: Any) -> None:
    keys = {"options": "choices", "fields": {"choices": "choices"}}

    assert "'choices' lists no options" in failure([{"choices": listed, "label": 0}], **keys)


@pytest.mark.parametrize("key", ["gold", "cluster", "by"])
def test_name_of_fields_is_no_field_of_the_record(key: str) -> None:
    keys = {"fields": {"text": "text", "kind": "label"}, key: {"field": "kind"} if key != "cluster" else "kind"}

    assert failure([{"text": "t", "label": 0}], **keys).endswith(
        "no field of the record is named 'kind'; choose from label, text; `fields` defines 'kind' for prompts and "
        "`options` only, and other keys read the record: write 'label'"
    )


def test_options_field_must_be_a_canonical_field() -> None:
    keys = {"options": "choises", "fields": {"choices": "choices"}}

    assert "`options`: no entry of `fields` is named 'choises'; did you mean choices?" in failure(
        [{"choices": ["a"]}], **keys
    )


def test_listed_options_are_taken_literally() -> None:
    literal = ["{{ text }}", "{% raw %}", 'it\'s "so"', "C:\\new", "'''", "00"]
    keys = {"options": "choices", "fields": {"choices": "choices"}}

    assert converted([{"choices": literal, "label": 0}], **keys)[0].options == tuple(literal)


def test_option_templates_render_once() -> None:
    (example,) = converted([{"text": "{{ label }} \" ' \\n", "label": "no"}], options=["{{ text }}", "other"])

    assert example.options == ("{{ label }} \" ' \\n", "other")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ txt }}", "'txt' is undefined"),
        ("{{ 1 // 0 }}", "integer division"),
        ("{{ text // 2 }}", "unsupported operand"),
        ("{{ text.__class__ }}", "unsafe"),
        ("{% for a in range(11000) %}{{ 'a' * 1000 }}{% endfor %}{{ text }}", "longer than"),
        ("{{ cycler(9) }}", "cannot be called"),
        ("{{ text", "unexpected end"),
        ("{{ text | uper }}", "no filter is named 'uper'; did you mean upper?"),
    ],
)
def test_failing_template_is_an_error_of_its_record(template: str, reason: str) -> None:
    message = failure([{"text": "t", "label": "no"}], fields={"text": template})

    assert message.startswith(f"sky: split 'train', record 1: {template!r} cannot be rendered: ")
    assert reason in message
    assert "\n" not in message


def test_equal_ids_are_an_error() -> None:
    records = [{"text": "a", "label": 0, "idx": 7}, {"text": "b", "label": 0, "idx": 7}]

    assert failure(records, id="idx") == "sky: split 'train', record 2: the id '7' is also that of record 1"


def test_unknown_adapter_names_the_known_ones() -> None:
    assert failure([{}], data={"adapter": "multirk"}) == "no data adapter is named 'multirk'; did you mean multirc?"


def test_text_with_half_a_character_is_an_error() -> None:
    assert "record 1: a text is not valid Unicode" in failure([{"text": "\ud800", "label": 0}])


@given(st.permutations(["a", "b", "c", "d"]))
def test_ids_by_content_do_not_depend_on_order(texts: list[str]) -> None:
    straight = {e.fields["text"]: e.id for e in converted([{"text": text, "label": 0} for text in "abcd"])}

    assert straight == {e.fields["text"]: e.id for e in converted([{"text": text, "label": 0} for text in texts])}


def test_ids_by_content_ignore_the_label() -> None:
    assert len({converted([{"text": "t", "label": label}])[0].id for label in (0, 1)}) == 1


@pytest.mark.parametrize("fields", [{}, {"text": "text"}])
def test_fingerprint_is_of_the_question_alone(fields: dict[str, str]) -> None:
    records = [{"text": "t", "label": "no", "idx": 1}, {"text": "t", "label": "yes", "idx": 2}]
    one, other = converted(records, id="idx", fields=fields)

    assert one.fingerprint == other.fingerprint
    assert (
        one.fingerprint != converted([{"text": "u", "label": "no", "idx": 1}], id="idx", fields=fields)[0].fingerprint
    )


def test_repeated_content_gets_numbered_ids_separate_groups_and_one_cluster() -> None:
    first, second, third = converted([{"text": "t", "label": label} for label in (0, 1, 0)])

    assert (second.id, third.id) == (f"{first.id}-2", f"{first.id}-3")
    assert [each.group for each in (first, second, third)] == [first.id, second.id, third.id]
    assert {each.cluster for each in (first, second, third)} == {first.id}


def test_group_and_cluster_default_to_the_id() -> None:
    (example,) = converted([{"text": "t", "label": 0, "idx": 3}], id="idx")

    assert (example.id, example.group, example.cluster) == ("3", "3", "3")


def test_example_made_by_hand_has_a_fingerprint() -> None:
    one, other = (Example("1", {"text": text}, ("a",), (0,), "1", "1") for text in "ab")

    assert one.fingerprint != other.fingerprint


def test_ids_by_content_are_the_same_in_every_process() -> None:
    script = (
        "from icl_eval.tasks import TaskDefinition\nfrom icl_eval.tasks.records import Examples\n"
        "d = TaskDefinition.model_validate({'task': 't', 'about': '', 'splits': {'demonstrations': 'a',"
        " 'evaluation': 'a'}, 'gold': {'field': 'label'}, 'options': ['x', 'y'], 'prompts': ['p']})\n"
        "r = {'b': 'ü', 'a': {'z': 1, 'c': [2.5, None]}, 'label': 0}\nprint(Examples(d, [r], 's')[0].id)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1")
    }

    assert len(outputs) == 1


def test_dates_of_columnar_files_can_be_in_the_id() -> None:
    one, other = (converted([{"text": datetime.date(2020, 1, day), "label": 0}])[0].id for day in (1, 2))

    assert one != other


@pytest.mark.parametrize(("record", "kind"), [("text", "str"), (1, "int"), (["a", "b"], "list"), ({1: "a"}, "dict")])
def test_record_that_is_no_mapping_of_names_is_an_error(record: Any, kind: str) -> None:
    assert failure([record]).endswith(f"record 1: a record is a mapping of names to values, not a {kind}")


@pytest.mark.parametrize("value", [object(), {"a", "b"}, b"bytes"])
def test_value_that_has_no_stable_text_is_an_error(value: Any) -> None:
    assert "cannot be part of a question; map the fields" in failure([{"text": value, "label": 0}])


def test_values_of_numpy_are_those_of_python() -> None:
    one, other = ([{"text": value, "label": 0}] for value in (np.arange(3), [0, 1, 2]))

    assert converted(one)[0].fingerprint == converted(other)[0].fingerprint


def test_templates_are_compiled_once_for_all_records(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    parse = sandbox.parse

    def counted(source: str) -> nodes.Template:
        parsed.append(source)
        return parse(source)

    monkeypatch.setattr(sandbox, "parse", counted)
    records = [{"text": str(number), "label": 0} for number in range(50)]
    found = converted(records, options=["{{ text ~ 'compiled once' }}", "b"])

    assert found[49].options == ("49compiled once", "b")
    assert len(parsed) == 1


@pytest.mark.parametrize("key", ["id", "cluster", "group"])
@pytest.mark.parametrize("value", [None, math.nan])
def test_a_null_name_of_a_record_is_an_error(key: str, value: Any) -> None:
    message = failure([{"text": "t", "label": "no", "name": value}], **{key: "name"})

    assert (
        message == "sky: split 'train', record 1: 'name' must be a text or a number to name the record or its group, "
        f"but it is {value}"
    )


def listing(options: Any) -> str:
    return failure([{"text": "t", "label": 0, "found": options}], options="found", gold={"field": "label"}, fields={})


@pytest.mark.parametrize("value", [None, True, math.nan, math.inf, ["b"]])
def test_an_option_that_is_no_text_is_an_error(value: Any) -> None:
    assert listing(["a", value]).endswith(f"'found' lists {value!r}, which is not a text")


def test_a_single_option_is_no_choice() -> None:
    assert listing(["a"]).endswith("'found' lists a single option; a task needs two or more")


def test_examples_of_a_group_are_one_cluster_by_default() -> None:
    found = converted([{"text": t, "label": "no", "g": "one"} for t in "ab"], group="g")

    assert [example.cluster for example in found] == ["one", "one"]


def test_an_id_that_is_the_whole_question_still_tells_questions_apart() -> None:
    found = converted([{"text": t, "label": "no"} for t in "ab"], id="text", fields={})

    assert found[0].fingerprint != found[1].fingerprint


def written(**overrides: Any) -> dict[str, Any]:
    return {"gold": None, "options": None, "answer": "text", "references": "answers"} | overrides


@pytest.mark.parametrize(
    ("answers", "options"),
    [
        ("one", ("one",)),
        (["one", "1"], ("one", "1")),
        (["one", "one"], ("one", "one")),
        ([1, 2.5], ("1", "2.5")),
        ("  one ", ("  one ",)),
        ("{{ text }}", ("{{ text }}",)),
        ("שלום 日本語", ("שלום 日本語",)),
    ],
)
def test_references_are_one_text_or_a_list_all_of_them_right(answers: Any, options: tuple[str, ...]) -> None:
    (example,) = converted([{"text": "t", "answers": answers}], **written())

    assert (example.options, example.gold) == (options, tuple(range(len(options))))


def test_references_may_be_a_dotted_path_or_a_template() -> None:
    record = {"text": "t", "answer": {"aliases": ["a", "b"], "value": "a"}}

    assert converted([record], **written(references="answer.aliases"))[0].options == ("a", "b")
    assert converted([record], **written(references="{{ answer.value }}!"))[0].options == ("a!",)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([], "'answers' gives 0 references, but the task needs at least one reference"),
        ("", "'answers' gives a reference without text"),
        (["a", " "], "'answers' gives a reference without text"),
        (None, "'answers' gives the reference None, which is not a text"),
        ([["a"]], "'answers' gives the reference ['a'], which is not a text"),
        (True, "'answers' gives the reference True, which is not a text"),
        (math.nan, "'answers' gives the reference nan, which is not a text"),
    ],
)
def test_wrong_reference_is_an_error(answers: Any, message: str) -> None:
    assert failure([{"text": "t", "answers": answers}], **written()) == f"sky: split 'train', record 1: {message}"


def test_likelihood_is_of_one_text() -> None:
    keys = written(answer="likelihood")

    assert converted([{"text": "t", "answers": ["a"]}], **keys)[0].options == ("a",)
    assert "gives 2 references, but the task needs one text" in failure([{"text": "t", "answers": ["a", "b"]}], **keys)


@pytest.mark.parametrize("fields", [{}, {"text": "text"}, {"text": "text", "shown": "answers"}])
def test_fingerprint_is_of_the_question_and_not_of_the_references(fields: dict[str, str]) -> None:
    one, other, third = converted(
        [{"text": text, "answers": answers} for text, answers in [("t", "a"), ("t", ["b", "c"]), ("u", "a")]],
        **written(fields=fields),
    )

    assert one.fingerprint == other.fingerprint != third.fingerprint


def test_documents_that_are_nothing_but_their_text_differ() -> None:
    keys = written(answer="likelihood", fields={}, references="page")
    one, other = converted([{"page": "a"}, {"page": "b"}], **keys)

    assert one.fingerprint != other.fingerprint
    assert one.id != other.id


def test_a_record_with_an_id_is_converted_when_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    convert = Mock(wraps=conversion.Conversion(definition(id="name", group="part")).example)
    monkeypatch.setattr(conversion.Conversion, "example", lambda _, *args: convert(*args))
    raw = [{"name": f"r{n}", "text": str(n), "label": "no", "part": n // 2} for n in range(6)]
    found = Examples(definition(id="name", group="part"), raw, "s")

    assert (len(found), found.ids[3], found.groups[3], convert.call_count) == (6, "r3", "1", 0)
    assert found[3] is found[-3] is found[2:4][1]
    assert [call.args[0] for call in convert.call_args_list] == [raw[3], raw[2]]
    assert found == list(Examples(definition(id="name", group="part"), raw, "s"))


def test_the_fault_of_a_record_names_it_whenever_it_is_found() -> None:
    raw = [{"name": f"r{n}", "text": "t", "label": "no" if n != 4 else "maybe"} for n in range(6)]
    found = Examples(definition(id="name"), raw, "sky: split 'train'")

    assert found[5].id == "r5"
    for index in (4, -2):
        with pytest.raises(DataError, match="sky: split 'train', record 5: no label is named 'maybe'"):
            found[index]


@pytest.mark.parametrize(
    "text",
    [
        *('{"a": [1, 2.5, "ü"]}', '{"a": 1}\n', "1 \t\r\n", " 1", '{"a": 1} {"b": 2}', "", "\ufeff1", "1\x0b", "nul"),
        *('"\\ud800"', "9" * 5000, b'{"a": "\xc3\xbc"}\n', b"\xff", b"\xef\xbb\xbf1", "1\n".encode("utf-16")),
    ],
)
def test_json_is_parsed_as_the_standard_library_does(text: str | bytes) -> None:
    def outcome(parse: Callable[[str | bytes], Any]) -> tuple[Any, str]:
        try:
            return parse(text), ""
        except ValueError as error:
            return type(error), str(error)

    assert outcome(parse_json) == outcome(json.loads)


def test_a_template_that_is_one_expression_may_give_a_list() -> None:
    record = {"right": "cat", "wrong": ["dog", "ant"], "n": 2, "none": None}
    evaluated = {source: sandbox.evaluate(source, record, "x") for source in ("{{ [right, wrong[0]] }}", "{{ wrong }}")}

    assert evaluated == {"{{ [right, wrong[0]] }}": ["cat", "dog"], "{{ wrong }}": ["dog", "ant"]}
    assert sandbox.evaluate("{{ n }}", record, "x") == "2"
    assert sandbox.evaluate("{{ right }}s", record, "x") == "cats"
    assert sandbox.evaluate("{% if n > 1 %}{{ right }}{% endif %}", record, "x") == "cat"
    for source in ("{{ wrong }} or not", "{{ none }}", "{{ {'a': n} }}", "{{ missing }}"):
        with pytest.raises((ValueError, jinja2.UndefinedError)):
            sandbox.evaluate(source, record, "x")


def test_lists_of_templates_are_made_for_every_record() -> None:
    task = Task.from_records(
        "t",
        evaluation=[{"q": "?", "a": "x", "b": "y", "gold": "y"}, {"q": "!", "a": "x", "b": "z", "gold": "x"}],
        prompt="{{ q }}",
        options="{{ [a, b] }}",
        gold="{{ [a, b].index(gold) }}",
    )
    examples = task.evaluation(MemorySource({}))

    assert [(each.options, each.gold) for each in examples] == [(("x", "y"), (1,)), (("x", "z"), (0,))]
