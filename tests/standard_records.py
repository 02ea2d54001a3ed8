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
}
FILES: dict[str, str] = {
    "mmlu/dev/marine_biology_dev.csv": "Which of these is a fish?,Crab,Cod,Whale,Squid,B\n"
    "Where do cod live?,Sea,Desert,Air,Trees,A\n",
    "mmlu/dev/sailing_dev.csv": "What holds a boat in place?,Sail,Mast,Anchor,Oar,C\nPort is,left,right,front,back,A\n",
    "mmlu/test/marine_biology_test.csv": '" What does a crab have?\n",Wings,Claws,Fins,Fur,B\n',
    "mmlu/test/sailing_test.csv": '"What is a ""sheet"", on a boat?",A bed,A sail,A map,"A rope, of course",D\n',
}
GOLD = {"mmlu": ([1, 0, 2, 0], [1, 3])}
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
