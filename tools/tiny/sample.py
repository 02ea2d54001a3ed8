"""The sample: every bundled file, drawn from one seed, in the layout and schema of the official SuperGLUE release.

`draw_sample(seed)` is pure; the same seed gives the same records on every platform.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from itertools import count, cycle, islice
from random import Random
from typing import Any

from tools.tiny.choice import copa_choice
from tools.tiny.cloze import record_story
from tools.tiny.coreference import wsc_text
from tools.tiny.entailment import COMMITMENT, ENTAILMENT, axb_pair, axg_twins, cb_pair, rte_pair
from tools.tiny.lexicon import THINGS
from tools.tiny.reading import boolq_question, multirc_passage
from tools.tiny.senses import wic_pair
from tools.tiny.symbols import symbol_records
from tools.tiny.world import Record, World, draw_world

SEED = 20
TRAIN, VALIDATION, DIAGNOSTIC, QUERIES = 72, 48, 64, 80
"""Records per file: of each task, of each diagnostic set, and of the validation split of `symbols`."""


@dataclass(frozen=True)
class Kind:
    """How records of one task are drawn: its labels, and a builder of a few related records that have a given label."""

    labels: tuple[Any, ...]
    build: Callable[[Random, World, Any], tuple[Record, ...]]


KINDS = {
    "BoolQ": Kind((True, False), lambda rng, world, label: (boolq_question(rng, world, label),)),
    "CB": Kind(COMMITMENT, lambda rng, world, label: (cb_pair(rng, world, label),)),
    "COPA": Kind((0, 1), lambda rng, world, label: (copa_choice(rng, world, label),)),
    "MultiRC": Kind((None,), lambda rng, world, _: (multirc_passage(rng, world),)),
    "ReCoRD": Kind((None,), lambda rng, world, _: (record_story(rng, world, THINGS),)),
    "RTE": Kind(ENTAILMENT, lambda rng, world, label: (rte_pair(rng, world, label),)),
    "WiC": Kind((True, False), lambda rng, world, label: (wic_pair(rng, world, label),)),
    "WSC": Kind((True, False), lambda rng, world, label: (wsc_text(rng, world, label),)),
    "AX-b": Kind(ENTAILMENT, lambda rng, world, label: (axb_pair(rng, world, label),)),
    "AX-g": Kind(ENTAILMENT, axg_twins),
}
DIAGNOSTICS = ("AX-b", "AX-g")


def draw_sample(seed: int = SEED) -> dict[str, list[Record]]:
    """All records of the sample by relative file name, such as `superglue/RTE/val.jsonl`."""
    files: dict[str, list[Record]] = {}
    for task in KINDS:
        sizes = {task: DIAGNOSTIC} if task in DIAGNOSTICS else {"train": TRAIN, "val": VALIDATION}
        rng, drawn = Random(f"{seed}/{task}"), set[str]()
        for split, size in sizes.items():
            files[f"superglue/{task}/{split}.jsonl"] = _draw_split(task, rng, size, drawn)
    files["symbols/train.jsonl"], files["symbols/val.jsonl"] = symbol_records(Random(f"{seed}/symbols"), QUERIES)
    return files


def draw_records(task: str, rng: Random, excluded: Set[str]) -> Iterator[Record]:
    """Endless unnumbered records, the labels in turn, none with an `identity` in `excluded` when it is drawn."""
    kind = KINDS[task]
    for label in cycle(kind.labels):
        while True:
            drawn = kind.build(rng, draw_world(rng), label)
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


def _draw_split(task: str, rng: Random, size: int, drawn: set[str]) -> list[Record]:
    """`size` numbered records, none with an identity in `drawn`, to which theirs are added."""
    records: list[Record] = []
    for record in islice(draw_records(task, rng, drawn), size):
        records.append(record)
        drawn.add(identity(record))
    if task != "AX-g":  # twins stay neighbours
        rng.shuffle(records)
    number(task, records)
    return records
