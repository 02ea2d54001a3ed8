"""Log-likelihoods of the same prompts by icl-eval and by lm-eval's Hugging Face backend, option by option.

    python benchmarks/parity.py MODEL DATA_DIR [--limit 32] [--shots 0,4] [--tasks superglue/rte,...]

Both run in float32 in one process after the other. `logits_cache=False`, because with its cache lm-eval 0.4.13 scores
requests of unequal continuation length that share a sequence wrongly. lm-eval's log-softmax runs in float64 here; its
own float32 differs by more than the tolerance on long options (`--softmax-dtype float32` shows it). Exits with 1 if any
option differs by more than 1e-4 nats.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from icl_eval.engine import Engine
from icl_eval.models import load_model
from icl_eval.runs.ask import Ask
from icl_eval.runs.cells import prepare
from icl_eval.runs.evaluation import source_of
from icl_eval.runs.questions import Question, Questioner
from icl_eval.tasks import Library

TASKS = "superglue/rte,superglue/cb,superglue/copa,superglue/boolq"
TOLERANCE = 1e-4  # nats


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--tasks", default=TASKS)
    parser.add_argument("--shots", default="0,4")
    parser.add_argument("--limit", type=int, default=32)
    parser.add_argument("--softmax-dtype", default="float64", help="of lm-eval's log-softmax")
    given = parser.parse_args()
    questions = list(
        _questions(given.model, given.data_dir, given.tasks.split(","), given.shots.split(","), given.limit)
    )
    ours = _ours(given.model, questions)
    theirs = _theirs(given.model, questions, given.softmax_dtype)
    worst = 0.0
    print("| task | shots | options | largest difference (nats) | same choice by sum |\n|---|---:|---:|---:|---:|")
    for cell in dict.fromkeys((question.cell.task, question.cell.shots) for question in questions):
        rows = [i for i, question in enumerate(questions) if (question.cell.task, question.cell.shots) == cell]
        differences = [abs(a - b) for i in rows for a, b in zip(ours[i], theirs[i], strict=True)]
        agree = sum(_argmax(ours[i]) == _argmax(theirs[i]) for i in rows)
        print(f"| {cell[0]} | {cell[1]} | {len(differences)} | {max(differences):.1e} | {agree} of {len(rows)} |")
        worst = max(worst, *differences)
    print(f"\nlargest difference {worst:.1e} nats, tolerance {TOLERANCE:.0e}")
    return int(worst > TOLERANCE)


def _questions(model: Path, data: Path, names: list[str], shots: list[str], limit: int) -> Iterator[Question]:
    ask = Ask(model=str(model), data=str(data), tasks=tuple(names), shots=tuple(map(int, shots)), limit=limit)
    lm = load_model(str(model))
    for task in Library().tasks(names):
        yield from Questioner(prepare(task, None, ask, source_of(ask.data)), lm, "error").questions()


def _ours(model: Path, questions: list[Question]) -> list[list[float]]:
    engine = Engine(load_model(str(model)))
    answers = iter(engine.answer([request for question in questions for request in question.conditional]))
    return [[sum(next(answers).logprobs) for _ in question.conditional] for question in questions]


def _theirs(model: Path, questions: list[Question], softmax_dtype: str) -> list[list[float]]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(
        pretrained=str(model),
        dtype="float32",
        softmax_dtype=softmax_dtype,
        device="cpu",
        batch_size=1,
        logits_cache=False,
    )
    requests = [
        Instance(
            request_type="loglikelihood",
            doc={},
            arguments=(question.text.context(option, question.fitted.shots), answer),
            idx=option,
        )
        for question in questions
        for option, answer in enumerate(question.text.answers)
    ]
    answers = iter(lm.loglikelihood(requests, disable_tqdm=True))
    return [[float(next(answers)[0]) for _ in question.text.answers] for question in questions]


def _argmax(values: list[float]) -> int:
    return values.index(max(values))


if __name__ == "__main__":
    sys.exit(main())
