"""A few hand-written records of each SuperGLUE task, in the layout of the official release and in that of the Hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

Record = dict[str, Any]
Records = dict[str, dict[str, list[Record]]]  # task -> split -> records

ENTAILMENT = ["entailment", "not_entailment"]
TRUTH = ["False", "True"]
NAMES = {
    "boolq": TRUTH,
    "cb": ["entailment", "contradiction", "neutral"],
    "copa": ["choice1", "choice2"],
    "multirc": TRUTH,
    "rte": ENTAILMENT,
    "wic": TRUTH,
    "wsc": TRUTH,
    "axb": ENTAILMENT,
    "axg": ENTAILMENT,
}
FOLDERS = {
    "boolq": "BoolQ",
    "cb": "CB",
    "copa": "COPA",
    "multirc": "MultiRC",
    "record": "ReCoRD",
    "rte": "RTE",
    "wic": "WiC",
    "wsc": "WSC",
}
CONFIGURATIONS = {name: "wsc.fixed" if name == "wsc" else name for name in (*FOLDERS, "axb", "axg")}


def _boolq() -> Iterator[Record]:
    for number, (title, kept, question) in enumerate(
        [
            ("Lighthouse", True, "is a lighthouse lit at night"),
            ("Ferry", False, "does a ferry fly"),
            ("Harbour", True, "can ships rest in a harbour"),
        ]
    ):
        passage = f"{title} -- The {title.lower()} of the town is old. It still works."
        yield {"question": question, "passage": passage, "label": kept, "idx": number}


def _cb() -> Iterator[Record]:
    for number, (lead, label) in enumerate(
        [("It is known", "entailment"), ("It is a lie", "contradiction"), ("Some hope", "neutral")]
    ):
        yield {
            "premise": f"{lead} that the tide is high.",
            "hypothesis": "the tide is high",
            "label": label,
            "idx": number,
        }


def _copa() -> Iterator[Record]:
    yield _choice("The rope broke.", "The boat drifted off.", "The sun set.", "effect", 0, 0)
    yield _choice("The lamp went out.", "Someone sang.", "The oil was used up.", "cause", 1, 1)
    yield _choice("Ada missed the ferry.", "She overslept.", "She bought a kite.", "cause", 0, 2)


def _choice(premise: str, choice1: str, choice2: str, question: str, label: int, number: int) -> Record:
    texts = {"premise": premise, "choice1": choice1, "choice2": choice2}
    return {**texts, "question": question, "label": label, "idx": number}


def _rte() -> Iterator[Record]:
    for number, (hypothesis, label) in enumerate(
        [
            ("Ben owns a boat.", "entailment"),
            ("Ben sells fish.", "not_entailment"),
            ("Somebody owns a boat.", "entailment"),
        ]
    ):
        yield {"premise": "Ben, a pilot, owns a boat.", "hypothesis": hypothesis, "label": label, "idx": number}


def _wic() -> Iterator[Record]:
    spans = {"start1": 4, "end1": 8, "start2": 6, "end2": 10, "version": 1.1}
    for number, (first, second, label) in enumerate(
        [
            ("The bank of the river flooded.", "She robbed a bank.", False),
            ("The bank was closed.", "A bank lends money.", True),
            ("He sat on the bank to fish.", "The muddy bank gave way.", True),
        ]
    ):
        yield {"word": "bank", "sentence1": first, "sentence2": second, "label": label, "idx": number, **spans}


def _wsc() -> Iterator[Record]:
    yield _schema("Carl lent Dan the net because he had two.", 0, "Carl", 6, "he", True, 0)
    yield _schema("The mast hit the roof since it was low, he said.", 0, "The mast", 6, "it", False, 1)
    yield _schema("Eve thanked Fay for the help she had given.", 2, "Fay", 6, "she", True, 2)


def _schema(text: str, index1: int, noun: str, index2: int, pronoun: str, label: bool, number: int) -> Record:
    target = {"span1_index": index1, "span1_text": noun, "span2_index": index2, "span2_text": pronoun}
    return {"text": text, "target": target, "label": label, "idx": number}


def _multirc() -> Iterator[Record]:
    answers = iter(range(100))
    questions = iter(range(100))
    for number, name in enumerate(["Gil", "Hal", "Ivy"]):
        yield {
            "version": 1.1,
            "idx": number,
            "passage": {
                "text": f"{name} mends nets. {name} lives by the pier.",
                "questions": [
                    {
                        "question": question,
                        "idx": next(questions),
                        "answers": [{"text": text, "label": label, "idx": next(answers)} for text, label in labelled],
                    }
                    for question, labelled in [
                        (f"What does {name} mend?", [("Nets", 1), ("Boats", 0), ("Fishing nets", 1)]),
                        (f"Where does {name} live?", [("On a hill", 0), ("By the pier", 1)]),
                    ]
                ],
            },
        }


def _record() -> Iterator[Record]:
    for number, (first, second) in enumerate([("Jo Kent", "Lyra"), ("Max", "Max Bay"), ("Nell", "Orla")]):
        text = f"{first} sailed to {second}.\n@highlight\n{second} cheered\n@highlight\nA feast for {first}"
        yield {
            "source": "none",
            "idx": number,
            "passage": {
                "text": text,
                "entities": [_span(text, second, 12), _span(text, first, 0), _span(text, first, 20)],
            },
            "qas": [
                {"query": "The feast was for @placeholder.", "idx": 2 * number, "answers": [_span(text, first, 0)] * 2},
                {"query": "They cheered in @placeholder.", "idx": 2 * number + 1, "answers": [_span(text, second, 9)]},
            ],
        }


def _span(text: str, name: str, after: int) -> Record:
    start = text.index(name, after)
    return {"start": start, "end": start + len(name) - 1, "text": name}


def _diagnostic(first: str, second: str) -> Iterator[Record]:
    for number, label in enumerate(["entailment", "not_entailment"]):
        yield {
            first: "The gull ate the bread.",
            second: f"Bread was eaten by {number} gulls.",
            "label": label,
            "idx": number,
        }


def _split(records: list[Record]) -> dict[str, list[Record]]:
    """Two demonstrations and one evaluated record; MultiRC and ReCoRD count passages."""
    return {"train": records[:2], "validation": records[2:]}


OFFICIAL: Records = {
    "boolq": _split(list(_boolq())),
    "cb": _split(list(_cb())),
    "copa": _split(list(_copa())),
    "multirc": _split(list(_multirc())),
    "record": _split(list(_record())),
    "rte": _split(list(_rte())),
    "wic": _split(list(_wic())),
    "wsc": _split(list(_wsc())),
    "axb": {"test": list(_diagnostic("sentence1", "sentence2"))},
    "axg": {"test": list(_diagnostic("premise", "hypothesis"))},
}


def write_release(directory: Path, records: Records = OFFICIAL) -> Path:
    """Lay the records out as the official release does."""
    for task, splits in records.items():
        for split, rows in splits.items():
            diagnostic = {"axb": "AX-b/AX-b", "axg": "AX-g/AX-g"}.get(task)
            name = diagnostic or f"{FOLDERS[task]}/{ {'train': 'train', 'validation': 'val'}[split] }"
            path = directory / f"{name}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return directory


def hub_dataset(task: str, rows: list[Record]) -> datasets.Dataset:
    """The same records as the Hub has them: flat, and labels as integers with names."""
    flat = [record for row in rows for record in _HUB.get(task, _integer_label)(task, row)]
    dataset = datasets.Dataset.from_list(flat)
    if task not in NAMES:
        return dataset
    return dataset.cast_column("label", datasets.ClassLabel(names=NAMES[task]))


def _integer_label(task: str, row: Record) -> Iterator[Record]:
    label = row["label"]
    yield {**row, "label": NAMES[task].index(label) if isinstance(label, str) else int(label)}


def _hub_wsc(task: str, row: Record) -> Iterator[Record]:
    target = row["target"]
    yield {"text": row["text"], "idx": row["idx"], "label": int(row["label"]), **target}


def _hub_multirc(task: str, row: Record) -> Iterator[Record]:
    for question in row["passage"]["questions"]:
        for answer in question["answers"]:
            yield {
                "paragraph": row["passage"]["text"],
                "question": question["question"],
                "answer": answer["text"],
                "idx": {"paragraph": row["idx"], "question": question["idx"], "answer": answer["idx"]},
                "label": answer["label"],
            }


def _hub_record(task: str, row: Record) -> Iterator[Record]:
    text = row["passage"]["text"]
    for query in row["qas"]:
        yield {
            "passage": text,
            "query": query["query"],
            "entities": sorted({text[span["start"] : span["end"] + 1] for span in row["passage"]["entities"]}),
            "answers": sorted({answer["text"] for answer in query["answers"]}),
            "idx": {"passage": row["idx"], "query": query["idx"]},
        }


_HUB = {"wsc": _hub_wsc, "multirc": _hub_multirc, "record": _hub_record}
