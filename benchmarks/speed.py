"""How fast icl-eval scores, against lm-eval's Hugging Face backend and against the bare forward pass, in one process.

    python benchmarks/speed.py MODEL DATA_DIR [--works rte,copa,...] [--repeats 3] [--dtype float32]

For every work three sides take turns, `--repeats` times, and medians of the ratios within each turn are printed:

- ours: prompts are rendered, fitted, encoded, planned and answered, from an empty journal.
- lm-eval 0.4.13: gets the finished texts and scores them at its best batch size of `--batch-sizes`, found in the first
  turn. Works with `sampled` time it on evenly spread queries only, and scale the time up.
- for a curve, also ours at the largest number of shots alone.
- limit: the base model's forward pass over as many tokens as the trie of the requests has, at the same depths, without
  masks, head or planning. A tree (requests that share 64 tokens) is its longest request as one causal sequence, then
  the rest in calls of 512 tokens on a cache as long as they are deep on average. Smaller trees are sequences of their
  size, in batches of 4096 tokens.

Every log-probability that both sides give is compared in the same command. Exits with 1 if they differ by more than
1e-4 nats per scored token.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from icl_eval.engine import Engine
from icl_eval.models import load_model
from icl_eval.results.run_config import RunConfig
from icl_eval.runs.cells import prepare
from icl_eval.runs.requests import RequestBuilder
from icl_eval.runs.tasks import SAMPLE_PATH, source_of
from icl_eval.tasks import Library, LocalSource

TOLERANCE = 1e-4  # nats per scored token
SHORTEST_PREFIX, CALL, SMALL, BATCH = 64, 512, 512, 4096  # tokens: of the limit's trees, calls, small trees and batches


@dataclass(frozen=True)
class Work:
    """What is scored, how much of it, and the ratios to reach."""

    name: str
    about: str
    tasks: str
    shots: tuple[int, ...]
    queries: int
    peer: float  # times as fast as lm-eval, at least
    limit: float | None = None  # times the limit, at most
    sampled: int | None = None  # queries that lm-eval is timed on
    fixed: bool = False
    tiny: bool = False  # the bundled model and data
    memory: bool = False


CURVE = (0, 1, 2, 4, 8, 16, 32)
WORKS = (
    Work("rte", "RTE, 32 shots", "superglue/rte", (32,), 4, 1.25, 1.15),
    Work("copa", "COPA, 32 shots", "superglue/copa", (32,), 8, 2.2, 1.2),
    Work("arc", "ARC-Easy, 50 shots", "arc/easy", (50,), 4, 4.5, 1.2),
    Work("rte-curve", "RTE curve 0,1,...,32", "superglue/rte", CURVE, 4, 2.2, 1.25),
    Work("arc-curve", "ARC-Easy curve 0,1,...,50", "arc/easy", (*CURVE, 50), 4, 9, 1.25, sampled=2),
    Work("rte-fixed", "RTE, 32 shots, one draw", "superglue/rte", (32,), 277, 20, 1.3, sampled=4, fixed=True),
    Work("arc-fixed", "ARC-Easy, 50 shots, one draw", "arc/easy", (50,), 300, 60, 1.3, sampled=3, fixed=True),
    Work("boolq", "BoolQ, 32 shots", "superglue/boolq", (32,), 2, 1.2, 1.2, memory=True),
    Work("hellaswag", "HellaSwag, 0 shots", "hellaswag", (0,), 48, 1.5, 1.3),
    Work("tiny", "tiny GPT-2, sample SuperGLUE, 32 shots", "superglue", (32,), 1000, 5, sampled=80, tiny=True),
)


@dataclass(frozen=True)
class Sides:
    """Seconds of one turn."""

    ours: float
    peer: float
    limit: float
    point: float  # ours, of the largest number of shots alone


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data_dir")
    parser.add_argument("--works", default=",".join(work.name for work in WORKS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-sizes", default="1,4,16")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--without-peer", action="store_true", help="ours and the limit alone")
    parser.add_argument("--peak", choices=["ours", "peer"], help="only score one work once and print the peak memory")
    given = parser.parse_args()
    names = given.works.split(",")
    if unknown := set(names) - {work.name for work in WORKS}:
        parser.error(f"unknown works: {', '.join(sorted(unknown))}")
    works = [work for work in WORKS if work.name in names]
    if given.peak:
        print(_peak(works[0], given))
        return 0
    print("| work | input tokens | of the trie | times as fast as lm-eval | times the limit | difference per token |")
    print("|---|---:|---:|---:|---:|---:|")
    worst = 0.0
    for work in works:
        worst = max(worst, _measure(work, given))
    return int(worst > TOLERANCE)


def _measure(work: Work, given: argparse.Namespace) -> float:
    bench = _Bench(work, given)
    sizes = [int(size) for size in given.batch_sizes.split(",")]
    turns = [bench.turn(sizes) for _ in range(given.repeats)]
    faster, over = median(turn.peer / turn.ours for turn in turns), median(turn.ours / turn.limit for turn in turns)
    over_point = median(turn.ours / turn.point for turn in turns)
    wanted = f" (at most {work.limit:.2f})" if work.limit else ""
    print(
        f"| {work.about} | {bench.input_tokens:,} | {bench.trie:,} | {faster:.2f} (at least {work.peer:g}) "
        f"| {over:.2f}{wanted} | {bench.worst:.1e} |",
        flush=True,
    )
    print(
        f"{work.name}: ours {median(turn.ours for turn in turns):.2f} s, {bench.engine_tokens} tokens; "
        f"lm-eval {median(turn.peer for turn in turns):.2f} s, batch size {bench.size}; "
        f"limit {median(turn.limit for turn in turns):.2f} s",
        file=sys.stderr,
    )
    if len(work.shots) > 1:
        print(
            f"| {work.about}, times icl-eval's point of {work.shots[-1]} shots alone | | | | {over_point:.2f} | |",
            flush=True,
        )
    if work.memory and not given.without_peer:
        peaks = {side: _child(work, given, side) for side in ("ours", "peer")}
        ratio = peaks["ours"] / peaks["peer"]
        print(f"| {work.about}, peak memory | | | {ratio:.2f} of lm-eval's (at most 0.5) | | |", flush=True)
    return bench.worst


class _Bench:
    """One work, loaded: the three sides and what they answered."""

    def __init__(self, work: Work, given: argparse.Namespace) -> None:
        self.work, self.given = work, given
        self.model = "tiny" if work.tiny else given.model
        self.lm: Any = load_model(self.model, dtype=given.dtype)
        self.builders = list(self._builders())
        self.queries = [query for builder in self.builders for query in builder.queries()]
        self.input_tokens, self.trie, self.calls = self._count()
        self.size, self.worst, self.engine_tokens = 0, 0.0, 0
        self.chosen = _spread([query.example.id for query in self.queries], work.sampled)
        self.peer: Any = None if given.without_peer else _peer(self.model, given.dtype)

    def turn(self, sizes: Sequence[int]) -> Sides:
        limit = _seconds(self._limit)
        ours: list[float] = []
        mine = _seconds(lambda: ours.extend(self._ours()))
        shots = self.work.shots
        point = _seconds(lambda: self._ours(shots[-1])) if len(shots) > 1 else mine
        if self.peer is None:
            return Sides(mine, float("nan"), limit, point)
        found = {size: self._their_seconds(size) for size in ([self.size] if self.size else sizes)}
        self.size = min(found, key=lambda size: found[size][0])
        seconds, theirs = found[self.size]
        self._compare(ours, theirs)
        return Sides(mine, seconds * len(self.queries) / len(self.chosen), limit, point)

    def _builders(self) -> Iterator[RequestBuilder]:
        work = self.work
        limit = f"first:{work.queries}"
        config = RunConfig(model=str(self.model), data="sample", tasks=(work.tasks,), shots=work.shots, limit=limit)
        source = LocalSource(SAMPLE_PATH) if work.tiny else source_of(self.given.data_dir)
        for task in Library().tasks([work.tasks]):
            if work.fixed:
                definition = task.definition
                protocol = definition.protocol.model_copy(update={"draw": "fixed"})
                task = replace(task, definition=definition.model_copy(update={"protocol": protocol}))
            for prepared in prepare(task, None, config, source):
                yield RequestBuilder(prepared, self.lm, "drop" if work.tiny else "error")

    def _ours(self, shots: int | None = None) -> list[float]:
        """The answers to all queries, or to those with this number of shots, from an empty engine."""
        engine = Engine(self.lm)
        fresh = (RequestBuilder(each.prepared, each.model, each.overflow) for each in self.builders)
        queries = (query for builder in fresh for query in builder.queries())
        chosen = (query for query in queries if shots in (None, query.cell.shots))
        answers = engine.answer([request for query in chosen for request in query.conditional])
        if shots is None:
            self.engine_tokens = engine.tokens
        return [sum(answer.logprobs) for answer in answers]

    def _their_seconds(self, size: int) -> tuple[float, list[float]]:
        from lm_eval.api.instance import Instance

        self.peer.batch_size_per_gpu = size
        texts = [
            (query.text.context(option, query.shots), answer)
            for query in (self.queries[index] for index in self.chosen)
            for option, answer in enumerate(query.text.answers)
        ]
        requests = [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(texts)]
        found: list[float] = []
        seconds = _seconds(
            lambda: found.extend(float(value) for value, _ in self.peer.loglikelihood(requests, disable_tqdm=True))
        )
        return seconds, found

    def _compare(self, ours: list[float], theirs: list[float]) -> None:
        mine = iter(ours)
        by_query = [[next(mine) for _ in query.conditional] for query in self.queries]
        other = iter(theirs)
        for index in self.chosen:
            for value, request in zip(by_query[index], self.queries[index].conditional, strict=True):
                difference = abs(value - next(other)) / (len(request.tokens) - request.boundary)
                self.worst = max(self.worst, difference)

    def _count(self) -> tuple[int, int, list[tuple[int, int, int]]]:
        """Input tokens, tokens of the trie, and for each call of the limit: sequences, their length and the cache's."""
        requests = [request for query in self.queries for request in query.conditional]
        total_input = sum(request.input_length for request in requests)
        trees: list[tuple[int, int, int]] = []  # longest, tokens, sum of depths
        last = np.empty(0, np.int32)
        for request in sorted(requests, key=lambda each: each.tokens):
            tokens = np.array(request.tokens[:-1], np.int32)
            size = min(len(last), len(tokens))
            differ = np.flatnonzero(last[:size] != tokens[:size])
            shared = int(differ[0]) if len(differ) else size
            new = len(tokens) - shared
            longest, total, depth = trees.pop() if shared >= SHORTEST_PREFIX else (0, 0, 0)
            trees.append((max(longest, len(tokens)), total + new, depth + new * (shared + len(tokens) - 1) // 2))
            last = tokens
        calls = _batches([total for _, total, _ in trees if total < SMALL])
        for longest, total, depth in trees:
            if total >= SMALL:
                calls.append((1, longest, 0))
                if rest := total - longest:
                    mean = max((depth - longest * (longest - 1) // 2) // rest, 0)
                    calls += [(1, min(CALL, rest - done), mean) for done in range(0, rest, CALL)]
        return total_input, sum(total for _, total, _ in trees), calls

    def _limit(self) -> None:
        base, vocabulary = self.lm.model.base_model, self.lm.vocabulary
        cache: Any = None
        with torch.inference_mode():
            for sequences, length, depth in self.calls:
                tokens = torch.arange(sequences * length).reshape(sequences, length) % vocabulary
                if not depth:
                    cache = base(input_ids=tokens, use_cache=True).past_key_values
                    continue
                if (surplus := cache.get_seq_length() - min(depth, self.lm.window - length)) > 0:
                    cache.crop(-surplus)
                start = cache.get_seq_length()
                positions = torch.arange(start, start + length)[None]
                base(input_ids=tokens, position_ids=positions, past_key_values=cache, use_cache=True)


def _spread(examples: list[str], sampled: int | None) -> list[int]:
    """Indices of the queries of evenly spread examples, at all numbers of shots."""
    distinct = list(dict.fromkeys(examples))
    chosen = set(distinct[:: max(len(distinct) // (sampled or len(distinct)), 1)])
    return [index for index, example in enumerate(examples) if example in chosen]


def _batches(sizes: list[int]) -> list[tuple[int, int, int]]:
    """Sequences of these sizes in batches, each as long as its sequences are on average."""
    batches: list[list[int]] = []
    for size in sorted(sizes, reverse=True):
        if not batches or sum(batches[-1]) + size > BATCH:
            batches.append([])
        batches[-1].append(size)
    return [(len(batch), round(sum(batch) / len(batch)), 0) for batch in batches]


def _peer(model: str, dtype: str) -> Any:
    from lm_eval.models.huggingface import HFLM

    from icl_eval.models.loading.checkpoint import resolve

    return HFLM(pretrained=resolve(model), dtype=dtype, device="cpu", batch_size=1)


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _child(work: Work, given: argparse.Namespace, side: str) -> float:
    """Peak memory of a separate process that scores a work once."""
    command = [sys.executable, __file__, given.model, given.data_dir, "--works", work.name, "--dtype", given.dtype]
    done = subprocess.run([*command, "--peak", side], check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def _peak(work: Work, given: argparse.Namespace) -> int:
    """KiB; of Linux's VmHWM, since `getrusage` also knows the process that this one was started from."""
    given.without_peer = given.peak == "ours"
    bench = _Bench(work, given)
    if given.peak == "ours":
        bench._ours()
    else:
        bench.lm, bench.builders = None, []
        bench._their_seconds(1)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


if __name__ == "__main__":
    sys.exit(main())
