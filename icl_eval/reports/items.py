"""The items of a report, as compressed columns of plain values."""

from __future__ import annotations

import base64
import gzip
import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icl_eval.reports.html import visible
from icl_eval.results.manifest import Manifest
from icl_eval.results.outcomes import Outcome
from icl_eval.results.prompt_texts import PromptTexts
from icl_eval.results.score import Score

MAX_TEXT = 20_000  # characters of a text in the page
MAX_PROMPT_TEXT = 30_000_000  # characters of all prompts; beyond it, the page shows a command instead of prompts
MAX_PARTS = 3_000_000  # number of parts of all prompts, and of scored tokens
COLUMNS = (
    *("cell", "id", "right", "chosen", "gold", "options", "scores", "margin", "loss"),
    *("texts", "references", "shown", "truncated"),
)


@dataclass(frozen=True)
class ReportRun:
    """The parts of a run for a report.

    Attributes:
        label: distinct label of the run.
        manifest, scores: of the run.
        outcomes: outcomes of its examples.
        folder: the run folder.
        texts: texts of its prompts; None if the folder has none.
    """

    label: str
    manifest: Manifest
    scores: Sequence[Score]
    outcomes: Iterable[Outcome]
    folder: Path
    texts: PromptTexts | None


@dataclass
class _Prompts:
    """The prompts of all items: distinct texts, and for each item the indices of its separator and its parts."""

    index: dict[str, int] = field(default_factory=dict)
    items: list[list[int] | None] = field(default_factory=list)
    size: int = 0
    parts: int = 0

    @property
    def is_small(self) -> bool:
        """Whether the prompts fit into the page."""
        return self.size <= MAX_PROMPT_TEXT and self.parts <= MAX_PARTS

    def add(self, texts: PromptTexts | None, outcome: Outcome) -> None:
        """Add the prompt of an item with its right option."""
        if texts is None or not self.is_small:
            self.items.append(None)
            return
        option = next((i for i, each in enumerate(outcome.options) if each.is_gold), 0)
        separator, parts = texts.parts(outcome.example, option)
        self.items.append([self._of(separator), *map(self._of, parts)])
        self.parts += len(parts)

    def _of(self, text: str) -> int:
        if text not in self.index:
            self.index[text] = len(self.index)
            self.size += len(text)
        return self.index[text]

    def document(self) -> dict[str, Any]:
        """The JSON document for the page."""
        return {"texts": [shortened(text) for text in self.index], "items": self.items}


@dataclass
class _Tokens:
    """The log-probabilities of the scored tokens of all items, and their distinct texts and sequences."""

    texts: dict[str, int] = field(default_factory=dict)
    sequences: dict[tuple[str, ...], int] = field(default_factory=dict)
    items: list[dict[str, Any] | None] = field(default_factory=list)
    count: int = 0

    def add(self, texts: PromptTexts | None, outcome: Outcome) -> None:
        """Add the tokens of an item, unless all options are single tokens or there are too many tokens."""
        scored = outcome.example.scored_tokens
        self.count += sum(map(len, scored))
        if all(len(each) < 2 for each in scored) or self.count > MAX_PARTS:
            self.items.append(None)
            return
        known = () if texts is None else texts.tokens(outcome.example)
        self.items.append(
            {
                "logprobs": [[round(value, 3) if math.isfinite(value) else None for value in each] for each in scored],
                "texts": [self.sequences.setdefault(each, len(self.sequences)) for each in known] or None,
            }
        )

    def document(self) -> dict[str, Any]:
        """The JSON document for the page."""
        index = self.texts.setdefault
        sequences = [[index(shortened(text), len(self.texts)) for text in each] for each in self.sequences]
        return {"texts": list(self.texts), "sequences": sequences, "items": self.items}


def item_blocks(runs: Sequence[ReportRun]) -> dict[str, str]:
    """The compressed documents of a page by name: `data`, and unless they are too large, `prompts` and `tokens`."""
    cells: dict[tuple[int, Any], int] = {}
    names: dict[tuple[str, ...], int] = {}
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    prompts, tokens, normalizations = _Prompts(), _Tokens(), list[str]()
    for number, run in enumerate(runs):
        for outcome in run.outcomes:
            cell = cells.setdefault((number, outcome.example.cell), len(cells))
            normalizations = list(
                dict.fromkeys([*normalizations, *(n for each in outcome.options[:1] for n in each.scores)])
            )
            for name, value in _row(cell, outcome, names, normalizations).items():
                columns[name].append(value)
            prompts.add(run.texts, outcome)
            tokens.add(run.texts, outcome)
    document = {
        "runs": [visible(run.label) for run in runs],
        "normalizations": normalizations,
        "cells": [[run, visible(c.task), visible(c.prompt), c.shots, c.seed] for run, c in cells],
        "commands": [visible(_command(runs[run].folder, cell)) for run, cell in cells],
        "names": [[shortened(name) for name in each] for each in names],
        **columns,
    }
    found = {"data": compressed(document)}
    if prompts.is_small and any(each is not None for each in prompts.items):
        found["prompts"] = compressed(prompts.document())
    if any(each is not None for each in tokens.items):
        found["tokens"] = compressed(tokens.document())
    return found


def _row(
    cell: int, outcome: Outcome, names: dict[tuple[str, ...], int], normalizations: Sequence[str]
) -> dict[str, Any]:
    """The values of an item by column; missing scores are None."""
    options = outcome.options
    return {
        "cell": cell,
        "id": shortened(outcome.example.id),
        "right": -1 if outcome.correct is None else int(outcome.correct),
        "chosen": -1 if outcome.chosen is None else outcome.chosen,
        "gold": [index for index, option in enumerate(options) if option.is_gold] if options else None,
        "options": names.setdefault(tuple(option.name for option in options), len(names)),
        "scores": [[_rounded(option.scores, name) for name in normalizations] for option in options] or None,
        "margin": None if outcome.margin is None else round(outcome.margin, 4),
        "loss": round(outcome.loss, 4) if abs(outcome.loss) < 1e300 else None,
        "texts": [
            [shortened(each.text), each.finished, {k: v and shortened(v) for k, v in each.extracted.items()}]
            for each in outcome.texts
        ]
        or None,
        "references": [shortened(each) for each in outcome.gold] if outcome.texts else None,
        "shown": outcome.example.shots,
        "truncated": outcome.example.truncated,
    }


def _rounded(scores: Mapping[Any, float], name: str) -> float | None:
    return round(scores[name], 4) if name in scores else None


def shortened(text: str) -> str:
    """A text for the page, shortened if it is very long."""
    if len(text) <= MAX_TEXT:
        return visible(text)
    return f"{visible(text[:MAX_TEXT])} ... ({len(text):,} characters; `icl-eval examples` prints all)"


def compressed(document: object) -> str:
    """A document as JSON, compressed by gzip and encoded in base64. Equal documents give equal texts."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


def _command(folder: Path, cell: Any) -> str:
    words = ["icl-eval", "examples", str(folder), "--task", cell.task, "--shots", str(cell.shots)]
    return shlex.join([*words, "--seed", str(cell.seed)])
