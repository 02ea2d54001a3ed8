"""`icl-eval check`."""

from __future__ import annotations

from typing import Annotated

import typer

from icl_eval.cli import options
from icl_eval.cli.terminal import complain, write
from icl_eval.errors import IclEvalError, MissingData, TaskError


def check(
    task: Annotated[
        list[str] | None, typer.Argument(metavar="TASK", help="Names or paths. Default: everything there is.")
    ] = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    split: options.Split = None,
    demonstrations: options.Demonstrations = None,
    include: options.Include = None,
) -> None:
    """Validate task files: schema, labels, every template and record; of a suite, all its tasks.

    Default data: the bundled sample.
    """
    from icl_eval.runs.inspection import inspect, with_members

    names, library = options.library_for(task or [], include)
    where = options.data_of(data, data_dir, otherwise="sample")
    inspected = with_members(library, names or library.names())
    failed, absent = set[str](), set[str]()
    for name in inspected:
        try:
            members = {*with_members(library, [name])}
            if broken := failed & members:
                raise TaskError(f"{len(broken)} of its tasks cannot be run: {', '.join(sorted(broken))}", name)
            if bare := absent & members:
                raise MissingData(f"of its tasks, {', '.join(sorted(bare))} {'have' if len(bare) > 1 else 'has'} none")
            write(f"ok {name}: {inspect(library, name, where, split, demonstrations)}")
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
