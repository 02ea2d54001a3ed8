"""The multiple-choice tasks of the GPT-3 suite give the same examples from the official releases and from the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
from bundled_tasks import LIBRARY, bundled_task
from choice_records import ANLI, HELLASWAG, SAT, SCHEMAS, SPLITS, hub_rows, release_files, write_choice_release

from icl_eval.demos import Pool
from icl_eval.errors import DataError
from icl_eval.prompts import assemble
from icl_eval.references import reference_names
from icl_eval.tasks import HubSource, LocalSource, MemorySource, Source, Task
from icl_eval.testing import check_task

ON_THE_HUB = [name for name in SPLITS if name != "sat"]
SHOTS = {  # section 3 of the facts: K of Table H.1 and Appendix G
    "hellaswag": 20,
    "storycloze": 70,
    "winograd": 7,
    "winogrande": 50,
    "piqa": 50,
    "arc/easy": 50,
    "arc/challenge": 50,
    "openbookqa": 100,
    "race/high": 10,
    "race/middle": 10,
    "anli/r1": 50,
    "anli/r2": 50,
    "anli/r3": 50,
    "sat": 20,
}
FOUR_SHOTS = {"storycloze", "race/high", "race/middle", "sat"}  # whose records there are enough of
RATIO = {"arc/easy", "arc/challenge", "openbookqa", "race/high", "race/middle"}  # section 2.4, Figures G.1 to G.16


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> LocalSource:
    """The files of all releases, not to be changed."""
    return LocalSource(write_choice_release(tmp_path_factory.mktemp("release")))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> HubSource:
    def load(path: str, name: str | None, *, split: str, revision: str | None) -> datasets.Dataset:
        assert revision is None
        return datasets.Dataset.from_list(hub_rows(path, name, split))

    monkeypatch.setattr(datasets, "load_dataset", load)
    return HubSource()


def task_of(name: str) -> Task:
    return bundled_task(name)


def fields_of(name: str, source: Source) -> list[dict[str, Any]]:
    """The fields of the demonstrations and then, if the splits differ, of the evaluated examples."""
    task = task_of(name)
    evaluated = [] if task.shares_split else task.evaluation(source)
    return [dict(example.fields) for example in [*task.demonstrations(source), *evaluated]]


@pytest.mark.parametrize("name", ON_THE_HUB)
def test_release_and_hub_give_identical_examples(name: str, release: LocalSource, hub: HubSource) -> None:
    task = task_of(name)

    assert task.evaluation(release) == task.evaluation(hub)
    assert task.demonstrations(release) == task.demonstrations(hub)


@pytest.mark.parametrize("name", SPLITS)
def test_splits_shots_and_normalisation_are_the_papers(name: str) -> None:
    definition = task_of(name).definition

    assert (definition.splits.demonstrations, definition.splits.evaluation) == SPLITS[name]
    assert definition.protocol.shots == SHOTS[name]
    assert definition.score.normalization == ("unconditional" if name in RATIO else "token")
    assert definition.reference in reference_names()
    assert definition.prompts[0] == "gpt3"


@pytest.mark.parametrize("name", SPLITS)
def test_every_example_keeps_the_invariants(name: str, release: LocalSource) -> None:
    task = task_of(name)
    task.check_fields(release)
    check_task(task, release, [0, 4] if name in FOUR_SHOTS else [0, 1])


@pytest.mark.parametrize("name", SPLITS)
def test_release_is_found_without_its_first_folder(name: str, release: LocalSource) -> None:
    (folder,) = {
        Path(file).parts[0] for file in release_files() if Path(file).parts[0].lower() == name.partition("/")[0]
    }

    assert task_of(name).evaluation(release) == task_of(name).evaluation(LocalSource(release.directory / folder))


@pytest.mark.parametrize(
    ("name", "gold"),
    [
        ("hellaswag", [1, 2, 1]),
        ("storycloze", [1, 0, 0, 1, 0, 0, 1, 0, 1]),
        ("winograd", [0, 1, 0, 1, 1]),
        ("winogrande", [1, 0, 0, 0]),
        ("piqa", [0, 1, 0]),
        ("arc/easy", [0, 1, 2]),
        ("arc/challenge", [0, 1, 2]),
        ("openbookqa", [0, 1, 2]),
        ("race/high", [1, 3, 2, 0, 0, 2, 1, 3, 2, 1, 3, 2, 2, 3, 0]),
        ("race/middle", [1, 3, 2, 0, 0, 2, 1, 3, 2, 1, 3, 2, 2, 3, 0]),
        ("anli/r1", [2, 0, 1]),
        ("sat", [1, 0, 0, 1, 3, 0]),
    ],
)
def test_labels_become_option_indices(name: str, gold: list[int], release: LocalSource) -> None:
    task = task_of(name)
    evaluated = [] if task.shares_split else task.evaluation(release)

    assert [(index,) for index in gold] == [each.gold for each in [*task.demonstrations(release), *evaluated]]


def test_hellaswag_has_no_markers_and_begins_the_sentence_to_be_completed_with_a_capital(release: LocalSource) -> None:
    first, second, third = fields_of("hellaswag", release)

    assert first["context"] == "A man sits on a pier with a net. He"
    assert first["endings"][3] == ", then, flies off."
    assert second == {
        "activity": "Home and Garden",
        "context": "How to light a lamp. Fill the lamp. Pour oil into it slowly.",
        "endings": ["Stop [early].", "Sing. Loudly.", "Wait a while.", "Drink the oil."],
    }
    assert third["context"] == "Two women row a boat. The boat"


def test_hellaswag_without_markers_is_the_same(release: LocalSource) -> None:
    expected = task_of("hellaswag").demonstrations(release)
    stripped = {
        "activity_label": "Home and Garden",
        "ctx": "How to light a lamp. Fill the lamp.  Pour oil into it slowly.",
        "endings": ["Stop [early].", "Sing. Loudly.", "Wait  a while.", "Drink the oil."],
        "label": 2,
        "split": "val",
    }
    bare = {name: HELLASWAG[0][name] for name in ("activity_label", "ctx", "endings")} | {"label": 1, "split": "val"}

    assert expected == task_of("hellaswag").split("train", MemorySource({"train": [bare, stripped]}))


@pytest.mark.parametrize(
    ("ctx", "context"),
    [
        ("He waits! the dog", "He waits! The dog"),
        ('She says "no." they', 'She says "no." They'),
        ("Use oil, e.g. olive oil. Stir.", "Use oil, e.g. olive oil. Stir."),
        ("people", "people"),
        ("A cat. It", "A cat. It"),
    ],
)
def test_only_an_unfinished_sentence_gets_a_capital(ctx: str, context: str) -> None:
    record = {"activity_label": "x", "ctx": ctx, "endings": ["a", "b"], "label": 0}
    (example,) = task_of("hellaswag").split("train", MemorySource({"train": [record]}))

    assert example.fields["context"] == context


def test_story_is_four_sentences_and_two_endings(release: LocalSource) -> None:
    example = task_of("storycloze").evaluation(release)[0]

    assert example.fields["context"] == 'Cleo lost a key. She searched, "hard". It rained. She looked up.'
    assert (example.options, example.id) == (("It hung there.", "No."), "s3")


def test_winograd_nouns_are_fitted_into_the_text(release: LocalSource) -> None:
    texts = [
        [f"{each['before']}{noun}{each['after']}" for noun in each["nouns"]] for each in fields_of("winograd", release)
    ]

    assert texts == [
        [f"The lamp did not fit in the box because the {noun} was too big." for noun in ("lamp", "box")],
        [f"The lamp did not fit in the box because the {noun} was too small." for noun in ("lamp", "box")],
        [f"Dan called Eli about the nets. He counted on {noun}." for noun in ("my nets", "Eli and Dan")],
        [f"Dan asked Eli about the boat. {noun} knew, of course." for noun in ("The boat", "Eli")],
        [f'Fay sat behind Gil because {noun} "Here!" was quicker.' for noun in ("Fay's", "the boy's")],
    ]


def test_winograd_is_the_first_273_schemas(hub: HubSource) -> None:
    rows = hub_rows("lighteval/winograd_wsc", "wsc273", "test")
    many = MemorySource({"test": [{**rows[0], "text": f"{rows[0]['text']} {number}"} for number in range(285)]})

    assert len(task_of("winograd").evaluation(many)) == 273


def test_schemas_about_the_same_nouns_are_never_demonstrations_of_each_other(release: LocalSource) -> None:
    task = task_of("winograd")
    examples = task.evaluation(release)
    pool = Pool.of(task, examples)
    drawn = {each.id for each in pool.draw(examples[0], 3, 0)}

    assert [each.cluster for each in examples] == ["1", "1", "2", "3", "4"]
    assert drawn == {each.id for each in examples[2:]}


def test_winogrande_neighbours_about_the_same_nouns_are_one_cluster(release: LocalSource) -> None:
    assert [each.cluster for each in task_of("winogrande").demonstrations(release)] == ["1", "1", "2"]


def test_winogrande_sentence_is_parted_at_the_blank(release: LocalSource) -> None:
    (example,) = task_of("winogrande").evaluation(release)

    assert example.fields["before"] == "The boat was tied to the pier as the "
    assert example.fields["after"] == " 's rope held."
    assert example.options == ("pier", "boat")


def test_piqa_texts_have_no_space_around_them(release: LocalSource) -> None:
    first, second, _ = fields_of("piqa", release)

    assert (first["solution1"], second["goal"]) == ("hang it up", "How do you light a lamp?")


def test_piqa_labels_are_aligned_with_their_goals(tmp_path: Path) -> None:
    release = LocalSource(write_choice_release(tmp_path))
    (tmp_path / "piqa/valid-labels.lst").write_text("0\n1\n")

    with pytest.raises(DataError, match=r"valid\.jsonl has 1, valid-labels\.lst has 2"):
        task_of("piqa").evaluation(release)


def test_arc_answer_that_is_no_choice_is_named() -> None:
    row = {"id": "q9", "question": "?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "1"}

    with pytest.raises(DataError, match="the answer '1' of q9 is not among A, B"):
        task_of("arc/easy").split("test", MemorySource({"test": [row]}))


def test_race_question_follows_the_earlier_ones_answered(release: LocalSource) -> None:
    first, second, third = task_of("race/high").evaluation(release)[:3]

    assert [example.fields["history"] for example in (first, second)] == [
        [],
        [{"question": "What colour was the lamp?", "answer": "Red"}],
    ]
    assert third.fields["history"][1] == {"question": "The lamp stood by _ .", "answer": "the sea"}
    assert third.options == ("Yes", "No", "?", "!")
    assert third.fields["article"] == "A lamp stood by the sea.\nIt was red."
    assert [example.id for example in (first, second, third)] == [f"high1.txt-{number}" for number in range(3)]
    assert {(example.group, example.cluster) for example in (first, second, third)} == {("high1.txt", "high1.txt")}


def test_race_context_begins_with_that_of_the_question_before(release: LocalSource) -> None:
    task = task_of("race/high")
    prompt = task.prompt("gpt3")
    first, second, third = (prompt.query(each.fields, each.options, 0) for each in task.evaluation(release)[:3])

    assert second.startswith(first + " Red\n\nQ: ")
    assert third.startswith(second + " the sea\n\nQ: ")


def test_race_rows_of_one_article_need_not_be_neighbours(release: LocalSource) -> None:
    rows = hub_rows("ehovy/race", "high", "train")
    apart = MemorySource({"train": [rows[0], rows[3], rows[1], rows[2], *rows[4:]]})

    assert task_of("race/high").demonstrations(release) == task_of("race/high").split("train", apart)


LETTER = """\
Article:
Nell found a bottle on the beach. In it was a letter, thirty years old.
She wrote to the address, and a woman answered: she had thrown it into the sea when she was nine.

Q: Where was the bottle?

A: On the beach

Q: How old was the letter?

A: Thirty years

Q: The letter was written by _ .

A:"""
BEES = """\
Article:
Kay kept bees behind her house. In spring she gave each neighbour a jar of honey.
When her roof leaked, eleven people came to mend it.

Q: What did Kay keep?

A: Bees."""
BEES_WHOLE = f"{BEES}\n\nQ: The neighbours mended the roof because _ .\n\nA: Kay had been kind to them"


@pytest.mark.parametrize("level", ["high", "middle"])
def test_four_articles_stand_before_an_article_with_its_earlier_questions(level: str, release: LocalSource) -> None:
    seen = set()
    for number in (0, 3):
        *before, _ = demonstrations_of(f"race/{level}", number, release)
        assert [text.count("Article:\n") for text in before] == [1, 1, 1, 1]
        seen |= {text for text in before if "bees" in text}

    assert demonstrations_of(f"race/{level}", -1, release)[-1] == LETTER
    assert seen
    assert seen <= {BEES, BEES_WHOLE}  # one question, after those before it, stands for its article


def test_four_stories_stand_before_a_story(release: LocalSource) -> None:
    *before, query = demonstrations_of("storycloze", 0, release)
    smoke = "Fay saw smoke above the pier. She rang the bell. Ten people came with buckets. The fire was out soon."
    solved = {
        "Ada bought a kite. The wind was strong. She ran. The kite rose. It flew.",
        "Ben had a cold. He drank tea. He slept. He woke up. He was well.",
        "Dan wanted to bake bread. He had no flour. He asked Eli for some. Eli gave him a full bag. "
        "Dan baked two loaves and took one to Eli.",
        f"{smoke} They thanked Fay for her sharp eyes.",
        "Gil was afraid of water. His aunt taught him to swim. He trained each day. In May he swam far. "
        "His aunt was proud of him.",
    }

    assert query == 'Cleo lost a key. She searched, "hard". It rained. She looked up.'
    assert set(before) < solved


def test_four_analogies_stand_before_an_analogy(release: LocalSource) -> None:
    *before, query = demonstrations_of("sat", 3, release)
    solved = {
        "net is to fish as trap is to bird",
        "row is to boat as fly is to kite",
        "tea is to cup as oil is to lamp",
        "dry is to wet as early is to late",
        "whisper is to shout as walk is to run",
    }

    assert query == "author is to novel as"
    assert set(before) < solved


def demonstrations_of(name: str, number: int, source: Source) -> list[str]:
    """The four demonstrations, all different, and the query of an example, as its prompt has them."""
    task = task_of(name)
    example = task.evaluation(source)[number]
    prompt = task.prompt("gpt3")
    pool = Pool.of(task, task.demonstrations(source))
    drawn = [prompt.demonstration(each.fields, each.options, each.gold[0]) for each in pool.draw(example, 4, 0)]
    text = assemble(prompt, example.fields, example.options, drawn)

    assert text.context(0) == prompt.separator.join([*drawn, text.queries[0]])
    assert len(set(drawn)) == 4
    assert len(task.evaluation(source)) >= 4
    return [*drawn, text.queries[0]]


def test_anli_pairs_of_one_premise_are_one_cluster(release: LocalSource) -> None:
    examples = task_of("anli/r2").demonstrations(release)

    assert {ANLI[0]["context"]} == {each.cluster for each in examples}
    assert examples[0].fields == {"round": "2", "premise": "The pier is old.", "hypothesis": "The pier is new."}


def test_sat_question_is_a_pair_and_five_to_choose_from(release: LocalSource) -> None:
    example = task_of("sat").evaluation(release)[0]

    assert (example.fields["first"], example.fields["second"]) == ("net", "fish")
    assert example.options[:2] == ("lamp is to oil", "trap is to bird")
    assert len(example.options) == 5


@pytest.mark.parametrize(
    ("old", "new"), [("kite wind n:n\n", ""), ("b\n\nML", "f\n\nML"), ("SOMEWHERE\n", "SOMEWHERE\n\n")]
)
def test_damaged_sat_question_is_named(old: str, new: str, tmp_path: Path) -> None:
    assert old in SAT
    release = LocalSource(write_choice_release(tmp_path))
    (tmp_path / "sat/SAT-package-V3.txt").write_text(SAT.replace(old, new))

    with pytest.raises(
        DataError, match=r"not in a known layout \(a question must have 8 lines, the last one a letter from a to e"
    ):
        task_of("sat").evaluation(release)


def test_schema_of_another_shape_is_named() -> None:
    with pytest.raises(DataError, match="the record has no field 'pronoun_loc'"):
        task_of("winograd").split("test", MemorySource({"test": [{"text": SCHEMAS[0][0]}]}))


def test_sentence_without_blank_is_named() -> None:
    record = {"sentence": "No blank.", "option1": "a", "option2": "b", "answer": "1"}

    with pytest.raises(DataError, match=r"the sentence 'No blank\.' has no blank"):
        task_of("winogrande").split("train", MemorySource({"train": [record]}))


@pytest.mark.parametrize(
    ("suite", "tasks"),
    [
        ("anli", ["anli/r1", "anli/r2", "anli/r3"]),
        ("arc", ["arc/easy", "arc/challenge"]),
        ("cloze", ["lambada", "hellaswag", "storycloze"]),
        ("commonsense", ["piqa", "arc/easy", "arc/challenge", "openbookqa"]),
        ("nli", ["superglue/rte", "anli/r1", "anli/r2", "anli/r3"]),
        ("race", ["race/middle", "race/high"]),
        ("winograd-style", ["winograd", "winogrande"]),
    ],
)
def test_suites_are_the_sections_of_the_paper(suite: str, tasks: list[str]) -> None:
    assert LIBRARY.suite(suite).tasks == tasks
