"""`icl-eval run`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from icl_eval.cli import options

DEMONSTRATION = "no --model was given, so this is the demonstration: the bundled tiny GPT-2"
INTERRUPTED = 130


def run(
    task: Annotated[list[str], options.TASK],
    model: Annotated[str | None, options.MODEL] = None,
    shots: options.Shots = None,
    seeds: options.Seeds = "1",
    prompt: options.Prompts = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    split: options.Split = None,
    demonstrations: options.Demonstrations = None,
    limit: options.Limit = None,
    score: Annotated[list[str] | None, options.SCORE] = None,
    overflow: options.OverflowRule = options.Overflow.drop,
    out: Annotated[
        Path | None, typer.Option(help="Run folder. Default: one under results/ named after what is asked.")
    ] = None,
    format: Annotated[options.Format, options.FORMAT] = options.Format.table,
    include: options.Include = None,
    revision: options.Revision = None,
    dtype: options.Arithmetic = options.Dtype.auto,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ... Default: a GPU if there is one.")] = None,
    bos: options.BeginsWithBos = options.Bos.auto,
    window: options.Window = None,
    trust_remote_code: Annotated[bool, options.TRUST] = False,
    allow_pickle: Annotated[bool, options.PICKLE] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print what would be asked and computed, and compute nothing.")
    ] = False,
) -> None:
    """Measure a model on tasks and print the scores.

    What is answered is kept in the run folder; the same command again computes only what is missing.
    """
    with _resumable():
        from icl_eval.cli.progress import progress_bar
        from icl_eval.runs.ask import SAMPLE
        from icl_eval.runs.evaluation import evaluate
        from icl_eval.runs.evaluation import explain as plan_of

        names, library = options.library_for(options.words(task), include)
        asked: dict[str, Any] = {
            **options.grid(shots, seeds, prompt),
            "data": options.data_of(data, data_dir, otherwise=SAMPLE if model is None else "hub"),
            "split": split,
            "demonstrations": demonstrations,
            "limit": limit,
            "overflow": overflow.value,
            "out": out,
            "keep": True,
            "note": DEMONSTRATION if model is None else None,
            "library": library,
            "revision": revision,
            "dtype": dtype.value,
            "device": device,
            "bos": options.begins_with_bos(bos),
            "window": window,
            "trust_remote_code": trust_remote_code,
            "allow_pickle": allow_pickle,
        }
        lm = "tiny" if model is None else model
        if explain:
            print(plan_of(lm, names, **asked), end="")
            return
        with progress_bar() as progress:
            result = evaluate(lm, names, normalizations=options.normalizations(score), progress=progress, **asked)
    print(result.table(format.value), end="")
    print(f"kept in {result.folder}", file=sys.stderr)


@contextmanager
def _resumable() -> Iterator[None]:
    """Turn an interrupt into the command that goes on from there."""
    try:
        yield
    except KeyboardInterrupt as error:
        command = shlex.join(["icl-eval", *sys.argv[1:]])
        print(f"\ninterrupted; what was answered is kept, and this goes on from there:\n  {command}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from error
