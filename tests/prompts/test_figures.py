"""What the figures of Appendix G of the GPT-3 paper show, from the records of the releases that they show.

The long passages of some are cut here; line breaks are those that the golden files explain.
"""

from __future__ import annotations

from typing import Any

import pytest
from bundled_tasks import bundled_task

from icl_eval.tasks import Example, MemorySource


def context_and_answers(name: str, record: dict[str, Any]) -> tuple[str, list[str]]:
    task = bundled_task(name)
    example: Example = task.evaluation(MemorySource({task.definition.splits.evaluation: [record]}))[-1]
    prompt = task.prompt("gpt3")
    answers = [prompt.answer(example.fields, example.options, index) for index in range(len(example.options))]
    return prompt.query(example.fields, example.options, 0), answers


def science(stem: str, texts: list[str]) -> dict[str, Any]:
    choices = [{"label": label, "text": text} for label, text in zip("ABCD", texts, strict=True)]
    return {"id": "q", "question": {"stem": stem, "choices": choices}, "answerKey": "A"}


MONCRIEFF = (
    "Mr. Moncrieff visited Chester 's luxurious New York apartment, thinking that it belonged to his son Edward . "
    "The result was that Mr. Moncrieff has decided to cancel Edward 's allowance on the ground that he no longer "
    "requires his financial support."
)
BLITZ = {
    "title": "The_Blitz",
    "paragraphs": [
        {
            "context": "The Luftwaffe flew 4,000 sorties that month.",
            "qas": [
                {"id": "a", "question": "How many sorties were flown in March 1941?", "answers": [{"text": "4,000"}]},
                {
                    "id": "b",
                    "question": "When did the Luftwaffe fly inland missions?",
                    "answers": [{"text": "at night"}],
                },
            ],
        }
    ],
}
PERRY = {
    "title": "William Perry (American football)",
    "section_title": "Professional career",
    "paragraphs": [
        {
            "id": "C",
            "context": "In 1985, he was selected by the Chicago Bears. CANNOTANSWER",
            "qas": [
                {"id": "C_0", "question": "what team did he play for?", "answers": [{"text": "the Chicago Bears"}]}
            ],
        }
    ],
}


@pytest.mark.parametrize(
    ("name", "record", "context", "answers"),
    [
        pytest.param(
            "superglue/copa",
            {
                "premise": "My body cast a shadow over the grass.",
                "choice1": "The sun was rising.",
                "choice2": "The grass was cut.",
                "question": "cause",
                "label": 0,
                "idx": 0,
            },
            "My body cast a shadow over the grass because",
            [" the sun was rising.", " the grass was cut."],
            id="G.5",
        ),
        pytest.param(
            "openbookqa",
            science(
                "Organisms require energy in order to do what?",
                ["mature and develop", "rest soundly", "absorb light", "take in nutrients"],
            ),
            "Organisms require energy in order to do what?",
            [" mature and develop.", " rest soundly.", " absorb light.", " take in nutrients."],
            id="G.8",
        ),
        pytest.param(
            "arc/challenge",
            science(
                "George wants to warm his hands quickly by rubbing them. "
                "Which skin surface will produce the most heat?",
                ["dry palms", "wet palms", "palms covered with oil", "palms covered with lotion"],
            ),
            "Question: George wants to warm his hands quickly by rubbing them. "
            "Which skin surface will produce the most heat?\nAnswer:",
            [" dry palms", " wet palms", " palms covered with oil", " palms covered with lotion"],
            id="G.11",
        ),
        pytest.param(
            "winogrande",
            {
                "sentence": "Johnny likes fruits more than vegetables in his new keto diet "
                "because the _ are saccharine.",
                "option1": "fruits",
                "option2": "vegetables",
                "answer": "1",
            },
            "Johnny likes fruits more than vegetables in his new keto diet because the fruits",
            [" are saccharine.", " are saccharine."],
            id="G.14",
        ),
        pytest.param(
            "nq",
            {"question": "who played tess on touched by an angel", "answer": ["Della Reese"]},
            "Q: Who played tess on touched by an angel?\n\nA:",
            [" Della Reese"],
            id="G.24",
        ),
        pytest.param(
            "quac",
            PERRY,
            "TITLE: William Perry (American football) - Professional career\n"
            "PARAGRAPH: In 1985, he was selected by the Chicago Bears.\n\nQ: what team did he play for?\n\nA:",
            [" the Chicago Bears"],
            id="G.25",
        ),
        pytest.param(
            "squadv2",
            BLITZ,
            "Title: The Blitz\n\nBackground: The Luftwaffe flew 4,000 sorties that month.\n\n"
            "Q: How many sorties were flown in March 1941?\n\nA: 4,000\n\n"
            "Q: When did the Luftwaffe fly inland missions?\n\nA:",
            [" at night"],
            id="G.28",
        ),
        pytest.param(
            "superglue-generated/wsc",
            {
                "text": MONCRIEFF,
                "target": {"span1_index": 0, "span1_text": "Mr. Moncrieff", "span2_index": 39, "span2_text": "his"},
                "label": True,
                "idx": 1,
            },
            "Passage: Mr. Moncrieff visited Chester's luxurious New York apartment, thinking that it belonged to his "
            "son Edward. The result was that Mr. Moncrieff has decided to cancel Edward's allowance on the ground "
            "that he no longer requires *his* financial support.\n"
            'Question: In the passage above, what does the pronoun "*his*" refer to?\nAnswer:',
            [" mr. moncrieff"],
            id="G.33",
        ),
        pytest.param(
            "webquestions",
            {"qId": "w", "qText": "what school did burne hogarth establish?", "answers": ["School of Visual Arts"]},
            "Q: What school did burne hogarth establish?\n\nA:",
            [" School of Visual Arts"],
            id="G.35",
        ),
        pytest.param(
            "arithmetic/2d-addition",
            {"context": "\n\nQ: What is 98 plus 45?\n\nA:", "completion": " 143"},
            "Q: What is 98 plus 45?\n\nA:",
            [" 143"],
            id="G.44",
        ),
    ],
)
def test_prompt_is_that_of_the_figure(name: str, record: dict[str, Any], context: str, answers: list[str]) -> None:
    assert context_and_answers(name, record) == (context, answers)


@pytest.mark.parametrize(
    ("question", "rendered"),
    [
        ("who is 'a'", "Who is 'a'?"),
        ("Name the first.", "Name the first."),
        ("'What' is it?", "'What' is it?"),
        ("élan or verve", "Élan or verve?"),
    ],
)
def test_question_gets_its_mark_only_where_a_sentence_has_none(question: str, rendered: str) -> None:
    context, _ = context_and_answers("nq", {"question": question, "answer": ["x"]})

    assert context == f"Q: {rendered}\n\nA:"
