from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from icl_eval.errors import DataError, PromptError, TaskError, UnknownName
from icl_eval.prompts import Prompt
from icl_eval.tasks import Decode, Example, Library, MemorySource, Task, limited

RECORDS = [
    {"text": "blue", "label": 1},
    {"text": "green", "label": 0},
    {"text": "red", "label": 0},
]


def sky(**overrides: Any) -> Task:
    return Task.from_records(
        "sky", **{"evaluation": RECORDS, "prompt": "{{ text }}?", "options": ["no", "yes"]} | overrides
    )


def grouped(*groups: str) -> list[Example]:
    return [Example(str(n), {"n": n}, ("a",), (0,), str(n), group) for n, group in enumerate(groups)]


NOWHERE = MemorySource({})


def test_records_become_examples_without_files() -> None:
    examples = sky().evaluation(NOWHERE)

    assert [(example.fields["text"], example.options, example.gold) for example in examples] == [
        ("blue", ("no", "yes"), (1,)),
        ("green", ("no", "yes"), (0,)),
        ("red", ("no", "yes"), (0,)),
    ]


def test_demonstrations_are_the_evaluation_records_if_none_are_given() -> None:
    task = sky()

    assert task.shares_split
    assert task.demonstrations(NOWHERE) == task.evaluation(NOWHERE)


def test_given_demonstrations_are_another_split() -> None:
    task = sky(demonstrations=[{"text": "grey", "label": 1}])

    assert not task.shares_split
    assert [example.fields["text"] for example in task.demonstrations(NOWHERE)] == ["grey"]


def test_bare_template_answers_with_a_space_and_the_option() -> None:
    prompt = sky().prompt()

    assert (prompt.style, prompt.answer({"text": "x"}, ("no", "yes"), 1)) == ("inline", " yes")


def test_several_prompts_go_by_style() -> None:
    task = sky(prompt={"short": "{{ text }}", "long": Prompt("Is it {{ text }}?", "long")})

    assert task.prompt().query(RECORDS[0], (), 0) == "blue"
    assert task.prompt("long").query(RECORDS[0], (), 0) == "Is it blue?"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"options": []}, r"task 'sky': `options"),
        ({"prompt": {}}, r"task 'sky': `prompts`"),
        ({"names": ["a", "b", "c"]}, r"task 'sky': .*`gold.names` has 3 names for 2 options"),
        ({"draw": "sometimes"}, r"task 'sky': `draw`: Input should be 'per_example', 'per_group', 'fixed' or 'first'"),
        ({"normalization": "length"}, r"task 'sky': `normalization`: Input should be"),
        ({"metrics": []}, r"task 'sky': `metrics`"),
        ({"options": ["no", 3]}, r"task 'sky': `options"),
        ({"options": {"no", "yes"}}, "task 'sky': `options` is a set, which has no order; give a list"),
        ({"metrics": {"accuracy", "macro_f1"}}, "task 'sky': `metrics` is a set"),
        ({"names": {"a", "b"}}, "task 'sky': `names` is a set"),
        ({"names": ["a", "a"]}, "task 'sky': .*`gold.names` has 'a' twice"),
        ({"evaluation": None}, "task 'sky': `evaluation` must be a list of records, not NoneType"),
        ({"demonstrations": {"text": "x"}}, "task 'sky': `demonstrations` must be a list of records, not dict"),
        ({"prompt": None}, "task 'sky': `prompt` must be a template, not NoneType"),
        ({"prompt": ["{{ text }}"]}, "task 'sky': `prompt` must be a template, not list"),
        ({"prompt": {"plain": b"{{ text }}"}}, "task 'sky': `prompt` must be a template, not bytes"),
    ],
)
def test_mistake_in_the_definition_is_named(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        sky(**keys)


@pytest.mark.parametrize("name", ["", "a b", "../a", "a//b"])
def test_name_that_no_file_could_have_is_refused(name: str) -> None:
    with pytest.raises(TaskError, match="`task`"):
        Task.from_records(name, evaluation=RECORDS, prompt="{{ text }}", options=["no", "yes"])


def capital(**overrides: Any) -> Task:
    records = [{"country": "France", "city": "Paris"}, {"country": "Bolivia", "city": ["Sucre", "La Paz"]}]
    default = {"evaluation": records, "prompt": "{{ country }}:", "answer": "text", "references": "city"}
    return Task.from_records("capital", **default | overrides)


def test_a_metric_may_be_given_by_its_name() -> None:
    assert sky(metrics="macro_f1").definition.metrics == ["macro_f1"]


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("key", ["temperature", "length_penalty"])
def test_decoding_takes_finite_numbers(key: str, value: float) -> None:
    with pytest.raises(TaskError, match=f"`decode.{key}`: "):
        capital(decode={"samples": 3, key: value})


def test_references_are_options_that_are_all_right() -> None:
    task = capital(metrics=["squad_f1"], decode={"beams": 4})
    one, two = task.evaluation(NOWHERE)

    assert (one.options, one.gold, two.options, two.gold) == (("Paris",), (0,), ("Sucre", "La Paz"), (0, 1))
    assert task.definition.decode == Decode(beams=4)
    assert task.prompt().demonstration(two.fields, two.options, two.gold[0]) == "Bolivia: Sucre"


@pytest.mark.parametrize("block", ["{{ option }}", "{{ options[0] }}", "{{ index }}"])
def test_query_that_shows_the_reference_is_an_error(block: str) -> None:
    prompt = f"{{% block instruction %}}x{{% endblock %}}\n{{% block query %}}{{{{ country }}}} {block}{{% endblock %}}"

    with pytest.raises(PromptError, match=r"prompt 'inline':2: the query uses `\w+`, which reveals the answer"):
        capital(prompt=prompt).check_fields(NOWHERE)


def test_answer_and_demonstration_may_use_the_reference() -> None:
    prompt = "{% block query %}{{ country }}{% endblock %}{% block demonstration %}{{ options | join }}{% endblock %}"

    capital(prompt=prompt).check_fields(NOWHERE)


def test_no_records_are_an_error() -> None:
    with pytest.raises(DataError, match="sky: split 'evaluation' is empty"):
        sky(evaluation=[]).evaluation(NOWHERE)


def test_broken_template_is_an_error() -> None:
    with pytest.raises(PromptError, match="prompt 'inline':1: the template does not parse"):
        sky(prompt="{{ text")


def test_misspelt_field_is_found_before_any_model_runs() -> None:
    with pytest.raises(
        UnknownName, match=r"prompt 'inline':2: no field of the example is named 'txt'; did you mean text"
    ):
        sky(prompt="Colour:\n{{ txt }}").check_fields(NOWHERE)


def test_examples_are_converted_once_per_source() -> None:
    task = Library().task("superglue/rte")
    record = {"premise": "p", "hypothesis": "h", "label": 0, "idx": 1}
    one, other = MemorySource({"validation": [record]}), MemorySource({"validation": [record | {"premise": "q"}]})

    assert task.evaluation(one) is task.evaluation(one)
    assert [task.evaluation(source)[0].fields["premise"] for source in (one, other, one)] == ["p", "q", "p"]


def test_digest_is_of_what_can_change_an_answer() -> None:
    digest = sky().digest

    assert sky(prompt="{{ text }} other").digest == digest
    assert sky(evaluation=RECORDS[:1]).digest == digest
    for scored in ({"metrics": ["macro_f1"]}, {"normalization": "sum"}, {"by": "text"}):
        assert sky(**scored).digest == digest
    for changed in ({"options": ["n", "y"]}, {"draw": "fixed"}, {"gold": "other"}):
        assert sky(**changed).digest != digest


def test_digest_depends_on_the_task_that_gives_the_demonstrations() -> None:
    library = Library()
    task = library.task("superglue/axb")
    source = task.demonstration_task
    assert source is not None
    changed = Task(source.definition.model_copy(update={"cluster": "premise"}), source.prompts)

    assert Task(task.definition, task.prompts, demonstration_task=changed).digest != task.digest
    assert library.task("superglue/axb").digest == task.digest


def test_demonstrations_of_a_task_that_was_not_loaded_are_an_error() -> None:
    definition = Library().task("superglue/axb").definition

    with pytest.raises(TaskError, match="takes demonstrations from 'superglue/rte', which was not loaded"):
        Task(definition, {}).demonstrations(NOWHERE)


def names(examples: Sequence[Example]) -> list[str]:
    return [example.id for example in examples]


def test_no_limit_keeps_every_example() -> None:
    assert limited(grouped("a", "b"), None, "t") == grouped("a", "b")


def test_limit_of_the_first_counts_groups_and_keeps_them_whole() -> None:
    examples = grouped("a", "b", "a", "c", "b")

    assert names(limited(examples, "first:1", "t")) == ["0", "2"]
    assert names(limited(examples, "first:2", "t")) == ["0", "1", "2", "4"]
    assert limited(examples, "first:9", "t") == limited(examples, 9, "t") == examples


def test_the_sample_of_olmes_is_that_of_pythons_random_numbers() -> None:
    many = [Example(str(n), {}, ("a", "b"), (0,), str(n), str(n)) for n in range(1501)]
    expected = {str(n) for n in random.Random(1234).sample([*range(1501)], 1000)}

    assert {each.id for each in limited(many, "olmes", "sky")} == expected
    assert [*limited(many[:1500], "olmes", "sky")] == many[:1500]
    in_categories = [replace(each, category="c") for each in many]
    assert [*limited(in_categories, "olmes", "sky")] == in_categories


def test_a_limit_is_a_sample_that_depends_on_task_and_groups_alone() -> None:
    examples = grouped(*(f"g{n // 2}" for n in range(200)))
    samples = [names(limited(examples, limit, "t")) for limit in (10, 20, 50)]

    assert [len(sample) for sample in samples] == [20, 40, 100]
    assert set(samples[0]) < set(samples[1]) < set(samples[2])
    assert set(names(limited(examples[::-1], 20, "t"))) == set(samples[1])
    assert names(limited(examples, 20, "other")) != samples[1]
    assert samples[1] == sorted(samples[1], key=int)
    assert {int(name) // 2 for name in samples[1]} == {int(name) // 2 for name in samples[1][::2]}


def test_a_sample_is_spread_over_the_data() -> None:
    """Of 400 groups in two halves, 100 drawn without return: the first half's share is hypergeometric, sd 4.3."""
    chosen = names(limited(grouped(*map(str, range(400))), 100, "t"))

    assert 50 - 17 < sum(int(name) < 200 for name in chosen) < 50 + 17


def test_another_split_is_evaluated_and_drawn_from() -> None:
    task = Library().task("superglue/rte")
    other = task.on("train", "validation")
    record = {"premise": "p", "hypothesis": "h", "label": 0, "idx": 1}
    source = MemorySource({"train": [record | {"idx": 2}], "validation": [record]})

    assert [each.id for each in other.evaluation(source)] == ["2"]
    assert [each.id for each in other.demonstrations(source)] == ["1"]
    assert (task.shares_split, other.shares_split, task.on(fewshot_split="validation").shares_split) == (0, 0, 1)


def test_another_split_makes_another_digest() -> None:
    task = Library().task("superglue/rte")

    assert task.on().digest == task.on("validation", "train").digest == task.digest
    assert len({task.digest, task.on("train").digest, task.on(fewshot_split="validation").digest}) == 3


def test_a_split_of_the_task_can_replace_the_demonstrations_of_another() -> None:
    task = Library().task("superglue/axb").on(fewshot_split="test")
    source = MemorySource({"test": [{"sentence1": "p", "sentence2": "h", "label": 0, "idx": 1}]})

    assert task.demonstrations(source) == task.evaluation(source)
    assert task.shares_split


@pytest.mark.parametrize("chosen", [{"split": "validaton"}, {"fewshot_split": "validaton"}])
def test_misspelt_split_names_the_nearest(chosen: dict[str, str]) -> None:
    with pytest.raises(
        UnknownName, match=r"rte\.yaml: no split of superglue/rte is named .* did you mean validation\?"
    ):
        Library().task("superglue/rte").on(**chosen)


def test_split_of_records_in_memory_is_checked_when_it_is_read() -> None:
    with pytest.raises(UnknownName, match="no split is named 'test'; choose from evaluation"):
        sky().on("test").evaluation(NOWHERE)
