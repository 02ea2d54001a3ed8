"""Prompts, log-likelihoods and scores of MMLU and TruthfulQA by icl-eval and by lm-eval's own tasks of these names.

    python benchmarks/standard.py MODEL DATA_DIR [--subjects anatomy,...] [--examples 8] [--prompts 20]

lm-eval's tasks get the records of the official releases in place of the Hub's, and ask five development questions in
their order (MMLU) or none. Prompts and options are compared as texts, of all subjects; log-likelihoods of some
examples in float32, as in `parity.py`. Exits with 1 if a text differs, a token differs by more than 1e-4 nats on
average over its option, or a score differs by more than 1e-4.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from icl_eval.engine import Engine
from icl_eval.metrics import metric
from icl_eval.models import load_model
from icl_eval.results.examples import ChoiceResult
from icl_eval.results.run_config import RunConfig
from icl_eval.runs.cells import Prepared, prepare
from icl_eval.runs.requests import EncodedQuery, RequestBuilder
from icl_eval.runs.tasks import source_of
from icl_eval.scoring import OptionResult, rank, score
from icl_eval.tasks import Library

TOLERANCE = 1e-4
OTHER_SHOTS = {"mmlu/lettered": 5}
LETTERS = "ABCD"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--subjects", default="anatomy,astronomy,international_law")
    parser.add_argument("--examples", type=int, default=8, help="of each task, whose log-likelihoods are compared")
    parser.add_argument("--prompts", type=int, default=20, help="of each task, whose texts are compared")
    given = parser.parse_args()
    subjects = sorted(path.name.removesuffix("_test.csv") for path in (given.data_dir / "mmlu/test").glob("*.csv"))
    pairs = [(f"mmlu_{name}", "mmlu/lettered", name) for name in subjects]
    pairs += [(f"truthfulqa_{name}", f"truthfulqa/{name}", "") for name in ("mc1", "mc2")]
    scored = {f"mmlu_{name}" for name in given.subjects.split(",")} | {"truthfulqa_mc1", "truthfulqa_mc2"}
    lm, peer = load_model(given.model), _Peer(given.data_dir, given.model)
    prepared = {task: _prepared(given, task) for task in dict.fromkeys(task for _, task, _ in pairs)}
    texts, failed = 0, False
    print(
        "| task | texts | largest difference (nats per token) | icl-eval | lm-eval |",
        "|---|---:|---:|---:|---:|",
        sep="\n",
    )
    for name, task, category in pairs:
        asks = [each for each in prepared[task].examples if each.category == category][: given.prompts]
        ours = list(RequestBuilder(replace(prepared[task], examples=asks), lm, "error").queries())
        theirs = peer.requests(name, given.prompts, OTHER_SHOTS.get(task, 0))
        asked = [_texts(query) for query in ours]
        texts += sum(map(len, asked))
        if asked != [[each.args for each in options] for options in theirs]:
            print(f"{name}: the prompts differ")
            failed = True
        elif name in scored:
            failed |= _compared(name, task, ours[: given.examples], theirs[: given.examples], lm, peer)
    print(f"\n{texts} prompts with their options were compared as texts")
    return int(failed)


def _prepared(given: argparse.Namespace, name: str) -> Prepared:
    shots = (OTHER_SHOTS.get(name, 0),)
    config = RunConfig(model=given.model, data=str(given.data_dir), tasks=(name,), shots=shots)
    (prepared,) = prepare(Library().task(name), None, config, source_of(config.data))
    return prepared


def _texts(query: EncodedQuery) -> list[tuple[str, str]]:
    text = query.text
    return [(text.context(index, query.shots), answer) for index, answer in enumerate(text.answers)]


def _compared(
    name: str, task: str, ours: Sequence[EncodedQuery], theirs: Sequence[Sequence[Any]], lm: Any, peer: _Peer
) -> bool:
    """Print the row of a task; whether anything differs."""
    answers = iter(Engine(lm).answer([request for query in ours for request in query.conditional]))
    logprobs = [[next(answers).logprobs for _ in query.conditional] for query in ours]
    found = [peer.likelihoods(options) for options in theirs]
    worst = max(
        abs(math.fsum(one) - other) / len(one)
        for mine, other_options in zip(logprobs, found, strict=True)
        for one, (other, _) in zip(mine, other_options, strict=True)
    )
    predictions: list[Any] = []
    for query, options in zip(ours, logprobs, strict=True):
        results = tuple(
            OptionResult(text, values, ()) for text, values in zip(query.text.answers, options, strict=True)
        )
        example = query.example
        line = ChoiceResult(
            query.cell, example.id, example.cluster, example.group, 0, 0, (), example.gold, example.options, results
        )
        predictions += line.predictions(rank([score(each, "sum") for each in results]))
    measure: Any = metric(Library().task(task).definition.metrics[0])
    value = float(measure.value(measure.statistics(predictions).rows.sum(axis=0)))
    other = sum(peer.score(name, number, each) for number, each in enumerate(found)) / len(found)
    print(f"| {name} | {sum(map(len, found))} | {worst:.1e} | {value:.6f} | {other:.6f} |", flush=True)
    return worst > TOLERANCE or abs(value - other) > TOLERANCE


class _Peer:
    """lm-eval's tasks on the records of a data directory, and its model."""

    def __init__(self, data_dir: Path, model: str) -> None:
        import datasets
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        def load_dataset(path: str, name: str, **_: Any) -> datasets.DatasetDict:
            rows = _mmlu(data_dir, name) if path == "cais/mmlu" else {"validation": _truthfulqa(data_dir)}
            return datasets.DatasetDict({split: datasets.Dataset.from_list(each) for split, each in rows.items()})

        datasets.load_dataset = load_dataset
        self._manager, self._tasks = TaskManager(), dict[str, Any]()
        self._lm = HFLM(
            pretrained=model,
            dtype="float32",
            softmax_dtype="float64",
            device="cpu",
            batch_size=1,
            logits_cache=False,
        )

    def requests(self, name: str, limit: int, shots: int) -> list[list[Any]]:
        """The requests of a task's first examples, by example."""
        from lm_eval.tasks import get_task_dict

        task = self._tasks[name] = get_task_dict([name], self._manager)[name]
        task.set_config("num_fewshot", shots)
        task.set_fewshot_seed(0)
        task.build_all_requests(limit=limit, rank=0, world_size=1)
        found: dict[int, list[Any]] = {}
        for each in task.instances:
            found.setdefault(each.doc_id, []).append(each)
        return [*found.values()]

    def likelihoods(self, options: Sequence[Any]) -> list[tuple[float, bool]]:
        """Of each option: its log-likelihood in nats, and whether every token was the most likely one."""
        return [(float(value), bool(greedy)) for value, greedy in self._lm.loglikelihood(options, disable_tqdm=True)]

    def score(self, name: str, number: int, found: Sequence[tuple[float, bool]]) -> float:
        """What lm-eval makes of an example."""
        task = self._tasks[name]
        return float(task.process_results(task.eval_docs[number], found)["acc"])


def _mmlu(data_dir: Path, subject: str) -> dict[str, list[dict[str, Any]]]:
    found = {}
    for split in ("dev", "test"):
        with (data_dir / f"mmlu/{split}/{subject}_{split}.csv").open(encoding="utf-8", newline="") as file:
            found[split] = [
                {"question": row[0], "choices": row[1:5], "answer": LETTERS.index(row[5]), "subject": subject}
                for row in csv.reader(file)
            ]
    return found


def _truthfulqa(data_dir: Path) -> list[dict[str, Any]]:
    targets = ("mc1_targets", "mc2_targets")
    return [
        {
            "question": row["question"],
            **{name: {"choices": list(row[name]), "labels": list(row[name].values())} for name in targets},
        }
        for row in json.loads((data_dir / "truthfulqa/mc_task.json").read_text(encoding="utf-8"))
    ]


if __name__ == "__main__":
    sys.exit(main())
