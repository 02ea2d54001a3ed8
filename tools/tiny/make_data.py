"""Write the bundled sample data: `python -m tools.tiny.make_data OUT`. Every run gives the same bytes."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.tiny.sample import SEED, draw_sample, jsonl

README = f"""# Sample data

Everything in this folder is a *sample*: short invented sentences about a small invented world, made by a program.

- `superglue/` has the file layout and the record schema of the official SuperGLUE release, so that code written for
  the release can be tried without it. **It is not SuperGLUE.** No sentence comes from there, and a score on these files
  says nothing about a score on SuperGLUE. Such scores are labelled `sample`. Each record is about
  one invented word, and its answer depends on what the word means in this world. Each task has six words.
- `symbols/` is a test of in-context learning: each validation record has a separate symbol-to-label mapping,
  drawn at random, and `train.jsonl` has 40 solved records of the same mapping. Without demonstrations nothing can be
  better than chance, 0.25.

The files are the output of `python -m tools.tiny.make_data OUT` (seed {SEED}), byte for byte. Licence: Apache-2.0.
"""


def main(arguments: list[str]) -> int:
    """Write all files under the folder named by the only argument."""
    if len(arguments) != 1:
        print("usage: python -m tools.tiny.make_data OUT", file=sys.stderr)
        return 2
    write_sample(Path(arguments[0]))
    return 0


def write_sample(out: Path) -> None:
    """Write the sample and its README under `out`."""
    texts = {name: jsonl(records) for name, records in draw_sample().items()} | {"README.md": README}
    for name, text in texts.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
