"""The standard tasks give the same examples from their releases and from the Hub."""

from __future__ import annotations

import datasets
import pytest
from bundled_tasks import LIBRARY, bundled_task
from standard_records import GOLD, PASSAGE, hub_rows, write_standard_release

from icl_eval.demos import Pool
from icl_eval.prompts import assemble
from icl_eval.tasks import Example, HubSource, LocalSource, Source
from icl_eval.tasks.adapters import Adapter
from icl_eval.tasks.adapters.reasoning import bbh, math
from icl_eval.testing import check_task


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> LocalSource:
    return LocalSource(write_standard_release(tmp_path_factory.mktemp("release")))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> HubSource:
    def load(path: str, name: str | None, *, split: str, revision: str | None) -> datasets.Dataset:
        assert revision is None
        return datasets.Dataset.from_list(hub_rows(path, name, split))

    monkeypatch.setattr(datasets, "load_dataset", load)
    return HubSource()


def gold_of(examples: list[Example]) -> list[int]:
    return [index for example in examples for index in example.gold]


@pytest.mark.parametrize("name", GOLD)
def test_release_and_hub_give_the_same_examples_with_the_right_answers(
    name: str, release: LocalSource, hub: HubSource
) -> None:
    task = bundled_task(name)
    demonstrations, evaluated = list(task.demonstrations(release)), list(task.evaluation(release))

    assert GOLD[name] == (gold_of(demonstrations), gold_of(evaluated))
    assert demonstrations == list(task.demonstrations(hub))
    assert evaluated == list(task.evaluation(hub))


@pytest.mark.parametrize("name", GOLD)
def test_every_example_keeps_the_invariants(name: str, release: LocalSource) -> None:
    task = bundled_task(name)
    task.check_fields(release)
    check_task(task, release, [0, 1])


def prompt_of(name: str, number: int, shots: int, source: Source) -> str:
    """The context of an example of a task, under its first prompt."""
    task = bundled_task(name)
    example, prompt = task.evaluation(source)[number], task.prompt()
    drawn = Pool.of(task, task.demonstrations(source)).draw(example, shots, 0)
    demonstrations = [prompt.demonstration(each.fields, each.options, each.gold[0]) for each in drawn]
    return assemble(prompt, example.fields, example.options, demonstrations).context(0)


def test_mmlu_shows_the_first_development_questions_of_the_subject(release: LocalSource) -> None:
    assert prompt_of("mmlu/lettered", 0, 1, release) == (
        "The following are multiple choice questions (with answers) about marine biology.\n\n"
        "Which of these is a fish?\nA. Crab\nB. Cod\nC. Whale\nD. Squid\nAnswer: B\n\n"
        "What does a crab have?\nA. Wings\nB. Claws\nC. Fins\nD. Fur\nAnswer:"
    )
    assert "What holds a boat in place?" in prompt_of("mmlu/lettered", 1, 2, release)


def test_mmlu_of_olmes_names_the_subject_in_both_formulations(release: LocalSource) -> None:
    subject = "The following are multiple choice questions (with answers) about marine biology.\n\n"
    question = "Question: What does a crab have?\n"

    assert prompt_of("olmes/cloze/mmlu", 0, 1, release) == (
        f"{subject}Question: Which of these is a fish?\nAnswer: Cod\n\n{question}Answer:"
    )
    assert prompt_of("olmes/lettered/mmlu", 0, 0, release) == (
        f"{subject}{question} A. Wings\n B. Claws\n C. Fins\n D. Fur\nAnswer:"
    )


@pytest.mark.parametrize(
    ("name", "number", "query"),
    [
        ("sst2", 1, "Review: It soars .\nSentiment:"),
        ("trec", 0, "Question: Where is the town's lighthouse?\nAnswer Type:"),
        ("agnews", 1, "Article: A new sonar It sees the cod's bones.\nAnswer:"),
        ("dbpedia", 1, "Article: Fay paints.\nAnswer:"),
        ("financial-phrasebank", 1, "News: The pier @ Oslo is old .\nSentiment:"),
    ],
)
def test_texts_are_cleaned_as_published(name: str, number: int, query: str, release: LocalSource) -> None:
    assert prompt_of(f"classification/{name}", number, 0, release).endswith(query)


def test_trec_follows_the_instruction_of_zhao_et_al(release: LocalSource) -> None:
    instruction, first, _ = prompt_of("classification/trec", 0, 1, release).split("\n\n")

    assert instruction.startswith("Classify the questions based on whether their answer type is a Number, Location,")
    assert first.splitlines()[1].startswith("Answer Type: ")


def test_every_classification_task_is_in_the_suite() -> None:
    assert sorted(LIBRARY.suite("icl-classification").tasks) == [
        name for name in LIBRARY.names() if name.startswith("classification/")
    ]


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("truthfulqa/mc1", "A: The 1992 Olympics were held in Barcelona, Spain.\n\nQ: Can cod fly?\nA:"),
        ("commonsenseqa", "Question: Who mends nets?\nA. cats\nB. kings\nC. lamps\nD. cooks\nE. fishers\nAnswer:"),
        ("social-iqa", "Q: Gil baked bread. What did Gil need before?\nA:"),
        ("sciq", "Kelp is an alga.\nQuestion: What is kelp?\nAnswer:"),
        ("gsm8k-worked", "The answer is 8.\n\nQ: Ada has 1000 boats and buys 1000 more. How many?\nA:"),
        ("gsm8k", "Question: Ada has 1000 boats and buys 1000 more. How many?\nAnswer:"),
        ("logiqa", "Passage: All cod swim.\nQuestion: Why?\nChoices:\nA. a.\nB.  b.\nC. c.\nD. d.\nAnswer:"),
        ("medqa", "Question: What beats?\nA. Ear\nB. Nail\nC. Tooth\nD. Heart\nAnswer:"),
        ("medmcqa", "Question: What beats?\nChoices:\nA. Ear\nB. Nail\nC. Tooth\nD. Heart\nAnswer:"),
        ("bbh/boolean-expressions", "Evaluate the result of a random Boolean expression.\n\nQ: not red is\nA:"),
        ("xnli/de", "Ada rows, richtig?"),
        ("xcopa/it", "Ada fell perché"),
        ("flores/zh-en", "Chinese: 退潮了。\nEnglish:"),
        ("xquad/es", f"Contexto: {PASSAGE}\n\nPregunta: What do nets need?\n\nRespuesta:"),
    ],
)
def test_query_is_the_published_one(name: str, query: str, release: LocalSource) -> None:
    assert prompt_of(name, -1, 0, release).endswith(query)


@pytest.mark.parametrize(("suite", "size"), [("bbh", 27), ("xnli", 15), ("xcopa", 11), ("xquad", 12), ("flores", 10)])
def test_a_suite_has_all_tasks_of_its_name(suite: str, size: int) -> None:
    tasks = LIBRARY.suite(suite).tasks

    assert sorted(tasks) == [name for name in LIBRARY.names() if name.startswith(f"{suite}/")]
    assert len(tasks) == size


def test_worked_answers_of_bbh_are_the_published_ones(release: LocalSource) -> None:
    task = bundled_task("bbh-worked/boolean-expressions")
    demonstrations = list(task.demonstrations(release))
    example = task.evaluation(release)[0]  # its question is one of the three
    text = prompt_of("bbh-worked/boolean-expressions", 0, 2, release)

    assert [each.fields["input"] for each in demonstrations] == ["not hot is", example.fields["input"], "not wide is"]
    assert [each.options for each in demonstrations] == [("cold",), ("dry",), ("thin",)]
    assert demonstrations[0].fields["reasoning"] == "The word is\ncold. So the answer is cold."
    assert text == (
        "Evaluate the result of a random Boolean expression.\n\n"
        "Q: not hot is\nA: Let's think step by step.\nThe word is\ncold. So the answer is cold.\n\n"
        "Q: not wide is\nA: Let's think step by step.\nThe word is\nthin. So the answer is thin.\n\n"
        "Q: not wet is\nA: Let's think step by step.\n"
    )


@pytest.mark.parametrize(
    ("adapter", "record", "message"),
    [
        (bbh, {"text": "no question"}, "paragraphs that start with `Q:`"),
        (bbh, {"text": "\n\nQ: Why?\nA: Because."}, "'Why.*' has no reasoning that starts with"),
        (math, {"problem": "?", "solution": "5", "level": "Level 1", "type": "Algebra"}, "no .*boxed.* answer"),
    ],
)
def test_worked_answers_without_an_answer_are_errors(adapter: Adapter, record: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(adapter([record]))


def test_the_query_of_mgsm_is_worded_in_the_language_of_the_task(release: LocalSource) -> None:
    assert prompt_of("mgsm/de", 0, 1, release) == (
        "Frage: 2 boats and 1?\nSchritt-für-Schritt-Antwort: One more makes 3. 3.\n\n"
        "Frage: 7 boats and 1?\nSchritt-für-Schritt-Antwort:"
    )


def test_math_ends_in_a_box(release: LocalSource) -> None:
    task = bundled_task("math/geometry")
    drawn = prompt_of("math/geometry", 0, 1, release)

    assert drawn.startswith("Problem:\nWhat is $")
    assert "$\\boxed{" in drawn
    assert drawn.endswith("\n\nProblem:\nWhat is $4 + 4$?\n\nSolution:")
    assert [each.options for each in task.evaluation(release)] == [("8",), ("10",)]


def test_math_worked_follows_minerva_s_four_problems(release: LocalSource) -> None:
    *problems, query = prompt_of("math-worked/geometry", 0, 0, release).split("\n\nProblem:\n")
    rules = LIBRARY.task("math-worked/500").definition.extract
    (final,), (boxed,) = rules["final"], rules["boxed"]

    assert query == "What is $4 + 4$?\n\nSolution:"
    assert [final.apply(each) for each in problems] == [" $[2,5)$", " $24$", " $16$", r" $-\frac{2}{3}$"]
    assert [boxed.apply(each) for each in problems] == ["[2,5)", "24", "16", r"-\frac{2}{3}"]
    assert final.apply("The answer is \\boxed{7}.") is None
