"""Even or odd: a task in memory, the same in files, and models that know some of its answers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from icl_eval import Task
from icl_eval.testing import FakeLM

ASKED, SHOWN = range(8), range(100, 112)
NAMES = ["even", "odd"]
PROMPT = "Q: {{ n }}\nA:"

PARITY_YAML = """\
task: toy/parity
about: Is a number even?
data:
  local: {train: parity/train.jsonl, validation: parity/val.jsonl}
splits: {demonstrations: train, evaluation: validation}
id: n
fields: {n: n}
gold: {field: label, names: [even, odd]}
options: [even, odd]
prompts: [plain, chatty]
protocol: {shots: 2}
metrics: [accuracy]
"""
PAIRS_YAML = """\
task: toy/pairs
about: Are both numbers of a pair even?
extends: toy/parity
data:
  local: {train: pairs/train.jsonl, validation: pairs/val.jsonl}
fields: {n: n, pair: pair}
group: pair
cluster: pair
metrics: [accuracy, group_exact_match]
"""
SUITE_YAML = "suite: toy\nabout: Two toys.\ntasks: [toy/parity, toy/pairs]\n"
CHATTY = "{% block instruction %}Even or odd?{% endblock %}\n{% block query %}Q: {{ n }}\nA:{% endblock %}\n"


def records(numbers: Iterable[int]) -> list[dict[str, Any]]:
    return [{"id": n, "n": n, "label": n % 2} for n in numbers]


def parity(queries: Iterable[int] = ASKED, demonstrations: Iterable[int] = SHOWN, **overrides: Any) -> Task:
    overrides = {"prompt": PROMPT, "options": NAMES, "id": "id"} | overrides
    return Task.from_records("parity", evaluation=records(queries), demonstrations=records(demonstrations), **overrides)


def answers(right: Iterable[int], queries: Iterable[int] = ASKED, after: str = "") -> dict[str, str]:
    """What a FakeLM prefers after `after` and a question: the right answer to these questions, else the wrong one."""
    known = set(right)
    return {f"{after}Q: {n}\nA:": f" {NAMES[n % 2] if n in known else NAMES[1 - n % 2]}" for n in queries}


def knowing(*right: int) -> FakeLM:
    """A model that answers these questions rightly and the others wrongly, whatever the demonstrations."""
    return FakeLM(answers(right))


def write_library(root: Path) -> Path:
    """A folder with tasks, prompts and data; `toy` is a suite of `toy/parity` and `toy/pairs`."""
    write(root, "tasks/toy.yaml", SUITE_YAML)
    write(root, "tasks/toy/parity.yaml", PARITY_YAML)
    write(root, "tasks/toy/pairs.yaml", PAIRS_YAML)
    for task in ("parity", "pairs"):
        write(root, f"prompts/toy/{task}/plain.jinja", PROMPT)
        write(root, f"prompts/toy/{task}/chatty.jinja", CHATTY)
        for split, numbers in (("train", SHOWN), ("val", ASKED)):
            lines = [json.dumps({"n": n, "pair": n // 2, "label": n % 2}) for n in numbers]
            write(root, f"data/{task}/{split}.jsonl", "\n".join(lines) + "\n")
    return root


def write(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
