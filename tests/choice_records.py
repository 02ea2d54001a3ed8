"""A few hand-written records of each multiple-choice task of the GPT-3 suite, as released and as on the Hub.

Story Cloze, RACE and the SAT analogies, which may not be passed on, have enough of them for four shots.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Record = dict[str, Any]

SPLITS = {
    "hellaswag": ("train", "validation"),
    "storycloze": ("validation", "test"),
    "winograd": ("test", "test"),
    "winogrande": ("train", "validation"),
    "piqa": ("train", "validation"),
    "arc/easy": ("train", "test"),
    "arc/challenge": ("train", "test"),
    "openbookqa": ("train", "test"),
    "race/high": ("train", "test"),
    "race/middle": ("train", "test"),
    "anli/r1": ("train", "test"),
    "anli/r2": ("train", "test"),
    "anli/r3": ("train", "test"),
    "sat": ("test", "test"),
}
"""Tasks with the splits of the demonstrations and of the evaluated examples."""


def lines(records: list[Record]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


HELLASWAG: list[Record] = [
    {
        "ind": 24,
        "activity_label": "Mending nets",
        "ctx_a": "A man sits on a pier with a net.",
        "ctx_b": "he",
        "ctx": "A man sits on a pier with a net. he",
        "split_type": "indomain",
        "endings": ["eats the pier.", "ties a knot in the net.", "paints a cat.", ", then, flies off."],
        "source_id": "activitynet~v_a",
    },
    {
        "ind": 25,
        "activity_label": "Home and Garden",
        "ctx_a": "[header] How to light a lamp [title] Fill the lamp. [step] Pour oil into it slowly.",
        "ctx_b": "",
        "ctx": "[header] How to light a lamp [title] Fill the lamp. [step] Pour oil into it slowly.",
        "split_type": "zeroshot",
        "endings": ["Stop [early].", "[title] Sing. [step] Loudly.", "Wait [substeps] a while.", "Drink the oil."],
        "source_id": "wikihow~1",
    },
    {
        "ind": 26,
        "activity_label": "Rowing",
        "ctx_a": "Two women row a boat.",
        "ctx_b": "the boat",
        "ctx": "Two women row a boat. the boat",
        "split_type": "indomain",
        "endings": ["sings.", "reaches the shore.", "is a hat.", "melts."],
        "source_id": "activitynet~v_b",
    },
]
HELLASWAG_LABELS = [1, 2, 1]

STORIES: list[tuple[str, list[str], list[str], int]] = [
    ("s1", ["Ada bought a kite.", "The wind was strong.", "She ran.", "The kite rose."], ["She fell.", "It flew."], 2),
    ("s2", ["Ben had a cold.", "He drank tea.", "He slept.", "He woke up."], ["He was well.", "He was a cup."], 1),
    (
        "s4",
        ["Dan wanted to bake bread.", "He had no flour.", "He asked Eli for some.", "Eli gave him a full bag."],
        ["Dan baked two loaves and took one to Eli.", "Dan threw his oven into the sea."],
        1,
    ),
    (
        "s5",
        [
            "Fay saw smoke above the pier.",
            "She rang the bell.",
            "Ten people came with buckets.",
            "The fire was out soon.",
        ],
        ["They were sorry that they had helped.", "They thanked Fay for her sharp eyes."],
        2,
    ),
    (
        "s6",
        [
            "Gil was afraid of water.",
            "His aunt taught him to swim.",
            "He trained each day.",
            "In May he swam far.",
        ],
        ["His aunt was proud of him.", "His aunt had never seen the bay."],
        1,
    ),
    ("s3", ["Cleo lost a key.", 'She searched, "hard".', "It rained.", "She looked up."], ["It hung there.", "No."], 1),
    (
        "s7",
        ["Hal planted an apple tree.", "A storm broke its stem.", "He tied it to a pole.", "The stem grew together."],
        ["Hal sold the storm.", "Hal picked apples in autumn."],
        2,
    ),
    (
        "s8",
        ["Ivy painted the boat.", "Her brother sat down on it.", "The paint was still wet.", "He stood up again."],
        ["There was a blue spot on his trousers.", "The boat was made of bread."],
        1,
    ),
    (
        "s9",
        ["Jo missed the last ferry.", "The inn was full.", "A fisherman saw her wait.", "He was rowing home to Orla."],
        ["Jo wrote a letter to the inn's cat.", "He took her across in his boat."],
        2,
    ),
]
STORIES_SHOWN = 5

ARC: list[tuple[str, str, list[str], str, str]] = [
    ("q1", "What melts in the sun?", ["ice", "iron", "sand", "clay"], "ABCD", "A"),
    ("q2", "Which of these is a star?", ["the Moon", "the Sun", "Mars"], "123", "2"),
    ("q3", "What do plants need?", ["salt", "oil", "light", "wind", "noise"], "ABCDE", "C"),
]

PIQA: list[Record] = [
    {"goal": "dry a net", "sol1": "hang it up ", "sol2": "sink it", "label": 0},
    {"goal": "How do you light a lamp? ", "sol1": "with milk", "sol2": "with a match", "label": 1},
    {"goal": "cool tea", "sol1": "wait", "sol2": "shout", "label": 0},
]

WINOGRANDE: list[Record] = [
    {"sentence": "Ada envied Cleo because _ had a boat.", "option1": "Ada", "option2": "Cleo", "answer": "2"},
    {"sentence": "Ada envied Cleo because _ had no boat.", "option1": "Ada", "option2": "Cleo", "answer": "1"},
    {"sentence": "The net is in the boat, so the _ is full.", "option1": "boat", "option2": "net", "answer": "1"},
    {
        "sentence": "The boat was tied to the pier as the _ 's rope held.",
        "option1": "pier",
        "option2": "boat",
        "answer": "1",
    },
]

SCHEMAS: list[tuple[str, str, str, list[str], int]] = [
    ("The lamp did not fit in the box because", "it", "was too big.", ["The lamp", "The box"], 0),
    ("The lamp did not fit in the box because", "it", "was too small.", ["The lamp", "The box"], 1),
    ("Dan called Eli about the nets. He counted on", "them", ".", ["My nets", "Eli and Dan"], 0),
    ("Dan asked Eli about the boat.", "He", "knew, of course.", ["The boat", "Eli"], 1),
    ("Fay sat behind Gil because", "his", '"Here!" was quicker.', ["Fay", "The boy"], 1),
]

RACE: list[Record] = [
    {
        "id": "high1.txt",
        "article": "A lamp stood by the sea.\nIt was red. ",
        "questions": ["What colour was the lamp?", "The lamp stood by _ .", "Was it lit?"],
        "options": [
            ["Blue", "Red", "Green", "Grey"],
            ["a hill", "a road", "a wall", "the sea"],
            ["Yes", "No", " ?", "!"],
        ],
        "answers": ["B", "D", "C"],
    },
    {
        "id": "high2.txt",
        "article": "Nets dry on the pier.",
        "questions": ["What dries?"],
        "options": [["Nets", "Boats", "Cats", "Hats"]],
        "answers": ["A"],
    },
    {
        "id": "high3.txt",
        "article": "Kay kept bees behind her house. In spring she gave each neighbour a jar of honey.\n"
        "When her roof leaked, eleven people came to mend it.",
        "questions": ["What did Kay keep?", "The neighbours mended the roof because _ ."],
        "options": [
            ["Bees.", "Goats.", "Hens.", "Ducks."],
            ["they were paid", "they liked the rain", "Kay had been kind to them", "it was their own"],
        ],
        "answers": ["A", "C"],
    },
    {
        "id": "high4.txt",
        "article": "The old clock of Lyra goes seven minutes late. Nobody sets it right: the ferry leaves by it, "
        "and those who run for it are glad of the seven minutes.",
        "questions": ["How late is the clock?", "Why does nobody set it right?"],
        "options": [
            ["One minute.", "Seven minutes.", "Ten minutes.", "An hour."],
            ["It is too high.", "Nobody knows how.", "It is broken.", "People are glad that it is late."],
        ],
        "answers": ["B", "D"],
    },
    {
        "id": "high5.txt",
        "article": "Max read maps as others read novels. He had never left Orla, but he could tell you the way "
        "from any town to any other.",
        "questions": ["Max _ ."],
        "options": [["sold novels", "travelled a lot", "knew the roads from maps", "lost his way in Orla"]],
        "answers": ["C"],
    },
    {
        "id": "high6.txt",
        "article": "Nell found a bottle on the beach. In it was a letter, thirty years old.\nShe wrote to the address, "
        "and a woman answered: she had thrown it into the sea when she was nine.",
        "questions": ["Where was the bottle?", "How old was the letter?", "The letter was written by _ ."],
        "options": [
            ["In a shop", "On a ship", "On the beach", "In a house"],
            ["Three years", "Nine years", "Thirteen years", "Thirty years"],
            ["a girl of nine", "an old sailor", "Nell herself", "Nell's mother"],
        ],
        "answers": ["C", "D", "A"],
    },
]
RACE_SHOWN, RACE_ASKED = slice(0, 5), slice(0, None, 5)  # the first article is in both

ANLI: list[Record] = [
    {"uid": "u1", "context": "The pier is old.", "hypothesis": "The pier is new. ", "label": "c", "reason": "old"},
    {"uid": "u2", "context": "The pier is old.", "hypothesis": "The pier is not new.", "label": "e", "reason": ""},
    {"uid": "u3", "context": "Ada has a kite.", "hypothesis": "The kite is red.", "label": "n", "reason": ""},
]

SAT = """\
# SAT analogy questions
# from several sources

190 FROM REAL SATs
net fish n:n
lamp oil n:n
trap bird n:n
boat sea n:n
kite wind n:n
pier stone n:n
b

ML:
row boat v:n
fly kite v:n
see sun v:n
eat bread v:n
sing song v:n
burn lamp v:n
a


SOMEWHERE
tea cup n:n
oil lamp n:n
cup tea n:n
wind kite n:n
bird trap n:n
sea boat n:n
a

17 FROM REAL SATs
author novel n:n
reader library n:n
baker bread n:n
guest inn n:n
pupil school n:n
sailor sea n:n
b

18 FROM REAL SATs
dry wet a:a
cold icy a:a
loud noisy a:a
small tiny a:a
early late a:a
brave bold a:a
d

ML:
whisper shout v:v
walk run v:v
sleep wake v:v
give take v:v
come go v:v
ask tell v:v
a
"""


def _nested(rows: list[tuple[str, str, list[str], str, str]]) -> list[Record]:
    return [
        {
            "id": name,
            "question": {
                "stem": stem,
                "choices": [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)],
            },
            "answerKey": key,
        }
        for name, stem, texts, labels, key in rows
    ]


def _xml() -> str:
    schemas = "".join(
        f"<schema>\n<text>\n<txt1>\n{before} </txt1>\n<pron> {pronoun}  </pron>\n<txt2>\n{after}\n</txt2>\n</text>\n"
        f"<quote><quote1></quote1><pron>{pronoun}</pron><quote2>{after}</quote2></quote>\n"
        f"<answers>\n<answer>{nouns[0]} </answer>\n<answer> {nouns[1]}</answer>\n</answers>\n"
        f"<correctAnswer> {'AB'[label]}{'.' * label}  </correctAnswer>\n<source> none </source>\n</schema>\n\n"
        for before, pronoun, after, nouns, label in SCHEMAS
    )
    return f'<?xml version="1.0" encoding="ISO-8859-1"?>\n<collection>\n{schemas}</collection>\n'


def _stories(rows: list[tuple[str, list[str], list[str], int]]) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    sentences = [f"InputSentence{number}" for number in range(1, 5)]
    endings = ["RandomFifthSentenceQuiz1", "RandomFifthSentenceQuiz2"]
    writer.writerow(["InputStoryid", *sentences, *endings, "AnswerRightEnding"])
    writer.writerows([name, *body, *ends, answer] for name, body, ends, answer in rows)
    return file.getvalue()


def release_files() -> dict[str, str]:
    """Path below the data directory and content of every official file."""
    swag = [{**row, "label": label} for row, label in zip(HELLASWAG, HELLASWAG_LABELS, strict=True)]
    goals = [{name: value for name, value in row.items() if name != "label"} for row in PIQA]
    labels = [f"{row['label']}\n" for row in PIQA]
    story = "storycloze/cloze_test_{0}__spring2016 - cloze_test_ALL_{0}.csv"
    files = {
        "hellaswag/hellaswag_train.jsonl": lines(swag[:2]),
        "hellaswag/hellaswag_val.jsonl": lines(swag[2:]),
        story.format("val"): _stories(STORIES[:STORIES_SHOWN]),
        story.format("test"): _stories(STORIES[STORIES_SHOWN:]),
        "winograd/WSCollection.xml": _xml(),
        "winogrande/train_xl.jsonl": lines([{"qID": f"q-{n}", **row} for n, row in enumerate(WINOGRANDE[:3])]),
        "winogrande/dev.jsonl": lines(WINOGRANDE[3:]),
        "piqa/train.jsonl": lines(goals[:2]),
        "piqa/train-labels.lst": "".join(labels[:2]),
        "piqa/valid.jsonl": lines(goals[2:]),
        "piqa/valid-labels.lst": "".join(labels[2:]),
        "openbookqa/train.jsonl": lines(_nested(ARC[:2])),
        "openbookqa/test.jsonl": lines(_nested(ARC[2:])),
        "sat/SAT-package-V3.txt": SAT,
    }
    for half in ("Easy", "Challenge"):
        files[f"arc/ARC-{half}/ARC-{half}-Train.jsonl"] = lines(_nested(ARC[:2]))
        files[f"arc/ARC-{half}/ARC-{half}-Test.jsonl"] = lines(_nested(ARC[2:]))
    for level in ("high", "middle"):
        for split, articles in (("train", RACE[RACE_SHOWN]), ("test", RACE[RACE_ASKED])):
            for article in map(_of_level(level), articles):
                files[f"RACE/{split}/{level}/{article['id'].removeprefix(level)}"] = json.dumps(article)
    for number in (1, 2, 3):
        files[f"anli/R{number}/train.jsonl"] = lines(ANLI[:2])
        files[f"anli/R{number}/test.jsonl"] = lines(ANLI[2:])
    return files


def write_choice_release(directory: Path) -> Path:
    """Lay the records out as the official releases do."""
    for name, content in release_files().items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8", newline="")
    return directory


def hub_rows(path: str, name: str | None, split: str) -> list[Record]:
    """The rows of a split as the Hub has them."""
    is_demonstration = split.startswith("train") or (path, split) == ("LSDSem/story_cloze", "validation")
    part = slice(0, 2) if is_demonstration else slice(2, 3)
    if path == "Rowan/hellaswag":
        return [{**row, "label": str(n)} for row, n in zip(HELLASWAG[part], HELLASWAG_LABELS[part], strict=True)]
    if path == "LSDSem/story_cloze" and name == "2016":
        return [
            _hub_story(*story) for story in (STORIES[:STORIES_SHOWN] if is_demonstration else STORIES[STORIES_SHOWN:])
        ]
    if path == "lighteval/winograd_wsc" and (name, split) == ("wsc273", "test"):
        return [_hub_schema(*schema) for schema in SCHEMAS]
    if path == "allenai/winogrande" and name == "winogrande_xl":
        return WINOGRANDE[:3] if is_demonstration else WINOGRANDE[3:]
    if path == "baber/piqa":
        return PIQA[part]
    if path == "allenai/ai2_arc" and name in ("ARC-Easy", "ARC-Challenge"):
        return [_hub_choices("question", *row) for row in ARC[part]]
    if path == "allenai/openbookqa" and name == "main":
        return [_hub_choices("question_stem", *row) for row in ARC[part]]
    if path == "ehovy/race" and name in ("high", "middle"):
        articles = RACE[RACE_SHOWN if is_demonstration else RACE_ASKED]
        return [row for article in map(_of_level(name), articles) for row in _hub_race(article)]
    if path == "facebook/anli" and split in {f"{part}_r{n}" for part in ("train", "test") for n in (1, 2, 3)}:
        return [_hub_anli(row) for row in ANLI[part]]
    raise AssertionError(f"nothing on the Hub is called {path}, {name}, {split}")


def _hub_story(name: str, sentences: list[str], endings: list[str], answer: int) -> Record:
    numbered = {f"input_sentence_{number}": text for number, text in enumerate(sentences, start=1)}
    quiz = {"sentence_quiz1": endings[0], "sentence_quiz2": endings[1]}
    return {"story_id": name, **numbered, **quiz, "answer_right_ending": answer}


def _hub_schema(before: str, pronoun: str, after: str, nouns: list[str], label: int) -> Record:
    text = f"{before} {pronoun} {after}"
    position = {"pronoun": pronoun, "pronoun_loc": len(before) + 1, "quote": after, "quote_loc": len(before) + 1}
    return {"text": text, **position, "options": nouns, "label": label, "source": "none"}


def _hub_choices(stem: str, name: str, question: str, texts: list[str], labels: str, key: str) -> Record:
    return {"id": name, stem: question, "choices": {"text": texts, "label": list(labels)}, "answerKey": key}


def _of_level(level: str) -> Callable[[Record], Record]:
    """Articles as the files of a level are named."""
    return lambda article: {**article, "id": article["id"].replace("high", level)}


def _hub_race(article: Record) -> list[Record]:
    return [
        {"example_id": article["id"], "article": article["article"], "answer": a, "question": q, "options": options}
        for q, options, a in zip(article["questions"], article["options"], article["answers"], strict=True)
    ]


def _hub_anli(row: Record) -> Record:
    record = {"uid": row["uid"], "premise": row["context"], "hypothesis": row["hypothesis"], "reason": row["reason"]}
    return {**record, "label": {"e": 0, "n": 1, "c": 2}[row["label"]]}  # entailment, neutral, contradiction
