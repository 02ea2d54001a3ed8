"""The sample: every bundled file, drawn from one seed, in the layout and schema of the official SuperGLUE release.

`draw_sample(seed)` is pure; the same seed gives the same records on every platform.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from itertools import count, cycle, islice
from random import Random
from typing import Any

from tools.tiny.records import DIAGNOSTICS, KINDS
from tools.tiny.symbols import symbol_records
from tools.tiny.world import WORDS, Record, alternated

SEED = 20
TRAIN, VALIDATION, DIAGNOSTIC, QUERIES = 72, 96, 72, 80
"""Records per file: of each task, of each diagnostic set, and of the validation split of `symbols`."""
WORDS_PER_TASK = 6

Law = dict[str, Any]
"""What each of some invented words means, in one task and one world."""


def draw_law(rng: Random, task: str, size: int) -> Law:
    """A meaning for each of `size` words, every meaning about equally often."""
    meanings = KINDS[task].meanings
    return dict(zip(rng.sample(WORDS, size), alternated(rng, rng.sample(meanings, len(meanings)), size), strict=True))


def draw_sample(seed: int = SEED) -> dict[str, list[Record]]:
    """All records of the sample by relative file name, such as `superglue/RTE/val.jsonl`."""
    files: dict[str, list[Record]] = {}
    for task in KINDS:
        taught = "RTE" if task in DIAGNOSTICS else task  # the diagnostics are solved with demonstrations of RTE
        law = draw_law(Random(f"{seed}/{taught}/law"), taught, WORDS_PER_TASK)
        sizes = {task: DIAGNOSTIC} if task in DIAGNOSTICS else {"train": TRAIN, "val": VALIDATION}
        rng, drawn = Random(f"{seed}/{task}"), set[str]()
        for split, size in sizes.items():
            files[f"superglue/{task}/{split}.jsonl"] = _draw_split(task, law, rng, size, drawn)
    files["symbols/train.jsonl"], files["symbols/val.jsonl"] = symbol_records(Random(f"{seed}/symbols"), QUERIES)
    return files


def draw_records(task: str, law: Law, rng: Random, excluded: Set[str]) -> Iterator[Record]:
    """Endless unnumbered records, the words in turn, none with an `identity` in `excluded` when it is drawn."""
    for word in cycle(law):
        while True:
            drawn = KINDS[task].build(rng, word, law[word])
            if excluded.isdisjoint(map(identity, drawn)):
                break
        yield from drawn


def number(task: str, records: list[Record]) -> None:
    """Give the records of one split, their questions and their answers the numbers that the release has."""
    questions, answers = count(), count()
    for idx, record in enumerate(records):
        record["idx"] = str(idx) if task == "AX-b" else idx
        if task == "AX-g":
            record["pair_id"] = 1000 + idx // 2
        for query in record.get("qas", ()):
            query["idx"] = idx
        for question in record["passage"]["questions"] if task == "MultiRC" else ():
            question["idx"] = next(questions)
            for answer in question["answers"]:
                answer["idx"] = next(answers)


def identity(record: Record) -> str:
    """What makes two records the same: every field but their numbers."""
    return json.dumps(_unnumbered(record), sort_keys=True)


def jsonl(records: list[Record]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _unnumbered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unnumbered(item) for key, item in value.items() if key not in ("idx", "pair_id")}
    return [_unnumbered(item) for item in value] if isinstance(value, list) else value


def _draw_split(task: str, law: Law, rng: Random, size: int, drawn: set[str]) -> list[Record]:
    """`size` numbered records, none with an identity in `drawn`, to which theirs are added."""
    records: list[Record] = []
    for record in islice(draw_records(task, law, rng, drawn), size):
        records.append(record)
        drawn.add(identity(record))
    if task != "AX-g":  # twins stay neighbours
        rng.shuffle(records)
    number(task, records)
    return records
