"""`icl-eval run`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icl_eval.choices import PLL, Attention, Quantization
from icl_eval.cli import options, panels
from icl_eval.cli.terminal import remark, write

if TYPE_CHECKING:
    from icl_eval.results.records import Failure
    from icl_eval.tasks import Normalization

DEMONSTRATION = "no --model was given, so this is the demonstration: the bundled tiny GPT-2"
INTERRUPTED = 130


def run(
    task: Annotated[list[str], options.TASK],
    model: Annotated[list[str] | None, options.MODELS] = None,
    shots: options.Shots = None,
    seeds: options.Seeds = "1",
    prompt: options.Prompts = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    split: options.Split = None,
    demonstrations: options.Demonstrations = None,
    limit: options.Limit = None,
    score: Annotated[list[str] | None, options.SCORE] = None,
    overflow: options.OverflowRule = "drop",
    decode: options.Decode = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            rich_help_panel=panels.RESULTS,
            help="Run folder. Default: one under results/ named after what is asked.",
        ),
    ] = None,
    format: Annotated[options.Format, options.FORMAT] = "table",
    include: options.Include = None,
    revision: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,...",
            rich_help_panel=panels.MODELS,
            help="Revisions of the models' repositories on the Hub, by comma or repeated: each of each model.",
        ),
    ] = None,
    dtype: options.Arithmetic = "auto",
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", rich_help_panel=panels.DEVICES, help="cpu, cuda, cuda:1 ... Default: a GPU if there is one."
        ),
    ] = None,
    bos: options.BeginsWithBos = "auto",
    window: options.Window = None,
    trust_remote_code: Annotated[bool, options.TRUST] = False,
    allow_pickle: Annotated[bool, options.PICKLE] = False,
    quantize: Annotated[Quantization | None, options.QUANTIZE] = None,
    device_map: Annotated[str | None, options.DEVICE_MAP] = None,
    max_memory: Annotated[list[str] | None, options.MAX_MEMORY] = None,
    offload_dir: Annotated[Path | None, options.OFFLOAD_DIR] = None,
    tensor_parallel: Annotated[bool, options.TENSOR_PARALLEL] = False,
    attn: Annotated[Attention | None, options.ATTN] = None,
    pll: Annotated[
        PLL,
        typer.Option(
            help="Masked models: mask with each token the later ones of its word (l2r), or each token alone (plain).",
            rich_help_panel=panels.MODELS,
        ),
    ] = "l2r",
    tokenizer: Annotated[str | None, options.TOKENIZER] = None,
    served_name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The model's name at its endpoint. Default: the first.", rich_help_panel=panels.SERVED
        ),
    ] = None,
    concurrency: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Requests to an endpoint under way at once.", rich_help_panel=panels.SERVED
        ),
    ] = 8,
    timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Seconds to wait for an endpoint's answer.", rich_help_panel=panels.SERVED
        ),
    ] = 120.0,
    retries: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="How often to repeat a request that failed.", rich_help_panel=panels.SERVED
        ),
    ] = 6,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            rich_help_panel=panels.RESULTS,
            help="Print what would be asked and computed, and compute nothing.",
        ),
    ] = False,
    processes: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            rich_help_panel=panels.DEVICES,
            help="Share the work of each model among N processes, each with a GPU or its part of the cores.",
        ),
    ] = 1,
) -> None:
    """Measure a model, or several, on tasks and print the scores.

    What is answered is kept in the run folder; the same command again computes only what is missing.
    """
    with _resumable():
        models, revisions = options.models(model), options.words(revision)
        several = len(models) * max(len(revisions), 1) > 1
        if processes > 1 and not explain:
            from icl_eval.cli.processes import check_startable, start

            check_startable(processes, device)
            raise typer.Exit(start(processes))
        from icl_eval.cli.progress import progress_bar
        from icl_eval.config import SAMPLE
        from icl_eval.runs.evaluation import evaluate
        from icl_eval.runs.evaluation import explain as plan_of

        names, library = options.library_for(options.words(task), include)
        asked: dict[str, Any] = {
            **options.grid(shots, seeds, prompt),
            "data": options.data_of(data, data_dir, otherwise="hub" if model else SAMPLE),
            "split": split,
            "demonstrations": demonstrations,
            "limit": limit,
            "overflow": overflow,
            "decode": options.decoding(decode),
            "out": out,
            "keep": True,
            "note": None if model else DEMONSTRATION,
            "library": library,
            "dtype": dtype,
            "device": device,
            "bos": options.begins_with_bos(bos),
            "window": window,
            "trust_remote_code": trust_remote_code,
            "allow_pickle": allow_pickle,
            "quantize": quantize,
            "device_map": device_map,
            "max_memory": options.memory(max_memory),
            "offload_dir": offload_dir,
            "tensor_parallel": tensor_parallel,
            "attn": attn,
            "pll": pll,
            "tokenizer": tokenizer,
            "served_name": served_name,
            "concurrency": concurrency,
            "timeout": timeout,
            "retries": retries,
        }
        first = options.is_first()
        if several:
            _sweep(models, names, asked | {"revisions": revisions}, options.normalizations(score), format, explain)
            return
        asked["revision"] = revisions[0] if revisions else None
        if explain:
            if first:
                plan = plan_of(models[0], names, **asked)
                write(str(plan), end="")
                options.exit_if_incomplete(plan.failures)
            return
        with progress_bar(shown=first) as progress:
            result = evaluate(
                models[0], names, normalizations=options.normalizations(score), progress=progress, **asked
            )
    if first:
        write(result.table(format), end="")
        remark(f"kept in {result.folder}")
    options.exit_if_incomplete(result.missing, shown=first)


def _sweep(
    models: list[str],
    names: list[str],
    asked: dict[str, Any],
    normalizations: tuple[Normalization, ...],
    format: str,
    explain: bool,
) -> None:
    """Several models: one plan after the other, or the table of all; the exit code is 1 if scores are missing in it."""
    from icl_eval.cli.progress import progress_bar
    from icl_eval.runs.sweep import explain_sweep, sweep

    first = options.is_first()
    if explain:
        failures: list[Failure] = []
        for name, plan in explain_sweep(models, names, **asked) if first else ():
            write(f"{name}\n{plan}")
            failures += plan.failures
        options.exit_if_incomplete(failures)
        return
    with progress_bar(shown=first) as progress:
        swept = sweep(models, names, normalizations=normalizations, progress=progress, **asked)
    if first:
        write(swept.table(format), end="")
        remark(f"kept in {swept.folder}")
    options.exit_if_incomplete(swept.missing, shown=first)


@contextmanager
def _resumable() -> Iterator[None]:
    """Turn an interrupt into the command that goes on from there, which of several processes their launcher tells."""
    try:
        yield
    except KeyboardInterrupt as error:
        from icl_eval.engine import rank_and_world_size

        if rank_and_world_size()[1] > 1:
            raise typer.Exit(INTERRUPTED) from error
        command = shlex.join(["icl-eval", *sys.argv[1:]])
        remark(f"\ninterrupted; what was answered is kept, and this goes on from there:\n  {command}")
        raise typer.Exit(INTERRUPTED) from error
