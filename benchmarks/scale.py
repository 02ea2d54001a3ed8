"""Time of the steps that read many records, and memory of one long record.

    python benchmarks/scale.py [--records 100000] [--steps show,check,...] [--profile]

Makes a file of records (a text of about 200 characters, one of two labels), which is both evaluated and drawn from for
demonstrations, and two finished runs over it. Times are CPU seconds and multiples of those that json.loads takes for
all lines of what the step reads: the data file, or the `examples.jsonl` of its runs. All steps run in this process,
after imports and one loading of the bundled model.

- show: one prompt with two demonstrations.
- start: a run with two demonstrations, until the model gets its first requests. The fake model answers nothing.
- check: all records, with 0, 1 and 4 demonstrations.
- rescore, compare: one run of the records, or two.
- memory: peak of a process that runs one record of 5 MB on the bundled model with `--overflow truncate`, less that of a
  process that loads the model and encodes the text.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import pstats
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from icl_eval import compare, evaluate, rescore
from icl_eval.models import ScoreRequest, load_model
from icl_eval.models.protocol import Sink
from icl_eval.runs.check import inspect, preview
from icl_eval.tasks import Library, Task
from icl_eval.testing import FakeLM

NAME = "scale/numbers"
TASK = """\
task: scale/numbers
about: Records for timing.
data: {local: {test: test.jsonl}}
splits: {demonstrations: test, evaluation: test}
id: id
fields: {text: text}
gold: {field: label}
options: [even, odd]
prompts: [plain]
metrics: [accuracy]
"""
PROMPT = "{% block query %}{{ text }}\nAnswer:{% endblock %}{% block answer %} {{ option }}{% endblock %}"
MOST = {"show": 3, "start": 6, "check": 25, "rescore": 8, "compare": 8}
LONG, MOST_MEMORY = 5_000_000, 200  # characters of the long record; MB beyond what the model needs


class StartedError(Exception):
    """The model got its first requests."""


class Silent(FakeLM):
    """A model that ends the run at its first request."""

    def score(self, requests: Sequence[ScoreRequest], sink: Sink) -> None:  # noqa: ARG002
        raise StartedError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--steps", default=",".join([*MOST, "memory"]))
    parser.add_argument("--profile", action="store_true", help="print where the time goes, which takes longer")
    parser.add_argument("--long", choices=["encode", "run"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.long:
        print(_long_record(given.long))
        return 0
    chosen = given.steps.split(",")
    print("| step | CPU seconds | times the parsing | at most |\n|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        steps = [each for each in _steps(Path(folder), given.records) if each[0] in chosen]
        over = [_timed(*each, given.profile) for each in steps]
    if "memory" in chosen:
        base, run = (_peak(what) for what in ("encode", "run"))
        print(f"\n5 MB record: {run - base} MB beyond the {base} MB of model and tokens (at most {MOST_MEMORY} MB)")
        over.append(run - base > MOST_MEMORY)
    return int(any(over))


def _steps(root: Path, records: int) -> list[tuple[str, Callable[[], Any], float]]:
    """Every step by name, and the seconds that parsing its file takes."""
    data = _write(root, records)
    library = Library([root])
    runs = [_finished(root / name, data, records, gain) for name, gain in (("one", 0), ("other", 1))]
    load_model("tiny", device="cpu")
    parse, parse_run = _parsing(data / "test.jsonl"), _parsing(runs[0] / "examples.jsonl")

    def task() -> Task:
        return Library([root]).task(NAME)

    def start() -> None:
        with suppress(StartedError):
            evaluate(Silent(), task(), shots=2, data=data, keep=False)

    return [
        ("show", lambda: preview(task(), "tiny", data=data, shots=2), parse),
        ("start", start, parse),
        ("check", lambda: inspect(library, NAME, data), parse),
        ("rescore", lambda: rescore(runs[0]), parse_run),
        ("compare", lambda: compare(runs[0], runs[1]), 2 * parse_run),
    ]


def _timed(name: str, step: Callable[[], Any], parse: float, profile: bool) -> bool:
    """Print the row of a step; whether it takes longer than it may."""
    gc.collect()
    profiler = cProfile.Profile()
    begun = time.process_time()
    profiler.runcall(step) if profile else step()
    seconds = time.process_time() - begun
    print(f"| {name} | {seconds:.2f} | {seconds / parse:.1f} | {MOST[name]} |", flush=True)
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
    return seconds / parse > MOST[name]


def _parsing(path: Path) -> float:
    """Seconds that json.loads takes for the lines of a file; the least of three times."""
    found = []
    for _ in range(3):
        begun = time.process_time()
        with path.open("rb") as lines:
            for line in lines:
                json.loads(line)
        found.append(time.process_time() - begun)
    return min(found)


def _write(root: Path, records: int) -> Path:
    draws = random.Random(0)
    words = ["".join(draws.choices("abcdefghijklmnopqrstuvwxyz", k=draws.randint(2, 9))) for _ in range(5000)]
    for folder in ("tasks/scale", "prompts/scale/numbers", "data"):
        (root / folder).mkdir(parents=True)
    (root / "tasks/scale/numbers.yaml").write_text(TASK)
    (root / "prompts/scale/numbers/plain.jinja").write_text(PROMPT)
    with (root / "data/test.jsonl").open("w") as file:
        for number in range(records):
            record = {"id": f"r{number}", "text": " ".join(draws.choices(words, k=32)), "label": number % 2}
            file.write(json.dumps(record) + "\n")
    return root / "data"


def _finished(folder: Path, data: Path, records: int, gain: int) -> Path:
    """A run of one record, with its line and its counts made those of all records."""
    evaluate(FakeLM(), Library([data.parent]).task(NAME), shots=2, limit="first:1", data=data, out=folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["tasks"][0] |= {"examples": records, "total_examples": records}
    manifest["examples_digest"] = None  # of the lines below
    (folder / "manifest.json").write_text(json.dumps(manifest))
    line = json.loads((folder / "examples.jsonl").read_text())
    with (folder / "examples.jsonl").open("w") as file:
        for number in range(records):
            name = f"r{number}"
            answered = {"id": name, "cluster": name, "group": name, "gold": [number % 2]}
            options = [dict(each) for each in line["options"]]
            options[0]["logprobs"] = [-1.0 - (number * (7 + gain)) % 13 / 7]
            file.write(json.dumps(line | answered | {"options": options}) + "\n")
    return folder


def _peak(what: str) -> int:
    """The peak memory of a process in MB."""
    done = subprocess.run([sys.executable, __file__, "--long", what], capture_output=True, text=True, check=True)
    return int(done.stdout)


def _long_record(what: str) -> int:
    text = ("The cat sat on the mat and looked at 7 birds. " * (LONG // 46 + 1))[:LONG]
    lm = load_model("tiny", device="cpu")
    if what == "encode":
        lm.encode([text])
    else:
        task = Task.from_records(
            "long", evaluation=[{"text": text, "label": 0}], prompt="{{ text }}\nAnswer:", options=["even", "odd"]
        )
        evaluate(lm, task, shots=0, overflow="truncate")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    sys.exit(main())
