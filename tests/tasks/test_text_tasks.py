"""Tasks whose answer is a text or a likelihood give the same examples from the releases and from the Hub."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import datasets
import pytest
from bundled_tasks import LIBRARY, bundled_task
from superglue_records import OFFICIAL, hub_dataset, write_release
from text_records import ON_THE_HUB, SPLITS, hub_rows, write_text_release

from icl_eval import evaluate
from icl_eval.demos import Pool
from icl_eval.errors import DataError, RunError
from icl_eval.prompts import assemble
from icl_eval.references import reference_names
from icl_eval.tasks import Example, HubSource, LocalSource, MemorySource, Task
from icl_eval.testing import FakeLM, check_task

SHOTS = {  # K of Table H.1
    "nq": 64,
    "triviaqa": 64,
    "webquestions": 64,
    "coqa": 5,
    "drop": 20,
    "quac": 5,
    "squadv2": 16,
    "lambada": 15,
    **{name: 64 for name in SPLITS if name.startswith("translation")},
}
GENERATED = ["boolq", "cb", "rte", "wic"]
BY_PASSAGE = ["coqa", "drop", "quac", "squadv2"]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> LocalSource:
    """The files of all releases, not to be changed."""
    return LocalSource(write_text_release(tmp_path_factory.mktemp("release")))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> HubSource:
    def load(path: str, name: str | None, *, split: str, revision: str | None) -> datasets.Dataset:
        return datasets.Dataset.from_list(hub_rows(path, name, split))

    monkeypatch.setattr(datasets, "load_dataset", load)
    return HubSource()


def task_of(name: str) -> Task:
    return bundled_task(name)


def examples_of(name: str, *records: dict[str, Any]) -> list[Example]:
    task = task_of(name)
    return list(task.evaluation(MemorySource({task.definition.splits.evaluation: records})))


def query(name: str, style: str, example: Example) -> str:
    prompt = task_of(name).prompt(style)
    return prompt.query(example.fields, example.options, 0) + "|" + prompt.answer(example.fields, example.options, 0)


@pytest.mark.parametrize("name", ON_THE_HUB)
def test_release_and_hub_give_identical_examples(name: str, release: LocalSource, hub: HubSource) -> None:
    task = task_of(name)
    demonstrations = task.demonstrations(release)

    assert task.evaluation(release) == task.evaluation(hub)
    assert demonstrations == task.demonstrations(hub)
    assert bool(demonstrations) == (name != "wikitext-2")


@pytest.mark.parametrize("name", SPLITS)
def test_every_example_keeps_the_invariants(name: str, release: LocalSource) -> None:
    task = task_of(name)
    task.check_fields(release)
    check_task(task, release, [0, 1])


@pytest.mark.parametrize(("name", "shots"), SHOTS.items())
def test_shots_beams_and_reference_are_the_papers(name: str, shots: int) -> None:
    definition = task_of(name).definition

    assert definition.protocol.shots == shots
    assert definition.prompts[0] == "gpt3"
    assert definition.reference in reference_names()
    if definition.answer == "text":
        assert definition.decode is not None
        assert (definition.decode.beams, definition.decode.length_penalty, definition.decode.penalty) == (
            4,
            0.6,
            "gnmt",
        )  # section 2.4


@pytest.mark.parametrize("name", BY_PASSAGE)
def test_questions_of_a_passage_are_one_group_with_one_draw(name: str, release: LocalSource) -> None:
    task = task_of(name)
    examples = task.evaluation(release)

    assert task.definition.protocol.draw == "per_group"
    assert len({example.fields["passage"] for example in examples}) == len({example.group for example in examples}) == 1
    assert len(examples) > 1


@pytest.mark.parametrize("name", ["nq", "coqa", "drop", "squadv2", "translation/wmt14-fr-en", "wikitext-2"])
def test_release_is_found_without_its_first_folder(name: str, release: LocalSource) -> None:
    folder = {"nq": "nq_open", "squadv2": "squad", "translation/wmt14-fr-en": "wmt"}.get(name, name)

    assert task_of(name).evaluation(release) == task_of(name).evaluation(LocalSource(release.directory / folder))


def test_all_references_of_coqa_are_kept_and_earlier_turns_have_gold_answers(release: LocalSource) -> None:
    first, second, third = task_of("coqa").evaluation(release)

    assert (first.options, first.fields["history"]) == (("three", "3", "three kites", "three"), [])
    assert third.fields["history"] == [
        {"question": "How many kites has Cleo?", "answer": "three"},
        {"question": "Is one red?", "answer": "yes"},
    ]
    assert second.id == "s3-2"


def test_coqa_without_additional_answers_has_one_reference(release: LocalSource) -> None:
    assert [each.options for each in task_of("coqa").demonstrations(release)] == [("a net",), ("slept",), ("Ben",)]


def test_squads_questions_without_an_answer_are_unanswerable(release: LocalSource) -> None:
    first, second = task_of("squadv2").evaluation(release)

    assert (first.options, second.options) == (("by a lake",), ("unanswerable",))
    assert second.fields["question"] == "What is the lake called?"


def test_drops_answers_are_numbers_dates_and_spans_with_bars(release: LocalSource) -> None:
    task = task_of("drop")

    assert [each.options for each in task.demonstrations(release)] == [("2",), ("Lyra",), ("3 May 1902",)]
    assert [each.options for each in task.evaluation(release)] == [
        ("Ada | Ben", "Ben | Ada", "Ada"),  # an annotator's answer that says nothing is left out
        ("1", "1", "Cleo"),
    ]


def test_prompts_of_drop_are_taken_apart_and_repeated_questions_numbered() -> None:
    record = {
        "context": "Passage: Ada sang.\nQuestion: Who sang?\nAnswer:",
        "completion": " Ada",
        "ref_text": "Ada|she",
    }
    one, other = examples_of("drop", record, record)

    assert (one.fields, one.options) == ({"passage": "Ada sang.", "question": "Who sang?"}, ("Ada", "she"))
    assert (other.id, other.group) == (f"{one.id}-2", one.group)


def test_value_of_triviaqa_comes_before_its_aliases(release: LocalSource) -> None:
    assert task_of("triviaqa").evaluation(release)[0].options == ("Lyra Bay", "the bay of Lyra")


def test_triviaqa_is_read_from_prompts_too() -> None:
    record = {"context": "Question: What is it?\nAnswer:", "answer": "Onion", "aliases": ["Onions", "Onion"]}
    (example,) = examples_of("triviaqa", record)

    assert (example.fields, example.options) == ({"question": "What is it?"}, ("Onion", "Onions"))


@pytest.mark.parametrize(
    ("text", "plain", "blank"),
    [
        ("Go to the pier", "Go to the| pier", "Go to the ____. ->| pier"),
        ("Up it\nwent", "Up it|\nwent", "Up it ____. ->| went"),
        ('He said, "No,\u00a0Ben', 'He said, "No,|\u00a0Ben', 'He said, "No, ____. ->| Ben'),
        ("ידו של בן", "ידו של| בן", "ידו של ____. ->| בן"),
    ],
)
def test_last_word_is_parted_at_any_white_space(text: str, plain: str, blank: str) -> None:
    (example,) = examples_of("lambada", {"text": text})

    assert query("lambada", "plain", example) == plain
    assert query("lambada", "gpt3", example) == blank


def test_passage_of_one_word_is_an_error() -> None:
    with pytest.raises(DataError, match="'went' is not a passage of several words"):
        examples_of("lambada", {"text": "went "})


def test_lambada_shows_the_development_set(release: LocalSource) -> None:
    task = task_of("lambada")

    assert [each.options for each in task.demonstrations(release)] == [("ben",), ("pier",)]
    assert not task.shares_split


@pytest.mark.parametrize(
    ("name", "zero_shot", "few_shot"),
    [
        ("wmt14-fr-en", "Q: What is the English translation of S A:", "French: S\nEnglish:"),
        ("wmt14-en-fr", "Q: What is the French translation of S A:", "English: S\nFrench:"),
        ("wmt16-de-en", "Q: What is the English translation of S A:", "German: S\nEnglish:"),
        ("wmt16-en-de", "Q: What is the German translation of S A:", "English: S\nGerman:"),
        ("wmt16-ro-en", "Q: What is the English translation of S A:", "Romanian: S\nEnglish:"),
        ("wmt16-en-ro", "Q: What is the Romanian translation of S A:", "English: S\nRomanian:"),
    ],
)
def test_prompts_name_the_languages_of_their_direction(name: str, zero_shot: str, few_shot: str) -> None:
    source, target = name.split("-")[1:]
    (example,) = examples_of(f"translation/{name}", {"translation": {source: "S", target: "T"}})

    assert query(f"translation/{name}", "gpt3", example) == "S =| T"
    assert query(f"translation/{name}", "gpt3-zero-shot", example) == f"{zero_shot}| T"
    assert query(f"translation/{name}", "plain", example) == f"{few_shot}| T"


@pytest.mark.parametrize(
    "text", ["שלום, עולם!", "مرحبا بالعالم", "日本語のテキスト。", "한국어 문장", "e\u0301té 👩‍👧 \u200f"]
)
def test_texts_of_any_script_survive_in_a_prompt(text: str) -> None:
    (example,) = examples_of("translation/wmt16-en-de", {"en": f"a{text}b", "de": f"c{text}d"})
    text_and_answer = query("translation/wmt16-en-de", "gpt3", example)
    (tokens,) = FakeLM().encode([text_and_answer])

    assert text_and_answer == f"a{text}b =| c{text}d"
    assert bytes(tokens).decode() == text_and_answer


def test_articles_begin_at_their_titles_and_keep_their_text(release: LocalSource) -> None:
    one, other = (example.options[0] for example in task_of("wikitext-2").evaluation(release))

    assert one.startswith(" = Lyra Bay = \n")
    assert " = = Pier = = \n" in one
    assert other == " = Orla = \n \n Orla lies by a lake . \n "
    assert query("wikitext-2", "raw", task_of("wikitext-2").evaluation(release)[1]) == f"|{other}"


def test_line_that_only_begins_like_a_title_is_text() -> None:
    lines = [" = A = B = \n", " = is a sign \n", " = = C = = \n", " = D = "]
    examples = examples_of("wikitext-2", *({"text": line.removesuffix("\n")} for line in lines))

    assert [example.options[0] for example in examples] == [" = A = B = \n = is a sign \n = = C = = ", " = D = "]


def test_detokenized_text_joins_marks_to_their_words() -> None:
    page = ' = Lyra = \n \n It \'s " built " ( in 1 @,@ 902 ) , two @-@ part ; 3 @.@ 5 m . " Old " ! \n = = = X = = = '
    joined = ' = Lyra = \n \n It\'s "built" (in 1,902), two-part; 3.5 m. "Old"! \n === X === '
    (example,) = examples_of("wikitext-2", {"page": page})

    assert query("wikitext-2", "detokenized", example) == f"|{joined}"
    assert example.options == (page,)


def test_the_beginnings_of_articles_are_scored_for_the_in_context_score() -> None:
    long, short = "ab c " * 1000, "Short ."
    examples = examples_of("in-context/wikitext-2", {"page": long}, {"page": short})

    assert [example.options for example in examples] == [(long[:3000],), (short,)]
    assert task_of("in-context/wikitext-2").definition.metric_names == ("in_context_score",)
    assert task_of("in-context/wikitext-2").definition.reference is None


def test_treebank_is_one_document(release: LocalSource) -> None:
    (example,) = task_of("ptb").evaluation(release)
    (text,) = example.options

    assert text.startswith(" the price of <unk> rose N points to N crowns a share \n the company did n't say why")
    assert text.endswith(" \n trading was light and closed at N down from N on monday ")
    assert (text.count("\n"), text.count("<unk>"), len(text.split())) == (5, 3, 82)


@pytest.mark.parametrize("window", [2**20, 64])
def test_treebank_beyond_the_window_is_read_in_strides(window: int, release: LocalSource) -> None:
    (example,) = task_of("ptb").evaluation(release)
    before, text = bytes([0]) + example.options[0].encode()[:-1], example.options[0].encode()
    logprob = sum(
        math.log(2 * (1 + (byte - last) % 256) / (256 * 257)) for last, byte in zip(before, text, strict=True)
    )
    model = FakeLM(window=window)
    result = evaluate(model, "ptb", data=release.directory, shots=0, prompts="raw")
    words, tokens = (score.value for score in result.scores)

    assert words == pytest.approx(math.exp(-logprob / 82))
    assert tokens == pytest.approx(math.exp(-logprob / len(text)))
    assert model.answered == (1 if window > len(text) else math.ceil(len(text) / 64))


def test_a_text_has_no_demonstrations(release: LocalSource) -> None:
    result = evaluate(FakeLM(), ["ptb", "lambada"], data=release.directory, shots=(0, 1))

    note = "note: evaluated with 0 shots only, because there are no demonstrations: ptb"
    assert {(score.task, score.shots) for score in result} == {("ptb", 0), ("lambada", 0), ("lambada", 1)}
    assert note in result.table().splitlines()
    with pytest.raises(RunError, match=r"^ptb has no demonstrations, so it can only be evaluated with 0 shots$"):
        evaluate(FakeLM(), "ptb", data=release.directory, shots=4)
    alone = evaluate(FakeLM(), "ptb", data=release.directory)
    assert {score.shots for score in alone} == {0}
    assert note not in alone.table().splitlines()


def test_four_stories_with_their_highlights_stand_before_a_story(release: LocalSource) -> None:
    task = task_of("summarization/cnn-dailymail")
    prompt, example = task.prompt(), task.evaluation(release)[-1]
    pool = Pool.of(task, task.demonstrations(release))
    demonstrations = [prompt.demonstration(e.fields, e.options, e.gold[0]) for e in pool.draw(example, 4, 0)]
    text = assemble(prompt, example.fields, example.options[:1], demonstrations)
    book = (
        "ORLA (News) -- The library of Orla has got back a book that was borrowed 61 years ago. It lay in an attic. "
        "The library will ask for no fine.\nTL;DR: Book comes back to library after 61 years .\nThere is no fine ."
    )

    assert text.context(0).split("\n\n") == [
        *demonstrations,
        text.queries[0],
    ]  # nothing in a demonstration ends an answer
    assert len(set(demonstrations)) == 4
    assert book in {prompt.demonstration(e.fields, e.options, 0) for e in task.demonstrations(release)}
    assert text.queries[0].startswith("LYRA (News) -- A school class has counted the gulls")
    assert text.queries[0].endswith(" The pupils will count again in a year.\nTL;DR:")
    assert len(task.evaluation(release)) == 4
    assert task.definition.decode is not None
    assert task.definition.decode.stop == [prompt.separator]


@pytest.mark.parametrize("name", GENERATED)
def test_generative_superglue_has_the_ranked_ones_queries_and_right_options(name: str, tmp_path: Path) -> None:
    ranked, written = task_of(f"superglue/{name}"), task_of(f"superglue-generated/{name}")
    source = LocalSource(write_release(tmp_path))
    flat = MemorySource({split: hub_dataset(name, rows) for split, rows in OFFICIAL[name].items()})
    examples = [*written.demonstrations(source), *written.evaluation(source)]

    assert examples == [*written.demonstrations(flat), *written.evaluation(flat)]
    for one, other in zip(examples, [*ranked.demonstrations(source), *ranked.evaluation(source)], strict=True):
        assert one.options == (other.options[other.gold[0]],)
        assert (one.fields, one.id) == (other.fields, other.id)
    assert written.prompt().digest == ranked.prompt().digest
    check_task(written, source, [0, 1])


@pytest.mark.parametrize("name", GENERATED)
def test_record_without_a_label_is_an_error(name: str) -> None:
    record = dict(OFFICIAL[name]["validation"][0]) | {"label": -1}

    with pytest.raises(DataError, match="cannot be rendered"):
        examples_of(f"superglue-generated/{name}", record)


def test_generative_wsc_evaluates_every_problem_and_draws_those_whose_noun_is_right(tmp_path: Path) -> None:
    task, source = task_of("superglue-generated/wsc"), LocalSource(write_release(tmp_path))
    flat = MemorySource({split: hub_dataset("wsc", rows) for split, rows in OFFICIAL["wsc"].items()})
    all_shown = task.on("train")

    assert [(each.options, each.gold) for each in task.evaluation(source)] == [(("fay",), (0,))]
    assert [(each.options, each.gold) for each in all_shown.evaluation(source)] == [
        (("carl",), (0,)),
        (("the mast",), ()),
    ]
    assert [each.options for each in task.demonstrations(source)] == [("carl",)]
    assert (task.evaluation(source), task.demonstrations(source)) == (task.evaluation(flat), task.demonstrations(flat))
    check_task(task, source, [0, 1])
    check_task(all_shown.on("train", "validation"), source, [0, 1])


def test_generative_wsc_is_the_ranked_one_but_for_its_noun() -> None:
    ranked, written = task_of("superglue/wsc").definition, task_of("superglue-generated/wsc").definition

    assert (written.splits, written.protocol, written.reference) == (ranked.splits, ranked.protocol, ranked.reference)
    assert set(ranked.fields) - set(written.fields) == {"noun"}
    assert written.metrics == ["referent_match"]


def test_problems_of_generative_wsc_about_one_passage_are_one_cluster_with_one_prompt() -> None:
    text = "Ada thanked Bea 's aunt , who smiled at her ."
    target = {"span2_index": 9, "span2_text": "her"}
    records = [
        {"text": text, "target": {"span1_index": 0, "span1_text": "Ada", **target}, "label": True, "idx": 0},
        {"text": text, "target": {"span1_index": 2, "span1_text": "Bea", **target}, "label": False, "idx": 1},
    ]
    one, other = examples_of("superglue-generated/wsc", *records)
    passage = "Passage: Ada thanked Bea's aunt, who smiled at *her*.\n"

    assert one.cluster == other.cluster
    assert one.group != other.group
    assert query("superglue-generated/wsc", "gpt3", one).partition("|")[0].startswith(passage)
    assert query("superglue-generated/wsc", "gpt3", one).endswith("| ada")


def test_generative_wsc_without_a_label_is_an_error() -> None:
    record = dict(OFFICIAL["wsc"]["validation"][0])
    del record["label"]

    with pytest.raises(DataError, match="the record has no label"):
        examples_of("superglue-generated/wsc", record)


@pytest.mark.parametrize(
    ("suite", "count"),
    [("closed-book-qa", 3), ("reading", 6), ("translation", 6), ("superglue-generated", 5)],
)
def test_suites_have_no_average(suite: str, count: int) -> None:
    definition = LIBRARY.suite(suite)

    assert (len(definition.tasks), definition.average) == (count, False)
    assert {task_of(name).definition.answer for name in definition.tasks if not name.startswith("race/")} == {"text"}


def test_hub_schema_of_coqa_may_hold_lists_of_mappings(release: LocalSource) -> None:
    raw = json.loads((release.directory / "coqa/coqa-dev-v1.0.json").read_text())["data"]

    assert examples_of("coqa", *raw) == task_of("coqa").evaluation(release)
