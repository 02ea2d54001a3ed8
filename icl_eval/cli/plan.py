"""`icl-eval plan`."""

from __future__ import annotations

from typing import Annotated

import typer

from icl_eval.cli import options, panels
from icl_eval.cli.terminal import write


def plan(
    task: Annotated[list[str], options.TASK],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            rich_help_panel=panels.ASKED,
            help="`tiny`, a directory with a config.json, a GGUF file, or a name on the Hub.",
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            rich_help_panel=panels.MODELS,
            help="Another tokenizer: `tiny`, a directory, or a name on the Hub.",
        ),
    ] = None,
    shots: options.Shots = None,
    seeds: options.Seeds = "1",
    prompt: options.Prompts = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    split: options.Split = None,
    demonstrations: options.Demonstrations = None,
    limit: options.Limit = None,
    overflow: options.OverflowRule = "drop",
    decode: options.Decode = None,
    include: options.Include = None,
    revision: options.Revision = None,
    dtype: options.Arithmetic = "auto",
    device: Annotated[
        str | None,
        typer.Option(
            metavar="cpu|cuda",
            rich_help_panel=panels.DEVICES,
            help="Plan rows for cpu or cuda, there or not. Default: as `run` here.",
        ),
    ] = None,
    bos: options.BeginsWithBos = "auto",
    window: options.Window = None,
    trust_remote_code: Annotated[bool, options.TRUST] = False,
) -> None:
    """Print what a run would take: memory, tokens, and about what time.

    Only the model's configuration is read and no weights, so that a model of any size can be planned on any machine.
    """
    from icl_eval.runs.cost import plan as plan_of

    names, library = options.library_for(options.words(task), include)
    asked = plan_of(
        "tiny" if model is None else model,
        names,
        **options.grid(shots, seeds, prompt),
        data=options.data_of(data, data_dir, otherwise="sample" if model is None else "hub"),
        split=split,
        demonstrations=demonstrations,
        limit=limit,
        overflow=overflow,
        decode=options.decoding(decode),
        library=library,
        tokenizer=tokenizer,
        revision=revision,
        dtype=dtype,
        device=device,
        bos=options.begins_with_bos(bos),
        window=window,
        trust_remote_code=trust_remote_code,
    )
    write(str(asked), end="")
    options.exit_if_incomplete(asked.explanation.failures)
