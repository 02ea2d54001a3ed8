"""The ten SuperGLUE tasks give the same examples from the official release and from the Hub."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import datasets
import pytest
from bundled_tasks import LIBRARY, bundled_task
from superglue_records import CONFIGURATIONS, OFFICIAL, hub_dataset, write_release

from icl_eval.errors import DataError
from icl_eval.tasks import Example, HubSource, LocalSource, MemorySource, Source, Task

TASKS = list(OFFICIAL)
Load = Callable[..., datasets.Dataset]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> LocalSource:
    """The files of all releases below a folder `superglue`, not to be changed."""
    return LocalSource(write_release(tmp_path_factory.mktemp("release") / "superglue"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> HubSource:
    def load(path: str, name: str, *, split: str, revision: str | None) -> datasets.Dataset:
        assert (path, revision) == ("aps/super_glue", None)
        task = {configuration: task for task, configuration in CONFIGURATIONS.items()}[name]
        return hub_dataset(task, OFFICIAL[task][split])

    monkeypatch.setattr(datasets, "load_dataset", load)
    return HubSource()


def task_of(name: str) -> Task:
    return bundled_task(f"superglue/{name}")


def only(name: str, source: Source) -> Example:
    (example,) = task_of(name).evaluation(source)
    return example


@pytest.mark.parametrize("name", TASKS)
def test_release_and_hub_give_identical_examples(name: str, release: LocalSource, hub: HubSource) -> None:
    task = task_of(name)

    assert task.evaluation(release) == task.evaluation(hub)
    assert task.demonstrations(release) == task.demonstrations(hub)


@pytest.mark.parametrize("name", TASKS)
def test_release_is_found_below_a_folder_named_superglue(name: str, release: LocalSource) -> None:
    parent = LocalSource(release.directory.parent)

    assert task_of(name).evaluation(release) == task_of(name).evaluation(parent)


@pytest.mark.parametrize("name", TASKS)
def test_every_prompt_names_fields_that_examples_have(name: str, release: LocalSource) -> None:
    task_of(name).check_fields(release)


@pytest.mark.parametrize(
    ("name", "gold"),
    [
        ("boolq", [1, 0]),
        ("cb", [0, 1]),
        ("copa", [0, 1]),
        ("rte", [0, 1]),
        ("wic", [0, 1]),
        ("wsc", [1, 0]),
        ("axb", [0, 1]),
        ("axg", [0, 1]),
    ],
)
def test_labels_of_the_first_records_become_option_indices(name: str, gold: list[int], release: LocalSource) -> None:
    split = "test" if name.startswith("ax") else "train"

    assert [(index,) for index in gold] == [example.gold for example in task_of(name).split(split, release)]


def test_boolq_example_is_canonical(release: LocalSource) -> None:
    example = only("boolq", release)

    assert example.fields == {
        "passage": "Harbour -- The harbour of the town is old. It still works.",
        "question": "can ships rest in a harbour",
    }
    assert (
        example.options,
        example.gold,
        example.id,
        example.cluster,
        example.group,
    ) == (("no", "yes"), (1,), "2", "2", "2")


def test_copa_options_are_the_choices(release: LocalSource) -> None:
    assert only("copa", release).options == ("She overslept.", "She bought a kite.")


def test_multirc_has_one_example_per_answer(release: LocalSource) -> None:
    examples = task_of("multirc").evaluation(release)

    assert [example.id for example in examples] == ["2-4-10", "2-4-11", "2-4-12", "2-5-13", "2-5-14"]
    assert [example.group for example in examples] == ["2-4", "2-4", "2-4", "2-5", "2-5"]
    assert {"2"} == {example.cluster for example in examples}
    assert [example.gold for example in examples] == [(1,), (0,), (1,), (0,), (1,)]
    assert examples[3].fields["answers"] == [
        {"text": "On a hill", "label": False},
        {"text": "By the pier", "label": True},
    ]


def test_multirc_rows_of_one_question_need_not_be_neighbours(hub: HubSource) -> None:
    rows = list(hub_dataset("multirc", OFFICIAL["multirc"]["validation"]))
    apart = MemorySource({"validation": [*rows[::2], *rows[1::2]]})
    expected = {(example.id, example.gold) for example in task_of("multirc").evaluation(hub)}

    assert expected == {(example.id, example.gold) for example in task_of("multirc").evaluation(apart)}


def test_record_options_are_distinct_entities_in_order_of_first_mention(release: LocalSource) -> None:
    first, second = task_of("record").evaluation(release)

    assert (first.options, second.options) == (("Nell", "Orla"), ("Nell", "Orla"))
    assert (first.gold, second.gold) == ((0,), (1,))
    assert (first.id, second.id, first.cluster, second.cluster) == ("2-4", "2-5", "2", "2")


def test_record_passage_is_parted_from_its_highlights(release: LocalSource) -> None:
    fields = task_of("record").evaluation(release)[0].fields

    assert (fields["passage"], fields["highlights"]) == ("Nell sailed to Orla.", ["Orla cheered", "A feast for Nell"])


def test_record_entity_within_another_one_keeps_both(release: LocalSource) -> None:
    assert task_of("record").demonstrations(release)[2].options == ("Max", "Max Bay")


def test_wsc_text_is_parted_at_the_pronoun(release: LocalSource) -> None:
    first, second = task_of("wsc").demonstrations(release)

    assert first.fields == {
        "before": "Carl lent Dan the net because ",
        "pronoun": "he",
        "after": " had two.",
        "noun": "Carl",
    }
    assert second.fields["after"] == " was low, he said."


def wsc(text: str, noun: str, pronoun: str, index: int) -> dict[str, Any]:
    """The fields of one schema."""
    target = {"span1_text": noun, "span1_index": 0, "span2_text": pronoun, "span2_index": index}
    row = {"text": text, "target": target, "label": True, "idx": 0}
    return dict(only("wsc", MemorySource({"validation": [row]})).fields)


def test_wsc_pronoun_beside_punctuation_keeps_it() -> None:
    fields = wsc('Kay said: "It fell." So it did.', "Kay", "It", 2)

    assert (fields["before"], fields["after"]) == ('Kay said: "', ' fell." So it did.')


@pytest.mark.parametrize(("stated", "before"), [(0, ""), (4, "He sat while "), (7, "He sat while he ate and ")])
def test_wsc_pronoun_is_the_one_nearest_to_the_stated_word(stated: int, before: str) -> None:
    text = "He sat while he ate and he sang."

    assert wsc(text, "Lou", "He" if stated == 0 else "he", stated)["before"] == before


@pytest.mark.parametrize("stated", [4, 5, 6])
def test_wsc_pronoun_one_word_off_is_found_and_not_within_another_word(stated: int) -> None:
    fields = wsc("Lou left then because there he met her.", "Lou", "he", stated)

    assert (fields["before"], fields["after"]) == ("Lou left then because there ", " met her.")


@pytest.mark.parametrize("noun", ["the pier", "The pier.", "the\npier"])
def test_wsc_noun_is_written_as_in_the_text(noun: str) -> None:
    assert wsc("The pier fell since it was old.", noun, "it", 4)["noun"] == "The pier"


def test_wsc_text_without_its_pronoun_is_an_error() -> None:
    with pytest.raises(DataError, match=r"split 'validation', record 1: .*does not contain 'him'"):
        wsc("The pier fell since it was old.", "The pier", "him", 4)


def test_axg_twins_are_one_group_and_one_cluster() -> None:
    row = {"premise": "p", "hypothesis": "h", "label": 0}
    rows = [{**row, "idx": number} for number in range(4)]
    examples = task_of("axg").evaluation(MemorySource({"test": rows}))

    assert [example.group for example in examples] == ["0", "0", "1", "1"]
    assert [example.cluster for example in examples] == ["0", "0", "1", "1"]


def test_diagnostics_show_examples_of_rte(release: LocalSource) -> None:
    expected = task_of("rte").demonstrations(release)

    assert expected == task_of("axb").demonstrations(release)
    assert expected == task_of("axg").demonstrations(release)


@pytest.mark.parametrize(
    ("name", "record", "message"),
    [
        ("multirc", {"idx": 0, "passage": {"text": "t"}}, "the record has no field 'questions'"),
        ("multirc", {"idx": 7, "paragraph": "t", "question": "q"}, "not in a known layout"),
        ("record", {"idx": 0, "passage": "t", "query": "q"}, r"not in a known layout|no field"),
        ("wsc", {"idx": 0, "text": 3}, "not in a known layout"),
        ("wsc", {"idx": 0}, "the record has no field 'text'"),
    ],
)
def test_record_in_neither_layout_is_an_error(name: str, record: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        task_of(name).evaluation(MemorySource({"validation": [record]}))


@pytest.mark.parametrize("name", ["multirc", "record", "wsc", "boolq"])
def test_hidden_label_is_an_error(name: str) -> None:
    rows = {
        "multirc": {
            "idx": 0,
            "passage": {"text": "t", "questions": [{"question": "q", "idx": 0, "answers": [{"text": "a", "idx": 0}]}]},
        },
        "record": {
            "idx": 0,
            "passage": {"text": "Pam", "entities": [{"start": 0, "end": 2}]},
            "qas": [{"query": "q", "idx": 0}],
        },
        "wsc": {"idx": 0, "text": "it is", "span1_text": "is", "span1_index": 1, "span2_text": "it", "span2_index": 0},
        "boolq": {"idx": 0, "passage": "p", "question": "q", "label": -1},
    }

    with pytest.raises(DataError, match=r"the record has no label|no option is marked as right"):
        list(task_of(name).evaluation(MemorySource({"validation": [rows[name]]})))


def test_suite_has_the_eight_tasks_that_are_averaged() -> None:
    assert [f"superglue/{name}" for name in sorted(TASKS) if not name.startswith("ax")] == LIBRARY.suite(
        "superglue"
    ).tasks
    assert LIBRARY.suite("superglue").average
    assert not LIBRARY.suite("superglue-diagnostics").average


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ConnectionError("no route to the Hub\nmore lines"), "no route to the Hub;"),
        (ValueError(), "ValueError;"),
        (FileNotFoundError("not cached"), "not cached;"),
    ],
)
def test_hub_failure_names_data_set_and_way_out(
    failure: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*args: object, **kwargs: object) -> datasets.Dataset:
        raise failure

    monkeypatch.setattr(datasets, "load_dataset", load)

    with pytest.raises(DataError, match=f"'aps/super_glue' \\(rte, split validation\\).*{reason} --data-dir"):
        task_of("rte").evaluation(HubSource())


def test_task_without_hub_data_names_the_way_out() -> None:
    with pytest.raises(DataError, match="pass --data-dir"):
        bundled_task("symbols").evaluation(HubSource())


def test_hub_revision_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[tuple[Any, ...]] = []

    def load(path: str, name: str, *, split: str, revision: str | None) -> list[dict[str, Any]]:
        loaded.append((path, name, split, revision))
        return OFFICIAL["rte"]["validation"]

    monkeypatch.setattr(datasets, "load_dataset", load)
    definition = task_of("rte").definition
    assert definition.data.hub is not None
    pinned = definition.data.model_copy(update={"hub": definition.data.hub.model_copy(update={"revision": "abc"})})
    Task(definition.model_copy(update={"data": pinned}), {}).evaluation(HubSource())

    assert loaded == [("aps/super_glue", "rte", "validation", "abc")]


def test_a_split_may_have_another_name_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(path: str, name: str, *, split: str, revision: str | None) -> list[dict[str, Any]]:
        loaded.append(split)
        return OFFICIAL["rte"]["validation"]

    monkeypatch.setattr(datasets, "load_dataset", load)
    definition = task_of("rte").definition
    assert definition.data.hub is not None
    named = definition.data.hub.model_copy(update={"splits": {"validation": "dev_r1"}})
    task = Task(definition.model_copy(update={"data": definition.data.model_copy(update={"hub": named})}), {})
    task.evaluation(HubSource())
    task.demonstrations(HubSource())

    assert loaded == ["dev_r1", "train"]
