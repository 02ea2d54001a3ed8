"""Tasks answered in writing or by a likelihood, on the published files under `ICL_EVAL_DATA`."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from icl_eval.tasks import Library, LocalSource, MemorySource
from icl_eval.tasks.data import Data
from icl_eval.testing import check_task

pytestmark = pytest.mark.skipif("ICL_EVAL_DATA" not in os.environ, reason="ICL_EVAL_DATA names no official release")
LIBRARY = Library()

SIZES = {  # Table C.1 of the GPT-3 paper where the split is the paper's, else the published file's
    ("lambada", "test"): 5153,
    ("nq", "validation"): 3610,
    ("nq", "efficientqa"): 1800,
    ("webquestions", "test"): 2032,
    ("webquestions", "train"): 1000,
    ("triviaqa", "subset"): 3000,
    ("coqa", "test"): 4708,
    ("drop", "flat"): 9536,
    ("translation/wmt14-fr-en", "test"): 3003,
    ("translation/wmt14-en-fr", "test"): 3003,
    ("translation/wmt14-en-fr", "newsdiscuss"): 1500,
    ("translation/wmt16-de-en", "test"): 2999,
    ("translation/wmt16-en-de", "test"): 2999,
    ("translation/wmt16-en-de", "validation"): 2169,
    ("translation/wmt16-ro-en", "test"): 1999,
    ("translation/wmt16-en-ro", "test"): 1999,
    ("superglue-generated/boolq", "validation"): 3270,
    ("superglue-generated/cb", "validation"): 56,
    ("superglue-generated/rte", "validation"): 277,
    ("superglue-generated/wic", "validation"): 638,
    ("superglue-generated/wsc", "validation"): 104,
}
PASSAGES = {("coqa", "test"): 300, ("drop", "flat"): 579}
WORDS = 241_211  # of the test set; the usual 245,569 counts an end of line for each of its 4358 lines


@pytest.fixture
def source() -> LocalSource:
    return LocalSource(Path(os.environ["ICL_EVAL_DATA"]))


@pytest.mark.parametrize(("name", "split"), SIZES)
def test_the_published_files_are_read_whole(name: str, split: str, source: LocalSource) -> None:
    examples = LIBRARY.task(name).split(split, source)

    assert len({example.id for example in examples}) == len(examples) == SIZES[name, split]
    assert len({example.group for example in examples}) == PASSAGES.get((name, split), len(examples))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("lambada", "test"),
        ("nq", "efficientqa"),
        ("webquestions", "test"),
        ("triviaqa", "subset"),
        ("coqa", "test"),
        ("translation/wmt16-en-ro", "test"),
        ("superglue-generated/rte", "validation"),
        ("superglue-generated/wsc", "validation"),
    ],
)
def test_every_example_keeps_the_invariants(name: str, split: str, source: LocalSource) -> None:
    check_task(LIBRARY.task(name).on(split, split), source, [0, 1])


def test_generative_wsc_evaluates_true_and_false_nouns_and_draws_true_ones(source: LocalSource) -> None:
    task = LIBRARY.task("superglue-generated/wsc")
    evaluated = task.evaluation(source)

    assert [sum(bool(example.gold) is right for example in evaluated) for right in (True, False)] == [38, 66]
    prompts = {task.prompt().query(each.fields, ("",), 0) for each in evaluated}
    assert (len(prompts), len({example.cluster for example in evaluated})) == (53, 38)
    assert len(task.demonstrations(source)) == 259
    assert not re.search(r" [.,;:]| [’']s", "".join(prompts))


def test_contexts_and_last_words_of_lambada_make_up_the_passages(source: LocalSource) -> None:
    task = LIBRARY.task("lambada")
    texts = [record["text"] for record in source.records(task.definition.data, "test")]
    examples = task.evaluation(source)

    for text, example in zip(texts, examples, strict=True):
        assert example.fields["context"] + example.fields["space"] + example.options[0] == text.strip()
    after_a_line_break = [number for number, example in enumerate(examples) if example.fields["space"] != " "]
    assert after_a_line_break == [426, 1053, 2881, 3047, 3977, 4351, 4462]


def test_articles_of_wikitext_have_its_words(source: LocalSource) -> None:
    task = LIBRARY.task("wikitext-2")
    lines = [record["text"] for record in source.records(task.definition.data, "test")]
    articles = [example.options[0] for example in task.evaluation(source)]

    assert (len(lines), len(articles)) == (4358, 62)
    assert sum(len(article.split()) for article in articles) == WORDS
    assert "\n".join(articles).strip() == "\n".join(lines).strip()


def test_detokenized_wikitext_has_its_letters(source: LocalSource) -> None:
    task = LIBRARY.task("wikitext-2")
    for example in task.evaluation(source)[:10]:
        joined = task.prompt("detokenized").answer(example.fields, example.options, 0)
        assert _letters(joined) == _letters(example.options[0])
        assert len(joined) < len(example.options[0])


def _letters(text: str) -> str:
    for mark in ("@-@", "@,@", "@.@"):
        text = text.replace(f" {mark} ", mark[1])
    return "".join(text.split())


def test_drops_references_begin_with_the_published_completion(source: LocalSource) -> None:
    task = LIBRARY.task("drop")
    records = source.records(task.definition.data, "flat")
    published = sorted((record["context"], tuple(record["ref_text"].split("|"))) for record in records)
    prompt = task.prompt()
    examples = task.split("flat", source)

    assert sorted((prompt.query(each.fields, each.options, 0), each.options) for each in examples) == published


def test_coqa_has_four_references_or_five_and_a_history(source: LocalSource) -> None:
    examples = LIBRARY.task("coqa").split("test", source)

    assert {len(example.options) for example in examples} == {4, 5}
    assert {len(each.fields["history"]) == int(each.id.rpartition("-")[2]) - 1 for each in examples} == {True}


def test_squads_earlier_version_is_read_as_well(source: LocalSource) -> None:
    data = Data(local={"validation": "squad/squaddev_v1.1.json"})
    records = MemorySource({"validation": source.records(data, "validation")})
    examples = LIBRARY.task("squadv2").evaluation(records)

    assert len(examples) == 10_565  # five of the 10,570 are missing from this edition
    assert not any("unanswerable" in example.options for example in examples)


OFFICIAL = {  # the publishers' own files, cut to a few records
    "coqa/coqa-train-v1.0.json": "coqa",
    "drop/drop_dataset_train.json": "drop",
    "drop/drop_dataset_dev.json": "drop",
    "drop/allennlp_drop.json": "drop",
    "quac/train_v0.2.json": "quac",
    "quac/val_v0.2.json": "quac",
    "squad_v2/dev-v2.0.json": "squadv2",
    "triviaqa/unfiltered-web-train.json": "triviaqa",
    "triviaqa/unfiltered-web-dev.json": "triviaqa",
}


@pytest.mark.parametrize(("file", "name"), OFFICIAL.items())
def test_official_formats_become_sound_examples(file: str, name: str, source: LocalSource) -> None:
    data = Data(local={"all": f"fixtures/{file}"})
    task = LIBRARY.task(name)
    split = task.definition.splits.evaluation
    records = MemorySource({split: source.records(data, "all")})

    check_task(task.on(None, split), records, [0])
    assert all(example.options for example in task.evaluation(records))
