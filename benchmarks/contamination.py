"""Speed and memory of searching text files for the n-grams of examples.

    python benchmarks/contamination.py [--megabytes 250] [--examples 20000]

The text is random words by Zipf's law, with capitals, punctuation and some characters beyond ASCII, as plain text and
as JSON lines of about 3 kB. The examples are 40 words each, with n-grams of 8 to 13; some are copied into the text.

Exits with 1 if a copied example is not found, or a file takes more than a minute of one core for each gigabyte.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from icl_eval.ngrams import NgramIndex, passages, search

VOCABULARY, LINE = 400_000, 500
COPIED = 50  # examples
GIGABYTE_A_MINUTE = 1000 / 60  # megabytes a second


def words(draw: np.random.Generator, count: int, vocabulary: list[str]) -> list[str]:
    ranks = np.minimum(draw.zipf(1.15, size=count) - 1, len(vocabulary) - 1)
    found = [vocabulary[rank] for rank in ranks.tolist()]
    for index in range(0, count, 17):
        found[index] = found[index].capitalize()
        found[index - 1] += ","
    for index in range(0, count, 170):
        found[index] = f"“{found[index]}”"
    return found


def lines(draw: np.random.Generator, size: int, vocabulary: list[str], copied: list[str]) -> Iterator[str]:
    written = 0
    while written < size or copied:
        line = " ".join(words(draw, LINE, vocabulary))
        if copied:
            line += f"\t{copied.pop()}."
        written += len(line) + 1
        yield line


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=250)
    parser.add_argument("--examples", type=int, default=20_000)
    arguments = parser.parse_args()
    draw = np.random.default_rng(0)
    lengths = draw.poisson(5, VOCABULARY) + 1
    vocabulary = ["".join(map(chr, draw.integers(97, 123, length))) for length in lengths.tolist()]
    examples = [" ".join(words(draw, 40, vocabulary)) for _ in range(arguments.examples)]
    failed = False
    with TemporaryDirectory() as folder:
        for suffix in (".txt", ".jsonl"):
            file = Path(folder) / f"text{suffix}"
            with file.open("w", encoding="utf-8") as out:
                for line in lines(draw, arguments.megabytes * 10**6, vocabulary, examples[:COPIED]):
                    out.write((line if suffix == ".txt" else json.dumps({"text": line})) + "\n")
            index = NgramIndex(examples, [8 + number % 6 for number in range(len(examples))])
            began = time.process_time()
            owners = {
                owner
                for found, _ in search(index, passages([file], "text", index.longest))
                for owner in index.owners(found)
            }
            speed = file.stat().st_size / 1e6 / (time.process_time() - began)
            missed = set(range(COPIED)) - owners
            failed |= bool(missed) or speed < GIGABYTE_A_MINUTE
            print(f"{suffix:7} {speed:.0f} MB/s, {speed * 60 / 1000:.1f} GB a minute; {len(missed)} of {COPIED} missed")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
