"""A few hand-written records of each multiple-choice task of the GPT-3 suite, as released and as on the Hub."""

from __future__ import annotations

import csv
import io
import json
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
"""Tasks with the splits that are shown and asked."""


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

STORIES = [
    ("s1", ["Ada bought a kite.", "The wind was strong.", "She ran.", "The kite rose."], ["She fell.", "It flew."], 2),
    ("s2", ["Ben had a cold.", "He drank tea.", "He slept.", "He woke up."], ["He was well.", "He was a cup."], 1),
    ("s3", ["Cleo lost a key.", 'She searched, "hard".', "It rained.", "She looked up."], ["It hung there.", "No."], 1),
]

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
]

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
        story.format("val"): _stories(STORIES[:2]),
        story.format("test"): _stories(STORIES[2:]),
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
        files[f"RACE/train/{level}/1.txt"] = json.dumps(RACE[0])
        files[f"RACE/train/{level}/2.txt"] = json.dumps(RACE[1])
        files[f"RACE/test/{level}/1.txt"] = json.dumps(RACE[0])
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
    shown = split.startswith("train") or (path, split) == ("LSDSem/story_cloze", "validation")
    part = slice(0, 2) if shown else slice(2, 3)
    if path == "Rowan/hellaswag":
        return [{**row, "label": str(n)} for row, n in zip(HELLASWAG[part], HELLASWAG_LABELS[part], strict=True)]
    if path == "LSDSem/story_cloze" and name == "2016":
        return [_hub_story(*story) for story in STORIES[part]]
    if path == "lighteval/winograd_wsc" and (name, split) == ("wsc273", "test"):
        return [_hub_schema(*schema) for schema in SCHEMAS]
    if path == "allenai/winogrande" and name == "winogrande_xl":
        return WINOGRANDE[:3] if shown else WINOGRANDE[3:]
    if path == "baber/piqa":
        return PIQA[part]
    if path == "allenai/ai2_arc" and name in ("ARC-Easy", "ARC-Challenge"):
        return [_hub_choices("question", *row) for row in ARC[part]]
    if path == "allenai/openbookqa" and name == "main":
        return [_hub_choices("question_stem", *row) for row in ARC[part]]
    if path == "ehovy/race" and name in ("high", "middle"):
        return [row for article in (RACE if shown else RACE[:1]) for row in _hub_race(article)]
    if path == "facebook/anli" and split in {f"{part}_r{n}" for part in ("train", "test") for n in (1, 2, 3)}:
        return [_hub_anli(row) for row in ANLI[part]]
    raise AssertionError(f"nothing on the Hub is called {path}, {name}, {split}")


def _hub_story(name: str, sentences: list[str], endings: list[str], answer: int) -> Record:
    numbered = {f"input_sentence_{number}": text for number, text in enumerate(sentences, start=1)}
    quiz = {"sentence_quiz1": endings[0], "sentence_quiz2": endings[1]}
    return {"story_id": name, **numbered, **quiz, "answer_right_ending": answer}


def _hub_schema(before: str, pronoun: str, after: str, nouns: list[str], label: int) -> Record:
    text = f"{before} {pronoun} {after}"
    place = {"pronoun": pronoun, "pronoun_loc": len(before) + 1, "quote": after, "quote_loc": len(before) + 1}
    return {"text": text, **place, "options": nouns, "label": label, "source": "none"}


def _hub_choices(stem: str, name: str, question: str, texts: list[str], labels: str, key: str) -> Record:
    return {"id": name, stem: question, "choices": {"text": texts, "label": list(labels)}, "answerKey": key}


def _hub_race(article: Record) -> list[Record]:
    return [
        {"example_id": article["id"], "article": article["article"], "answer": a, "question": q, "options": options}
        for q, options, a in zip(article["questions"], article["options"], article["answers"], strict=True)
    ]


def _hub_anli(row: Record) -> Record:
    said = {"uid": row["uid"], "premise": row["context"], "hypothesis": row["hypothesis"], "reason": row["reason"]}
    return {**said, "label": {"e": 0, "n": 1, "c": 2}[row["label"]]}  # entailment, neutral, contradiction
