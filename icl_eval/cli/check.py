"""`icl-eval check`."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import Annotated, Any

import typer

from icl_eval.cli import options
from icl_eval.cli.terminal import complain, write
from icl_eval.config import MODELS, Option
from icl_eval.errors import IclEvalError, MissingData, TaskError


@options.takes("split", "fewshot_split", *options.ENCODING, "trust_remote_code")
def check(
    tasks: list[str] | None,
    task: list[str] | None,
    *,
    data: str | None,
    data_dir: Path | None,
    include: list[Path] | None,
    model: Annotated[
        str | None,
        Option(
            "Also find queries longer than the context of this model: `tiny`, a directory, or a name on the Hub.",
            MODELS,
            "MODEL",
            flags=("--model", "-m"),
        ),
    ] = None,
    split: str | None,
    fewshot_split: str | None,
    trust_remote_code: bool,
    **tokenizer_options: Any,
) -> None:
    """Validate task files: schema, labels, templates and records.

    Every record is rendered with every prompt. Without tasks, all tasks are checked. Of a model, only the configuration
    and the tokenizer are read.
    """
    from icl_eval.models import load_text_reader
    from icl_eval.models.options import read_options
    from icl_eval.runs.check import check_lengths, inspect, with_members

    names, library = options.library_for(options.task_names(tasks, task, is_needed=False), include)
    configs = read_options({**options.read(tokenizer_options), "trust_remote_code": trust_remote_code})
    lm = None if model is None else load_text_reader(model, *configs)
    inspected = with_members(library, names or library.names())
    where = options.data_of(data, data_dir, default=options.default_data(model))
    failed, absent = set[str](), set[str]()
    for name in inspected:
        try:
            _check_members(name, {*with_members(library, [name])}, failed, absent)
            found = inspect(library, name, where, split, fewshot_split, trust_remote_code=trust_remote_code)
            if lm is not None:
                note = check_lengths(library, name, lm, where, split, fewshot_split, configs[0])
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


def _check_members(name: str, members: Set[str], failed: Set[str], absent: Set[str]) -> None:
    """Raise for a suite with a task that failed, or without data."""
    if broken := failed & members:
        raise TaskError(f"{len(broken)} of its tasks cannot be run: {', '.join(sorted(broken))}", name)
    if bare := absent & members:
        tasks, have = ("tasks", "have") if len(bare) > 1 else ("task", "has")
        raise MissingData(f"its {tasks} {', '.join(sorted(bare))} {have} none")
