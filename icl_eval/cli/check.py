"""`icl-eval check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from icl_eval.cli import options, panels
from icl_eval.cli.terminal import complain, write
from icl_eval.errors import IclEvalError, MissingData, TaskError

if TYPE_CHECKING:
    from icl_eval.models import LanguageModel


def check(
    task: Annotated[
        list[str] | None, typer.Argument(metavar="TASK", help="Names or paths. Default: everything there is.")
    ] = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    split: options.Split = None,
    demonstrations: options.Demonstrations = None,
    include: options.Include = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            rich_help_panel=panels.MODELS,
            help="Also find queries longer than what this model reads: `tiny`, a directory, or a name on the Hub.",
        ),
    ] = None,
    tokenizer: Annotated[str | None, options.TOKENIZER] = None,
    revision: options.Revision = None,
    bos: options.BeginsWithBos = "auto",
    window: options.Window = None,
    trust_remote_code: Annotated[bool, options.TRUST] = False,
) -> None:
    """Validate task files: schema, labels, templates and records.

    Every record is rendered under every prompt; of a suite, all tasks are checked. Default data: the bundled sample.
    Of a model, only its configuration and tokenizer are read.
    """
    from icl_eval.runs.inspection import check_lengths, inspect, with_members

    names, library = options.library_for(task or [], include)
    where = options.data_of(data, data_dir, otherwise="sample")
    own = {"tokenizer": tokenizer, "revision": revision, "bos": options.begins_with_bos(bos), "window": window}
    lm = None if model is None else _without_weights(model, own, trust_remote_code=trust_remote_code)
    inspected = with_members(library, names or library.names())
    failed, absent = set[str](), set[str]()
    for name in inspected:
        try:
            members = {*with_members(library, [name])}
            if broken := failed & members:
                raise TaskError(f"{len(broken)} of its tasks cannot be run: {', '.join(sorted(broken))}", name)
            if bare := absent & members:
                raise MissingData(f"of its tasks, {', '.join(sorted(bare))} {'have' if len(bare) > 1 else 'has'} none")
            found = inspect(library, name, where, split, demonstrations, trust_remote_code=trust_remote_code)
            if lm is not None:
                note = check_lengths(library, name, lm, where, split, demonstrations)
                found += f"; note: {note}" if note else ""
            write(f"ok {name}: {found}")
        except MissingData as error:
            if names:
                failed.add(name)
                complain(error if len(inspected) == 1 else f"{name}: {error}")
            else:
                absent.add(name)
                write(f"no data for {name}: {error.message}")
        except IclEvalError as error:
            failed.add(name)
            complain(error)
    if failed:
        raise typer.Exit(2)


def _without_weights(model: str, own: dict[str, Any], *, trust_remote_code: bool) -> LanguageModel:
    """A model that can be asked how long texts are, and nothing else."""
    from icl_eval.models import LoadConfig, ModelConfig, load_text_reader

    return load_text_reader(model, ModelConfig(**own), LoadConfig(trust_remote_code=trust_remote_code))
