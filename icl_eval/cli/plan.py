"""`icl-eval plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from icl_eval.cli import options
from icl_eval.cli.terminal import write
from icl_eval.config import EVALUATION


@options.takes(
    *options.of_panel(EVALUATION), *options.ENCODING, "chat_demonstrations", "dtype", "trust_remote_code", "device"
)
def plan(
    tasks: list[str] | None,
    task: list[str] | None,
    model: str | None,
    data: str | None,
    data_dir: Path | None,
    include: list[Path] | None,
    **run_options: Any,
) -> None:
    """Print the cost of a run: memory, tokens and estimated time.

    Only the configuration and the tokenizer of the model are read, so you can plan a run of any size on any machine,
    for cpu or for cuda. Served models are not supported.
    """
    from icl_eval.runs.plan import plan as plan_of

    names, library = options.library_for(options.task_names(tasks, task), include)
    source = options.data_of(data, data_dir, otherwise="sample" if model is None else "hub")
    run_options = options.read(run_options)
    found = plan_of("tiny" if model is None else model, names, library=library, data=source, **run_options)
    write(str(found), end="")
    options.exit_if_incomplete(found.explanation.failures)
