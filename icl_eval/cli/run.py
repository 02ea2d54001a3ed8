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
    shots: Annotated[
        str | None, typer.Option(help="Numbers of demonstrations, such as 0,1,4,32. Default: each task's own.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="How many draws of demonstrations, or which, such as 3,4,5.")] = "1",
    prompt: Annotated[list[str] | None, typer.Option(help="Prompts by name. Default: each task's first.")] = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    split: options.Split = None,
    demonstrations: options.Demonstrations = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Ask only the first N examples (whole questions or pairs).")
    ] = None,
    score: Annotated[list[str] | None, options.SCORE] = None,
    overflow: Annotated[
        options.Overflow,
        typer.Option(help="Prompts longer than the window: drop demonstrations, error, or also truncate queries."),
    ] = options.Overflow.drop,
    out: Annotated[
        Path | None, typer.Option(help="Run folder. Default: one under results/ named after what is asked.")
    ] = None,
    format: Annotated[options.Format, options.FORMAT] = options.Format.table,
    include: options.Include = None,
    revision: Annotated[str | None, typer.Option(help="Revision of the model's repository on the Hub.")] = None,
    dtype: Annotated[options.Dtype, typer.Option(help="Arithmetic; auto is float32 on a CPU.")] = options.Dtype.auto,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ... Default: a GPU if there is one.")] = None,
    bos: Annotated[
        options.Bos, typer.Option(help="Begin every text with the BOS token; auto does as the tokenizer.")
    ] = options.Bos.auto,
    window: Annotated[
        int | None, typer.Option(min=2, help="Tokens the model reads at once, if its checkpoint does not say.")
    ] = None,
    trust_remote_code: Annotated[bool, options.TRUST] = False,
    allow_pickle: Annotated[bool, options.PICKLE] = False,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="Directory, GGUF file or Hub name of the tokenizer; an endpoint needs it.",
            rich_help_panel="Models",
        ),
    ] = None,
    served_name: Annotated[
        str | None,
        typer.Option(help="The model's name at its endpoint. Default: the first.", rich_help_panel="Served models"),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Requests to an endpoint under way at once.", rich_help_panel="Served models")
    ] = 8,
    timeout: Annotated[
        float,
        typer.Option(help="Seconds to wait for an endpoint's answer.", rich_help_panel="Served models"),
    ] = 120.0,
    retries: Annotated[
        int,
        typer.Option(min=0, help="How often to repeat a request that failed.", rich_help_panel="Served models"),
    ] = 6,
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
        which = options.numbers(seeds, "--seeds")
        asked: dict[str, Any] = {
            "shots": options.numbers(shots, "--shots") if shots is not None else (),
            "seeds": which if "," in seeds else which[0],
            "prompts": options.words(prompt),
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
            "bos": None if bos is options.Bos.auto else bos is options.Bos.yes,
            "window": window,
            "trust_remote_code": trust_remote_code,
            "allow_pickle": allow_pickle,
            "tokenizer": tokenizer,
            "served_name": served_name,
            "concurrency": concurrency,
            "timeout": timeout,
            "retries": retries,
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
