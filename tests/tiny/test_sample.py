"""The bundled files: schema, balance, offsets that point at the words, labels that agree with the text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from icl_eval.tiny import DATA
from tools.tiny.make_data import write_sample
from tools.tiny.records import DIAGNOSTICS, KINDS
from tools.tiny.sample import draw_sample, identity
from tools.tiny.symbols import DEMONSTRATIONS, LABELS
from tools.tiny.world import WORDS, Record

KEYS = {
    "BoolQ": {"question", "passage", "label", "idx"},
    "CB": {"premise", "hypothesis", "label", "idx"},
    "COPA": {"premise", "choice1", "choice2", "question", "label", "idx"},
    "MultiRC": {"version", "passage", "idx"},
    "ReCoRD": {"source", "passage", "qas", "idx"},
    "RTE": {"premise", "hypothesis", "label", "idx"},
    "WiC": {"word", "sentence1", "sentence2", "start1", "start2", "end1", "end2", "label", "idx", "version"},
    "WSC": {"text", "target", "label", "idx"},
    "AX-g": {"premise", "hypothesis", "label", "idx", "pair_id"},
}
SUPERGLUE = [task for task in KINDS if task not in DIAGNOSTICS]
LABELLED = [task for task in KINDS if task not in ("MultiRC", "ReCoRD")]


def read(name: str) -> list[Record]:
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


def files(task: str) -> list[str]:
    splits = [task] if task in DIAGNOSTICS else ["train", "val"]
    return [f"superglue/{task}/{split}.jsonl" for split in splits]


def records(task: str) -> Iterator[Record]:
    for name in files(task):
        yield from read(name)


def test_make_data_reproduces_the_bundled_files_byte_for_byte(tmp_path: Any) -> None:
    write_sample(tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    bundled = {path.relative_to(DATA): path.read_bytes() for path in DATA.rglob("*") if path.is_file()}

    assert made == bundled


def test_bundled_data_is_small_and_says_what_it_is() -> None:
    sizes = [path.stat().st_size for path in DATA.rglob("*") if path.is_file()]

    assert sum(sizes) < 600_000
    assert "It is not SuperGLUE" in (DATA / "README.md").read_text()


@pytest.mark.parametrize("task", SUPERGLUE)
def test_splits_are_large_enough_and_share_no_record(task: str) -> None:
    train, validation = (read(name) for name in files(task))

    assert len(train) >= 64
    assert len(validation) >= 32
    assert not {identity(record) for record in train} & {identity(record) for record in validation}


@pytest.mark.parametrize("task", KINDS)
def test_records_are_numbered_from_zero_and_differ(task: str) -> None:
    for name in files(task):
        found = read(name)

        assert [str(n) if task == "AX-b" else n for n in range(len(found))] == [record["idx"] for record in found]
        assert len({identity(record) for record in found}) == len(found)


@pytest.mark.parametrize("task", KEYS)
def test_records_have_exactly_the_keys_of_the_release(task: str) -> None:
    for record in records(task):
        assert KEYS[task] == set(record)


@pytest.mark.parametrize("task", LABELLED)
def test_labels_are_balanced(task: str) -> None:
    for name in files(task):
        counts = Counter(record["label"] for record in read(name))

        assert set(counts) == ({0, 1} if task == "COPA" else set(KINDS[task].meanings))
        assert len(set(counts.values())) == 1


def test_boolq_questions_are_lower_case_under_a_titled_passage() -> None:
    for record in records("BoolQ"):
        title, passage = record["passage"].split(" -- ")

        assert passage.startswith(title)
        assert record["question"] == record["question"].lower().removesuffix("?")


def test_cb_premises_contain_the_hypothesis() -> None:
    for record in records("CB"):
        assert f"{record['hypothesis']}." in record["premise"]


def test_copa_alternatives_differ() -> None:
    for record in records("COPA"):
        assert record["question"] in ("cause", "effect")
        assert record["choice1"] != record["choice2"]


def test_multirc_has_a_right_and_a_wrong_answer_to_each_of_several_questions() -> None:
    for name in files("MultiRC"):
        questions = [question for record in read(name) for question in record["passage"]["questions"]]
        answers = [answer for question in questions for answer in question["answers"]]

        assert len(questions) >= 2 * len(read(name))
        assert list(range(len(questions))) == [question["idx"] for question in questions]
        assert list(range(len(answers))) == [answer["idx"] for answer in answers]
        for question in questions:
            assert {answer["label"] for answer in question["answers"]} == {0, 1}
            assert len({answer["text"] for answer in question["answers"]}) == len(question["answers"])


def test_multirc_right_answers_are_in_the_passage() -> None:
    for record in records("MultiRC"):
        text = record["passage"]["text"]
        for question in record["passage"]["questions"]:
            for answer in question["answers"]:
                words = answer["text"].removeprefix("a ").split()
                assert not answer["label"] or all(word in text for word in words)


def test_record_spans_end_inclusively_on_the_words_they_name() -> None:
    for record in records("ReCoRD"):
        text = record["passage"]["text"]
        names = {text[span["start"] : span["end"] + 1] for span in record["passage"]["entities"]}
        for query in record["qas"]:
            assert query["query"].count("@placeholder") == 1
            assert query["answers"]
            for answer in query["answers"]:
                assert answer["text"] == text[answer["start"] : answer["end"] + 1]
                assert answer["text"] in names
        assert text.count("\n@highlight\n") >= 2
        assert len(names) == 4
        assert all(name.isalpha() for name in names)


def test_wic_offsets_point_at_the_word() -> None:
    for record in records("WiC"):
        for number in "12":
            start, end = record[f"start{number}"], record[f"end{number}"]
            assert record["word"] == record[f"sentence{number}"][start:end]


def test_wsc_indices_count_words_up_to_the_spans() -> None:
    for record in records("WSC"):
        words, target = record["text"].split(), record["target"]
        noun, pronoun = target["span1_text"].split(), target["span2_text"]

        assert noun == words[target["span1_index"] : target["span1_index"] + len(noun)]
        assert pronoun == words[target["span2_index"]]
        assert pronoun in ("he", "she", "it")


def test_axb_names_one_phenomenon_and_numbers_with_strings() -> None:
    families = {"logic", "lexical-semantics", "predicate-argument-structure", "knowledge"}
    for record in records("AX-b"):
        assert len(families & set(record)) == 1
        assert set(record) - families == {"idx", "label", "sentence1", "sentence2"}


def test_axg_twins_differ_in_one_pronoun_only() -> None:
    found = list(records("AX-g"))
    for first, second in zip(found[::2], found[1::2], strict=True):
        changed = [
            pair for pair in zip(first["premise"].split(), second["premise"].split(), strict=True) if len(set(pair)) > 1
        ]

        assert changed == [("he", "she")]
        assert (first["hypothesis"], first["label"]) == (second["hypothesis"], second["label"])
        assert first["pair_id"] == second["pair_id"]


def test_every_symbol_query_is_answered_by_its_demonstrations() -> None:
    train, validation = read("symbols/train.jsonl"), read("symbols/val.jsonl")
    labels_of: dict[int, dict[str, set[str]]] = {}
    for record in train:
        labels_of.setdefault(record["mapping"], {}).setdefault(record["symbol"], set()).add(record["label"])

    assert len(validation) >= 64
    assert set(Counter(record["mapping"] for record in train).values()) == {DEMONSTRATIONS}
    assert len({record["mapping"] for record in validation}) == len(validation)
    for record in validation:
        assert labels_of[record["mapping"]][record["symbol"]] == {record["label"]}
    assert set(Counter(record["label"] for record in validation).values()) == {len(validation) // len(LABELS)}


def test_symbols_are_used_with_all_labels() -> None:
    labels: dict[str, set[str]] = {}
    for record in read("symbols/train.jsonl"):
        labels.setdefault(record["symbol"], set()).add(record["label"])

    assert set(WORDS) == set(labels)
    assert all(len(found) >= 2 for found in labels.values())


def test_another_seed_gives_another_sample() -> None:
    assert draw_sample(1)["superglue/RTE/val.jsonl"] != draw_sample(2)["superglue/RTE/val.jsonl"]
