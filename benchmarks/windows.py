"""Time of scoring prompts beyond a sliding window: rows that branch, against the same model one sequence after another.

    python benchmarks/windows.py MODEL DATA_DIR [--queries 4] [--repeats 3]

The model is random, in float32 on the CPU: six layers of Gemma 3 of 270 million parameters, five of which have windows
of 512 tokens. MODEL gives its tokenizer and the size of its vocabulary. The prompts are 32 questions of TREC with their
types (`trec/train.first1000.txt`), drawn for each query (of `trec/test.txt`) alone, and all six types are scored. Both
sides take turns, and the median of the ratios is printed. The other side is the same network without sharing: requests
one by one, each as a sequence with the model's usual attention.

Exits with 1 if other tokens are computed than those of the trie, if log-probabilities differ by more than 1e-4 nats per
scored token, or if no prompt is longer than the window.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from icl_eval import Task
from icl_eval.engine import Engine
from icl_eval.models import ScoreAnswer, ScoreRequest, common_prefix
from icl_eval.models.causal.model import CausalLM
from icl_eval.results.run_config import RunConfig
from icl_eval.runs.cells import prepare
from icl_eval.runs.requests import RequestBuilder
from icl_eval.runs.tasks import SAMPLE_PATH
from icl_eval.tasks import LocalSource

TOLERANCE = 1e-4  # nats per scored token
WINDOW = 512  # tokens of Gemma 3's sliding windows
TYPES = {
    "ABBR": "an abbreviation",
    "DESC": "a description",
    "ENTY": "an entity",
    "HUM": "a person",
    "LOC": "a location",
    "NUM": "a number",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--queries", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    branching, plain = _models(given.model)
    requests = _requests(branching, _trec(given.data_dir / "trec", given.queries))
    longest, input_tokens = max(each.input_length for each in requests), sum(each.input_length for each in requests)
    one_by_one = [[each] for each in requests]
    turns = [(_answers(branching, [requests]), _answers(plain, one_by_one)) for _ in range(given.repeats)]
    (_, computed, ours), (_, plainly, theirs) = turns[0]
    worst = max(
        abs(sum(mine.logprobs) - sum(other.logprobs)) / len(mine.logprobs)
        for mine, other in zip(ours, theirs, strict=True)
    )
    faster, trie = median(other[0] / mine[0] for mine, other in turns), _trie(requests)
    print("| longest | input tokens | of the trie | computed | without sharing | times as fast | difference |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    print(f"| {longest} | {input_tokens:,} | {trie:,} | {computed:,} | {plainly:,} | {faster:.2f} | {worst:.1e} |")
    seconds = [f"{mine[0]:.2f}/{other[0]:.2f}" for mine, other in turns]
    print(f"seconds of every turn, ours/without sharing: {', '.join(seconds)}", file=sys.stderr)
    return int(computed != trie or worst > TOLERANCE or longest <= WINDOW)


def _models(name: str) -> tuple[CausalLM, CausalLM]:
    """One random network twice, the second without sharing."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3TextConfig

    tokenizer = AutoTokenizer.from_pretrained(name)
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        query_pre_attn_scalar=256,
        sliding_window=WINDOW,
        max_position_embeddings=4096,
    )
    torch.manual_seed(0)
    maker: Any = AutoModelForCausalLM
    network = maker.from_config(config, dtype=torch.float32).eval()
    branching, plain = (CausalLM(network, tokenizer, "gemma3", "random", bos=False) for _ in range(2))
    plain.shares_prefixes = plain.has_tree_attention = plain.caches_prefixes = False
    return branching, plain


def _trec(folder: Path, queries: int) -> Task:
    """Questions and the six types of what they config for; lines read `COARSE:fine question`."""
    train, test = (
        [
            {"question": question, "type": TYPES[types.split(":")[0]]}
            for types, question in (
                line.split(" ", 1) for line in (folder / name).read_text(encoding="utf-8").splitlines() if line
            )
        ]
        for name in ("train.first1000.txt", "test.txt")
    )
    return Task.from_records(
        "trec",
        evaluation=test[:queries],
        demonstrations=train,
        prompt="Question: {{ question }}\nType:",
        options=list(TYPES.values()),
        names=list(TYPES.values()),
        gold="type",
    )


def _requests(lm: CausalLM, task: Task) -> list[ScoreRequest]:
    config = RunConfig(model=lm.name, tasks=(task.name,), shots=(32,), overflow="error")
    (prepared,) = prepare(task, None, config, LocalSource(SAMPLE_PATH))
    return [each for query in RequestBuilder(prepared, lm, "error").queries() for each in query.conditional]


def _answers(lm: CausalLM, calls: Sequence[Sequence[ScoreRequest]]) -> tuple[float, int, list[ScoreAnswer]]:
    """Seconds, tokens computed, and the answers to the requests of all calls; nothing is known before."""
    engine = Engine(lm)
    lm.clear_cache()
    began = time.perf_counter()
    answers = [answer for requests in calls for answer in engine.answer(requests)]
    return time.perf_counter() - began, engine.tokens, answers


def _trie(requests: Sequence[ScoreRequest]) -> int:
    inputs = [np.array(each.tokens[:-1], np.int32) for each in sorted(requests, key=lambda each: each.tokens)]
    shared = sum(common_prefix(one, other) for one, other in pairwise(inputs))
    return sum(map(len, inputs)) - shared


if __name__ == "__main__":
    sys.exit(main())
