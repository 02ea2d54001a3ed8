"""What a run folder holds, read without the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def manifest(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "manifest.json").read_text()))


def scores(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / "scores.json").read_text())["scores"])


def examples(folder: Path) -> list[dict[str, Any]]:
    return lines(folder / "examples.jsonl")


def journal(folder: Path) -> list[dict[str, Any]]:
    return lines(folder / "answers.jsonl")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
