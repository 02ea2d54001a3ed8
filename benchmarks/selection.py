"""Time of selecting demonstrations by similarity.

    python benchmarks/selection.py [--candidates 100000] [--queries 10000] [--select bm25,knn]

Texts have 32 words each, whose frequencies follow Zipf's law over 30,000 words: the most frequent word is in nearly all
of them, as the words of a prompt are. For every query, 8 demonstrations are selected. CPU seconds of one process,
with the time to count the words of the candidates.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np

from icl_eval.demos import Pool
from icl_eval.tasks import Example
from icl_eval.tasks.protocol import Protocol

WORDS, LENGTH, SHOTS, MOST = 30_000, 32, 8, 60  # seconds for 10,000 queries and 100,000 candidates


def examples(prefix: str, count: int, seed: int) -> list[Example]:
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, WORDS + 1)
    words = rng.choice(WORDS, (count, LENGTH), p=weights / weights.sum())
    found = []
    for index, row in enumerate(words.tolist()):
        name, text = f"{prefix}{index}", " ".join(f"w{word}" for word in row)
        found.append(Example(name, {"text": text}, ("a", "b"), (0,), name, name, name))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--select", default="bm25,knn")
    given = parser.parse_args()
    candidates, queries = examples("c", given.candidates, 0), examples("q", given.queries, 1)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    slow = False
    print("| selection | CPU seconds | peak memory beyond the examples |\n|---|---:|---:|")
    for select in given.select.split(","):
        begun = time.process_time()
        pool = Pool("task", candidates, Protocol.model_validate({"select": select}), queries=queries)
        for query in queries:
            pool.draw(query, SHOTS, 0)
        seconds = time.process_time() - begun
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024
        print(f"| {select} | {seconds:.1f} | {peak} MB |", flush=True)
        slow |= seconds > MOST
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
