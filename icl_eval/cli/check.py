"""`icl-eval check`."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import Annotated, Any

import typer

from icl_eval.cli import options
from icl_eval.cli.terminal import print_error, write
from icl_eval.config import MODELS, Option
from icl_eval.errors import IclEvalError, MissingData, TaskError


@options.takes("split", "fewshot_split", *options.ENCODING_OPTIONS, "trust_remote_code")
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
            "Also find queries that are too long for this model: `tiny`, a directory, or a name on the Hub.",
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

    Every record is rendered with every prompt. Without a task, all tasks are checked. With --model, only its
    configuration and its tokenizer are read.
    """
    from icl_eval.models import load_text_reader
    from icl_eval.models.options import read_options
    from icl_eval.runs.check import check_lengths, inspect, with_members

    names, library = options.library_for(options.task_names(tasks, task, is_needed=False), include)
    configs = read_options({**options.read(tokenizer_options), "trust_remote_code": trust_remote_code})
    lm = None if model is None else load_text_reader(model, *configs)
    to_check = with_members(library, names or library.names())
    location = options.data_of(data, data_dir, default=options.default_data(model))
    failed, without_data = set[str](), set[str]()
    for name in to_check:
        try:
            _check_members(name, {*with_members(library, [name])}, failed, without_data)
            summary = inspect(library, name, location, split, fewshot_split, trust_remote_code=trust_remote_code)
            if lm is not None:
                note = check_lengths(library, name, lm, location, split, fewshot_split, configs[0])
                summary += f"; note: {note}" if note else ""
            write(f"ok {name}: {summary}")
        except MissingData as error:
            if names:
                failed.add(name)
                print_error(error if len(to_check) == 1 else f"{name}: {error}")
            else:
                without_data.add(name)
                write(f"no data for {name}: {error.message}")
        except IclEvalError as error:
            failed.add(name)
            print_error(error)
    if failed:
        raise typer.Exit(2)


def _check_members(name: str, members: Set[str], failed: Set[str], without_data: Set[str]) -> None:
    """Raise an error if a member of a suite failed or has no data."""
    if broken := failed & members:
        raise TaskError(f"{len(broken)} of its tasks cannot be run: {', '.join(sorted(broken))}", name)
    if missing := without_data & members:
        tasks, have = ("tasks", "have") if len(missing) > 1 else ("task", "has")
        raise MissingData(f"its {tasks} {', '.join(sorted(missing))} {have} none")
