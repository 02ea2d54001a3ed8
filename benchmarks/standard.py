"""Prompts, log-likelihoods and scores of tasks by icl-eval and by lm-eval's tasks of the same name.

    python benchmarks/standard.py MODEL DATA_DIR [--tasks mmlu_anatomy,sst2,...] [--examples 20] [--prompts 20]

lm-eval's tasks get the records of the official releases instead of the Hub's. MMLU, TruthfulQA, BIG-Bench Hard and
GSM8K are bundled tasks; the others are imported from lm-eval's YAML files first. Prompts and answers of all tasks are
compared as texts; log-likelihoods of some examples of the named tasks in float32, as in `parity.py`. A task with
generated answers is compared by the log-likelihood of its target. Exits with 1 if a text differs, a token differs by
more than 1e-4 nats on average over its text, or a score differs by more than 1e-4.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from hub_records import use_records
from imports import import_task

from icl_eval.engine import Engine
from icl_eval.metrics import metric
from icl_eval.models import ScoreRequest, load_model
from icl_eval.prompts import split_tokens
from icl_eval.results.examples import ChoiceResult
from icl_eval.results.run_config import RunConfig
from icl_eval.runs.cells import PreparedTask, prepare
from icl_eval.runs.requests import EncodedQuery, RequestBuilder
from icl_eval.runs.tasks import source_of
from icl_eval.scoring import OptionResult, rank, score
from icl_eval.tasks import Library, Task

TOLERANCE = 1e-4
IMPORTED = (
    *("sst2", "arc_easy", "arc_challenge", "openbookqa", "piqa", "hellaswag", "winogrande", "boolq", "cb", "copa"),
    *("sglue_rte", "wic", "anli_r1", "lambada_openai", "nq_open"),
)
SCORED = [
    *(f"mmlu_{name}" for name in ("anatomy", "astronomy", "international_law")),
    *("truthfulqa_mc1", "truthfulqa_mc2"),
    *(f"bbh_zeroshot_{name}" for name in ("boolean_expressions", "date_understanding", "word_sorting")),
    *IMPORTED,
]
KNOWN = {"bbh_zeroshot_snarks", "bbh_cot_fewshot_snarks"}  # here, the instruction has only the first sentence


@dataclass(frozen=True)
class Pair:
    """A task of lm-eval and the same task of this package, or one of its categories.

    Attributes:
        name: the task of lm-eval.
        task: the task of this package.
        category: the category of it that lm-eval has as a task.
        in_prompt: whether its demonstrations are in the prompt file here.
    """

    name: str
    task: str
    shots: int = 0
    category: str = ""
    in_prompt: bool = False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--tasks", default=",".join(SCORED), help="of lm-eval, whose log-likelihoods are compared")
    parser.add_argument("--examples", type=int, default=8, help="of each task, whose log-likelihoods are compared")
    parser.add_argument("--prompts", type=int, default=20, help="of each task, whose texts are compared")
    given = parser.parse_args()
    scored = set(given.tasks.split(","))
    use_records(given.data_dir)
    lm, peer = load_model(given.model), _Peer(given.model)
    texts, failed = 0, False
    print(
        "| task | shots | texts | largest difference (nats per token) | icl-eval | lm-eval |",
        "|---|---:|---:|---:|---:|---:|",
        sep="\n",
    )
    with tempfile.TemporaryDirectory() as folder:
        for pair, prepared in _prepared(given, Path(folder)):
            ours = list(RequestBuilder(prepared, lm, "error").queries())
            theirs = peer.requests(pair, given.prompts)
            parts = 1 if ours[0].kind == "text" else 2  # the answer of a query is generated, so lm-eval has no text
            our_texts = [[each[:parts] for each in _texts(query)] for query in ours]
            other = [[each.args[:parts] for each in options] for options in theirs]
            texts += sum(map(len, our_texts))
            if our_texts != other:
                print(f"{pair.name}: the prompts differ{' (known)' if pair.name in KNOWN else ''}")
                failed |= pair.name not in KNOWN
            elif pair.name in scored:
                failed |= _Comparison(pair, prepared.task, lm, peer).differs(
                    ours[: given.examples], theirs[: given.examples]
                )
    print(f"\n{texts} prompts with their options were compared as texts")
    return int(failed)


def _pairs(data_dir: Path) -> Iterator[Pair]:
    """Of all bundled tasks."""
    for path in sorted((data_dir / "mmlu/test").glob("*.csv")):
        subject = path.name.removesuffix("_test.csv")
        yield Pair(f"mmlu_{subject}", "mmlu/lettered", 5, subject)
    yield from (Pair(f"truthfulqa_{name}", f"truthfulqa/{name}") for name in ("mc1", "mc2"))
    for task in Library().suite("bbh").tasks:
        name = task.removeprefix("bbh/").replace("-", "_")
        yield Pair(f"bbh_zeroshot_{name}", task)
        yield Pair(f"bbh_cot_fewshot_{name}", task.replace("bbh/", "bbh-worked/"), 3)
    yield from (Pair("gsm8k", "gsm8k", shots) for shots in (0, 5))
    yield Pair("gsm8k_cot", "gsm8k-worked", 8, in_prompt=True)


def _prepared(given: argparse.Namespace, folder: Path) -> Iterator[tuple[Pair, PreparedTask]]:
    """Every pair, with the first examples of the task of this package."""
    whole: dict[tuple[str, int], PreparedTask] = {}
    for pair in _pairs(given.data_dir):
        key = (pair.task, pair.shots)
        if key not in whole:
            whole[key] = _ready(Library().task(pair.task), given.data_dir, 0 if pair.in_prompt else pair.shots)
        found = (each for each in whole[key].examples if each.category == pair.category)
        yield pair, replace(whole[key], examples=list(islice(found, given.prompts)))
    for name in IMPORTED:
        report = import_task(name, given.data_dir, folder)
        task = Library([folder / "out"]).task(report.name)
        prepared = _ready(task, folder / ("out/data" if report.how == "frozen" else "raw"), 0)
        yield Pair(name, f"lm-eval/{name}"), replace(prepared, examples=prepared.examples[: given.prompts])


def _ready(task: Task, data_dir: Path, shots: int) -> PreparedTask:
    config = RunConfig(
        model="", data=str(data_dir), tasks=(task.name,), shots=(shots,), draw="first" if shots else None
    )
    (prepared,) = prepare(task, None, config, source_of(config.data))
    return prepared


def _texts(query: EncodedQuery) -> list[tuple[str, str]]:
    text = query.text
    return [(text.context(index, query.shots), answer) for index, answer in enumerate(text.answers)]


@dataclass(frozen=True)
class _Comparison:
    """Log-likelihoods and scores of a task by both."""

    pair: Pair
    task: Task
    lm: Any
    peer: _Peer

    def differs(self, ours: Sequence[EncodedQuery], theirs: Sequence[Sequence[Any]]) -> bool:
        """Print the row of the task, and return whether anything differs."""
        requests_of_queries = [self._requests(*each) for each in zip(ours, theirs, strict=True)]
        answers = iter(Engine(self.lm).answer([request for requests in requests_of_queries for request in requests]))
        logprobs = [[next(answers).logprobs for _ in requests] for requests in requests_of_queries]
        found = [self.peer.likelihoods(self.pair.name, options) for options in theirs]
        worst = max(
            abs(math.fsum(one) - other) / len(one)
            for mine, other_options in zip(logprobs, found, strict=True)
            for one, (other, _) in zip(mine, other_options, strict=True)
        )
        if ours[0].kind == "choice":
            value = self._score(ours, logprobs)
            other = sum(self.peer.score(self.pair.name, number, each) for number, each in enumerate(found)) / len(found)
        else:
            value = sum(math.fsum(each) for (each,) in logprobs) / len(logprobs)
            other = sum(each for ((each, _),) in found) / len(found)
        texts = sum(map(len, found))
        print(
            f"| {self.pair.name} | {self.pair.shots} | {texts} | {worst:.1e} | {value:.6f} | {other:.6f} |", flush=True
        )
        return worst > TOLERANCE or abs(value - other) > TOLERANCE

    def _requests(self, query: EncodedQuery, theirs: Sequence[Any]) -> Sequence[ScoreRequest]:
        """Each option after the prompt, or the text that lm-eval takes as the target."""
        if query.kind == "choice":
            return query.conditional
        context, target = query.text.context(0, query.shots), self.peer.target(self.pair.name, theirs[0])
        parts = split_tokens(self.lm.encode, [(context, target)], self.lm.start, self.lm.fallback)
        return [ScoreRequest.of(each.context, each.continuation) for each in parts]

    def _score(self, queries: Sequence[EncodedQuery], logprobs: Sequence[Sequence[Sequence[float]]]) -> float:
        predictions: list[Any] = []
        for query, options in zip(queries, logprobs, strict=True):
            pairs = zip(query.text.answers, options, strict=True)
            results = tuple(OptionResult(text, tuple(values), ()) for text, values in pairs)
            example = query.example
            line = ChoiceResult(
                query.cell, example.id, example.cluster, example.group, 0, 0, (), example.gold, example.options, results
            )
            predictions += line.predictions(rank([score(each, "sum") for each in results]))
        measure: Any = metric(self.task.definition.metrics[0])
        return float(measure.value(measure.statistics(predictions).rows.sum(axis=0)))


class _First:
    """Shows the first documents of a split."""

    def __init__(self, docs: Sequence[Any]) -> None:
        self._docs = docs

    def sample(self, n: int, eval_doc: Any = None) -> Sequence[Any]:
        del eval_doc
        return self._docs[:n]


class _Peer:
    """lm-eval's tasks and its model."""

    def __init__(self, model: str) -> None:
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        self._manager, self._tasks = TaskManager(), dict[str, Any]()
        self._lm = HFLM(
            pretrained=model,
            dtype="float32",
            softmax_dtype="float64",
            device="cpu",
            batch_size=1,
            logits_cache=False,
        )

    def requests(self, pair: Pair, limit: int) -> list[list[Any]]:
        """The requests of a task's first examples, by example."""
        from lm_eval.tasks import get_task_dict

        task = self._tasks[pair.name] = get_task_dict([pair.name], self._manager)[pair.name]
        task.set_config("num_fewshot", pair.shots)
        task.set_fewshot_seed(0)
        if pair.name == "gsm8k":  # draws at random
            task.sampler = _First(list(islice(task.fewshot_docs(), pair.shots)))
        task.build_all_requests(limit=limit, rank=0, world_size=1)
        found: dict[int, list[Any]] = {}
        for each in task.instances:
            found.setdefault(each.doc_id, []).append(each)
        return [*found.values()]

    def target(self, name: str, request: Any) -> str:
        """What would be right after the prompt of a request."""
        task = self._tasks[name]
        if request.request_type == "loglikelihood":
            return str(request.args[1])
        target = task.doc_to_target(request.doc)
        return f"{task.config.target_delimiter}{target[0] if isinstance(target, list) else target}"

    def likelihoods(self, name: str, options: Sequence[Any]) -> list[tuple[float, bool]]:
        """Of each option: its log-likelihood in nats, and whether every token was the most likely one.

        lm-eval's cache computes the prompt of options once; it is wrong if they differ in length, and letters do not.
        """
        from lm_eval.api.instance import Instance

        self._lm.logits_cache = name.startswith("mmlu")
        pairs = [
            each.args if each.request_type == "loglikelihood" else (each.args[0], self.target(name, each))
            for each in options
        ]
        requests = [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]
        return [(float(value), bool(greedy)) for value, greedy in self._lm.loglikelihood(requests, disable_tqdm=True)]

    def score(self, name: str, number: int, found: Sequence[tuple[float, bool]]) -> float:
        """What lm-eval makes of an example."""
        task = self._tasks[name]
        return float(task.process_results(task.eval_docs[number], found)["acc"])


if __name__ == "__main__":
    sys.exit(main())
