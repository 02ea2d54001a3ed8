"""A few hand-written records of the standard tasks, as on the Hub, and as in the files of releases in another layout.

`HUB` has the rows of each data set by path, configuration and split. `FILES` has the files below a data directory;
where it has none, the rows are files of JSON lines.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from icl_eval.tasks import Library

Record = dict[str, Any]


def _mmlu(subject: str, question: str, choices: str, answer: int) -> Record:
    return {"question": question, "subject": subject, "choices": choices.split("|"), "answer": answer}


def _labelled(label: str, *texts: str, text: str = "text") -> list[Record]:
    """Rows with these texts and the labels 0, 1 and so on."""
    return [{text: each, label: number} for number, each in enumerate(texts)]


def _halves(rows: list[Record], split: str = "test") -> dict[str, list[Record]]:
    """All rows but the last two to be shown, and the last two to be evaluated."""
    return {"train": rows[:-2], split: rows[-2:]}


OPINIONS = ["A torn , wet map of a film .", "It leaks .", "It floats .", "It sails .", "It soars ."]
TREC = [
    ("ABBR:exp", "What does SOS stand for ?"),
    ("ENTY:animal", "Which fish , if any , has no scales ?"),
    ("DESC:def", "What is a `` sheet '' ?"),
    ("HUM:ind", "Who built the pier ?"),
    ("LOC:other", "Where is the town 's lighthouse ?"),
    ("NUM:count", "How many boats are there ?"),
]
NEWS = [
    ("Ferries meet", "Two countries talk about ferries."),
    ("Rowers win", "They won, says the #39;cox#39;, by \\ a length."),
    ("Net prices rise", "Demand for quot;nets quot; is high."),
    ("A new sonar", "It sees the cod #39;s bones."),
]
ARTICLES = [
    ("Eve's Boats", " Eve's Boats builds boats."),
    ("Pier School", " It teaches knots."),
    ("Fay", " Fay paints."),
]


HUB: dict[tuple[str, str | None], dict[str, list[Record]]] = {
    ("cais/mmlu", "all"): {
        "dev": [
            _mmlu("marine_biology", "Which of these is a fish?", "Crab|Cod|Whale|Squid", 1),
            _mmlu("marine_biology", "Where do cod live?", "Sea|Desert|Air|Trees", 0),
            _mmlu("sailing", "What holds a boat in place?", "Sail|Mast|Anchor|Oar", 2),
            _mmlu("sailing", "Port is", "left|right|front|back", 0),
        ],
        "test": [
            _mmlu("marine_biology", " What does a crab have?\n", "Wings|Claws|Fins|Fur", 1),
            _mmlu("sailing", 'What is a "sheet", on a boat?', "A bed|A sail|A map|A rope, of course", 3),
        ],
    },
    ("nyu-mll/glue", "sst2"): _halves(
        [{"sentence": f"{text} ", "label": number % 2, "idx": number} for number, text in enumerate(OPINIONS)],
        "validation",
    ),
    ("SetFit/sst5", None): _halves([{**row, "label_text": "?"} for row in _labelled("label", *OPINIONS)]),
    ("cornell-movie-review-data/rotten_tomatoes", None): _halves(_labelled("label", "dull .", "good .") * 2),
    ("SetFit/CR", None): _halves(_labelled("label", "the lamp broke .", "the net holds .") * 2),
    ("SetFit/subj", None): _halves(_labelled("label", "he sails home .", "a film to drown in .") * 2),
    ("CogComp/trec", None): _halves(
        [{"text": text, "coarse_label": number, "fine_label": 0} for number, (_, text) in enumerate(TREC)]
    ),
    ("fancyzhx/ag_news", None): _halves(_labelled("label", *(f"{title} {text}" for title, text in NEWS))),
    ("fancyzhx/dbpedia_14", None): _halves(
        [{"label": number, "title": title, "content": text} for number, (title, text) in enumerate(ARTICLES)]
    ),
    ("takala/financial_phrasebank", "sentences_allagree"): {
        "train": _labelled("label", "Sales fell .", "The pier @ Oslo is old .", "Sales rose .", text="sentence")
    },
    **{
        ("cardiffnlp/tweet_eval", name): _halves(_labelled("label", "@user no", "@user yes #sea") * 2)
        for name in ("emotion", "hate", "irony", "offensive", "sentiment")
    },
}


def _lines(split: slice, rows: list[str]) -> str:
    return "".join(f"{row}\n" for row in rows[split])


def _quoted(*rows: tuple[object, ...]) -> str:
    return "".join(",".join(f'"{value}"' for value in row) + "\n" for row in rows)


SHOWN, EVALUATED = slice(-2), slice(-2, None)
FILES: dict[str, str] = {
    "mmlu/dev/marine_biology_dev.csv": "Which of these is a fish?,Crab,Cod,Whale,Squid,B\n"
    "Where do cod live?,Sea,Desert,Air,Trees,A\n",
    "mmlu/dev/sailing_dev.csv": "What holds a boat in place?,Sail,Mast,Anchor,Oar,C\nPort is,left,right,front,back,A\n",
    "mmlu/test/marine_biology_test.csv": '" What does a crab have?\n",Wings,Claws,Fins,Fur,B\n',
    "mmlu/test/sailing_test.csv": '"What is a ""sheet"", on a boat?",A bed,A sail,A map,"A rope, of course",D\n',
    **{
        f"{folder}/stsa.{kind}.{part}": _lines(split, [f"{n % classes} {text}" for n, text in enumerate(OPINIONS)])
        for folder, kind, classes, evaluated in [("sst2", "binary", 2, "dev"), ("sst5", "fine", 5, "test")]
        for part, split in [("train", SHOWN), (evaluated, EVALUATED)]
    },
    "trec/train.txt": _lines(SHOWN, [f"{kind} {text}" for kind, text in TREC]),
    "trec/test.txt": _lines(EVALUATED, [f"{kind} {text}" for kind, text in TREC]),
    **{
        f"agnews/{part}.csv": "Class Index,Title,Description\n"
        + _quoted(*((number, *row) for number, row in list(enumerate(NEWS, start=1))[split]))
        for part, split in [("train", SHOWN), ("test", EVALUATED)]
    },
    **{
        f"dbpedia/{part}.csv": _quoted(*((number, *row) for number, row in list(enumerate(ARTICLES, start=1))[split]))
        for part, split in [("train", SHOWN), ("test", EVALUATED)]
    },
    "financial_phrasebank/Sentences_AllAgree.txt": (
        "Sales fell .@negative\nThe pier @ Oslo is old .@neutral\nSales rose .@positive\n"
    ),
}
GOLD = {
    "mmlu": ([1, 0, 2, 0], [1, 3]),
    "classification/sst2": ([0, 1, 0], [1, 0]),
    "classification/sst5": ([0, 1, 2], [3, 4]),
    "classification/trec": ([0, 1, 2, 3], [4, 5]),
    "classification/agnews": ([0, 1], [2, 3]),
    "classification/dbpedia": ([0], [1, 2]),
    "classification/financial-phrasebank": ([0, 1, 2], [0, 1, 2]),
    **dict.fromkeys(
        [
            *(f"classification/{name}" for name in ("mr", "cr", "subj")),
            *(f"classification/tweet-{name}" for name in ("emotion", "hate", "irony", "offensive", "sentiment")),
        ],
        ([0, 1], [0, 1]),
    ),
}
"""Right options of the examples that are shown and that are evaluated."""


def hub_rows(path: str, name: str | None, split: str) -> list[Record]:
    """The rows of a split on the Hub."""
    return HUB[path, name][split]


def write_standard_release(directory: Path) -> Path:
    """Write the files of all standard tasks below a directory."""
    for name, text in {**_rows_as_files(), **FILES}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return directory


def _rows_as_files() -> dict[str, str]:
    """The rows of the Hub as JSON lines, for tasks whose files have the same fields."""
    found = {}
    for task in map(Library().task, GOLD):
        data = task.definition.data
        assert data.hub is not None
        for split, file in data.local.items():
            rows = HUB[data.hub.path, data.hub.name].get(data.hub.splits.get(split, split), [])
            if isinstance(file, str) and file.endswith(".jsonl") and rows:
                found[file] = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return found
