"""Scores of every task of the GPT-3 suite on a few examples each, in one table.

    python benchmarks/suite.py MODEL DATA_DIR [DATA_DIR ...] [--shots 0,4] [--limit 20] [--tasks gpt3] [--out FOLDER]

A task is read from the first directory that has its files, in the layout that its task file names. If this is only a
part of the release, the splits of `PARTS` are used. Every task has a run folder below `--out`, so the same command
continues an interrupted one. Exits with 1 and prints the reason if a task could not be run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from icl_eval import evaluate, load_model
from icl_eval.errors import IclEvalError, MissingData
from icl_eval.models import LanguageModel
from icl_eval.results.score import Score
from icl_eval.tasks import Library, Task

TASKS = "gpt3,superglue-generated,wikitext-2,summarization/cnn-dailymail"


@dataclass(frozen=True)
class Part:
    """The splits to use if only a part of a release is there; None stands for the task's own."""

    split: str | None = None
    fewshot_split: str | None = None


PARTS = {
    "hellaswag": Part(fewshot_split="validation"),
    "lambada": Part(fewshot_split="test"),
    "nq": Part(fewshot_split="efficientqa"),
    "triviaqa": Part("subset", "subset"),
    "coqa": Part("test", "test"),
    "drop": Part("flat", "flat"),
    "anli/r1": Part("dev", "dev"),
    "anli/r2": Part("dev", "dev"),
    "anli/r3": Part("dev", "dev"),
    "translation/wmt14-en-fr": Part(fewshot_split="newsdiscuss"),
    "translation/wmt14-fr-en": Part(fewshot_split="newsdiscuss"),
    "translation/wmt16-en-ro": Part(fewshot_split="test"),
    "translation/wmt16-ro-en": Part(fewshot_split="test"),
}


@dataclass
class Suite:
    """A model with all that its tasks have in common."""

    model: LanguageModel
    directories: Sequence[Path]
    shots: tuple[int, ...]
    limit: int
    out: Path
    problems: int = 0

    def scores(self, task: Task) -> tuple[Score, ...]:
        """The task's scores from the first directory that has its files; empty if it fails."""
        tries = [(folder, part) for folder in self.directories for part in (Part(), PARTS.get(task.name, Part()))]
        for directory, part in dict.fromkeys(tries):
            try:
                found = evaluate(
                    self.model,
                    task,
                    shots=self.shots,
                    limit=f"first:{self.limit}",
                    data=directory,
                    split=part.split,
                    fewshot_split=part.fewshot_split,
                    out=self.out / task.name.replace("/", "-"),
                )
            except MissingData:
                continue
            except IclEvalError as error:
                return self._none(f"{task.name}: {error}")
            return tuple(replace(each, data=directory.name) if each.data == "local" else each for each in found)
        return self._none(f"{task.name}: its files are in none of the directories")

    def _none(self, problem: str) -> tuple[Score, ...]:
        print(problem, file=sys.stderr, flush=True)
        self.problems += 1
        return ()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("directories", nargs="+", type=Path, metavar="DATA_DIR")
    parser.add_argument("--shots", default="0,4")
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--tasks", default=TASKS)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--out", type=Path, default=Path("results/suite"))
    given = parser.parse_args()
    shots = tuple(map(int, given.shots.split(",")))
    suite = Suite(load_model(given.model, dtype=given.dtype), given.directories, shots, given.limit, given.out)
    columns = [f"{number} shots" for number in shots]
    print("| task | metric | scoring |", " | ".join(columns), "| n | prompts | data | splits |")
    print("|---|---|---|", "|".join("---:" for _ in columns), "|---:|---|---|---|", sep="")
    for task in Library().tasks(given.tasks.split(",")):
        for line in _lines(suite.scores(task), shots):
            print(line, flush=True)
    return int(bool(suite.problems))


def _lines(scores: Sequence[Score], shots: Sequence[int]) -> list[str]:
    """One line for every metric, with its value at every number of shots."""
    lines = []
    for metric in dict.fromkeys(score.metric for score in scores):
        found = {score.shots: score for score in scores if score.metric == metric}
        first, last = found[min(found)], found[max(found)]
        values = [f"{found[number].value:.3f}" if number in found else "" for number in shots]
        prompts = " / ".join(prompt for prompt, _ in groupby(score.prompt for score in found.values()))
        words = (("split", last.split), ("few-shot split", last.fewshot_split))
        splits = ", ".join(f"{what} {name}" for what, name in words if name)
        cells = [first.task, metric, first.normalization, *values, str(first.examples), prompts, first.data, splits]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
