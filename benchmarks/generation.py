"""How fast icl-eval generates text, against lm-eval's Hugging Face backend at its best batch size, in one process.

    python benchmarks/generation.py MODEL DATA_DIR [--works nq,...] [--repeats 3] [--profile]

Prompts are the same token for token on both sides, and each text ends at the first line break. Greedy texts are
compared in the same command: exits with 1 if the sides differ on more than one text. With `--rows batch`, prompts are
computed without attention blocks, one sequence per row.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch

from icl_eval.engine import Engine
from icl_eval.models import load_model
from icl_eval.results.run_config import RunConfig
from icl_eval.runs.cells import prepare
from icl_eval.runs.requests import RequestBuilder
from icl_eval.runs.tasks import source_of
from icl_eval.tasks import Library


@dataclass(frozen=True)
class Work:
    """What is generated, and how many times as fast as lm-eval it should be."""

    name: str
    about: str
    task: str
    shots: int
    queries: int
    beams: int
    wanted: float
    split: str  # of demonstrations
    fixed: bool = False


WORKS = (
    Work("translation", "WMT14 en-fr, 4 shots, greedy", "translation/wmt14-en-fr", 4, 16, 1, 1.3, "newsdiscuss"),
    Work("beams", "WMT14 en-fr, 4 shots, 4 beams", "translation/wmt14-en-fr", 4, 8, 4, 4.0, "newsdiscuss"),
    Work("nq", "NQ, 16 shots, greedy", "nq", 16, 16, 1, 1.15, "efficientqa"),
    Work("fixed", "NQ, 20 shots, one draw, greedy", "nq", 20, 32, 1, 5.0, "efficientqa", fixed=True),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data_dir")
    parser.add_argument("--works", default=",".join(work.name for work in WORKS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-sizes", default="1,4,8,16", help="of lm-eval; the best is found in the first turn")
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--rows", choices=["tree", "batch"], default="tree")
    parser.add_argument("--profile", action="store_true", help="print where the CPU time of icl-eval goes instead")
    given = parser.parse_args()
    lm: Any = load_model(given.model, dtype="float32")
    if given.rows == "batch":
        lm.has_tree_attention = False
    works = [work for work in WORKS if work.name in given.works.split(",")]
    if given.profile:
        for work in works:
            _profile(work, lm, given)
        return 0
    peer = _peer(given.model)
    print("| work | seconds of lm-eval, batch size | seconds | times as fast | wanted | texts that differ |")
    print("|---|---:|---:|---:|---:|---:|")
    worst = 0
    for work in works:
        worst = max(worst, _measure(work, lm, peer, given))
    return int(worst > 1)


def _profile(work: Work, lm: Any, given: argparse.Namespace) -> None:
    """Print the operations that take the most CPU time, after one run as warm-up."""
    requests = _requests(work, lm, given)
    Engine(lm).answer(requests)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        Engine(lm).answer(requests)
    print(work.about)
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=8, max_name_column_width=50))


def _measure(work: Work, lm: Any, peer: Any, given: argparse.Namespace) -> int:
    requests = _requests(work, lm, given)
    sizes = [int(size) for size in given.batch_sizes.split(",")]
    ratios, ours, theirs, differing = [], [], [], 0
    for _ in range(given.repeats):
        found: list[str] = []
        mine = _seconds(lambda: found.extend(each.texts[0] for each in Engine(lm).answer(requests)))  # noqa: B023
        timed = {size: _their_seconds(peer, lm, requests, work.beams, size) for size in sizes}
        sizes = [min(timed, key=lambda size: timed[size][0])]
        seconds, texts = timed[sizes[0]]
        differing = sum(left.strip() != right.strip() for left, right in zip(found, texts, strict=True))
        ratios.append(seconds / mine)
        ours.append(mine)
        theirs.append(seconds)
    print(
        f"| {work.about}, {len(requests)} prompts | {median(theirs):.2f}, {sizes[0]} | {median(ours):.2f} "
        f"| {median(ratios):.2f} | {work.wanted:g} | {differing if work.beams == 1 else '-'} |",
        flush=True,
    )
    return differing if work.beams == 1 else 0


def _requests(work: Work, lm: Any, given: argparse.Namespace) -> list[Any]:
    config = RunConfig(
        model=given.model,
        data=given.data_dir,
        tasks=(work.task,),
        shots=(work.shots,),
        limit=work.queries,
        fewshot_split=work.split,
    )
    requests: list[Any] = []
    for task in Library().tasks([work.task]):
        definition = task.definition
        if work.fixed:
            protocol = definition.protocol.model_copy(update={"draw": "fixed"})
            task = replace(task, definition=definition.model_copy(update={"protocol": protocol}))
        for prepared in prepare(task, None, config, source_of(given.data_dir)):
            for query in RequestBuilder(prepared, lm, "error").queries():
                requests += query.requests
    decoding = {"beams": work.beams, "max_tokens": given.max_tokens, "length_penalty": 1.0, "penalty": "power"}
    return [replace(each, decoding=replace(each.decoding, **decoding)) for each in requests]


def _peer(model: str) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=model, dtype="float32", device="cpu", batch_size=1)


def _their_seconds(peer: Any, lm: Any, requests: list[Any], beams: int, size: int) -> tuple[float, list[str]]:
    from lm_eval.api.instance import Instance

    peer.batch_size_per_gpu = size
    settings = {"until": ["\n"], "max_gen_toks": requests[0].decoding.max_tokens, "do_sample": False}
    if beams > 1:
        settings |= {"num_beams": beams, "length_penalty": 1.0, "early_stopping": "never"}
    instances = [
        Instance("generate_until", {}, (lm.tokenizer.decode(list(request.tokens)), settings), index)
        for index, request in enumerate(requests)
    ]
    found: list[str] = []
    seconds = _seconds(lambda: found.extend(peer.generate_until(instances, disable_tqdm=True)))
    return seconds, found


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
