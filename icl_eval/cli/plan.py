"""`icl-eval plan`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from icl_eval.cli import options
from icl_eval.cli.terminal import terminal_width, write
from icl_eval.config import EVALUATION, Option
from icl_eval.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icl_eval.runs.power import SampleSize

PROGRESS_INTERVAL = 5.0  # seconds between lines of progress
COMPARISON = "A comparison of two models"
SOURCES = {
    "measured": "measured: the variance of {task} in the given runs",
    "assumed": "assumed: answers are right with a probability that is uniform over the examples and has a correlation "
    "of 1/3 between the models (Miller 2024); --from RUN measures the variance",
    "clustered": "assumed: examples of one cluster have the same answers, so clusters of {task} are counted",
    "": "unknown: {metric} of {task} is not a mean over examples; --from RUN measures its variance",
}


@options.takes(
    *(name for name in options.of_panel(EVALUATION) if name != "until"),
    *options.ENCODING_OPTIONS,
    "chat_demonstrations",
    "dtype",
    "trust_remote_code",
    "device",
)
def plan(
    tasks: list[str] | None,
    task: list[str] | None,
    model: str | None,
    data: str | None,
    data_dir: Path | None,
    include: list[Path] | None,
    *,
    detect: Annotated[
        float | None,
        Option(
            "Print how many examples and seeds detect this difference between two models, such as 0.02.",
            EVALUATION,
            "DIFFERENCE",
        ),
    ] = None,
    from_: Annotated[
        list[Path] | None,
        Option(
            "With --detect: measure the variance in this run; may be given twice, for two models.",
            EVALUATION,
            "RUN",
            flags=("--from",),
        ),
    ] = None,
    **run_options: Any,
) -> None:
    """Print the cost of a run: memory, tokens and estimated time. Or the sample size of a comparison.

    Only the configuration and the tokenizer of the model are read, so you can plan a run of any size on any machine,
    for cpu or for cuda. Served models are not supported.
    """
    if from_ and detect is None:
        raise RunError("--from needs --detect, such as --detect 0.02")
    names, library = options.library_for(options.task_names(tasks, task), include)
    source = options.data_for(model, data, data_dir)
    run_options = options.read(run_options)
    if detect is not None:
        from icl_eval.runs.power import sample_sizes

        sizes = sample_sizes(names, detect, from_ or (), library=library, data=source, **run_options)
        write("\n".join(_sample_size_lines(sizes, detect)))
        if model is None:
            return
        write("")
    from icl_eval.cli.progress import progress_bar
    from icl_eval.runs.plan import plan as plan_of

    with progress_bar(noun="prompts", interval=PROGRESS_INTERVAL) as progress:
        cost = plan_of(
            "tiny" if model is None else model, names, library=library, data=source, progress=progress, **run_options
        )
    write(str(cost), end="")
    options.exit_if_incomplete(cost.explanation.failures)


def _sample_size_lines(sizes: Sequence[SampleSize], effect: float) -> list[str]:
    """A heading, the table, and a note on the source of each variance."""
    from icl_eval.reports.columns import columns_of
    from icl_eval.reports.layout import draw

    mixed = len({each.source for each in sizes} - {""}) > 1
    rows = [
        {
            "task": each.task,
            "metric": each.metric,
            "shots": str(each.shots),
            "seeds": str(each.seeds),
            "examples": f"{each.examples:,}",
            "clusters": f"{each.clusters:,}" if each.clusters < each.examples else "",
            "needed": _count(each.needed),
            "enough": each.enough,
            "detectable": "" if each.detectable is None else f"{each.detectable:.3f}",
            "variance": each.source if mixed else "",
        }
        for each in sizes
    ]
    numbers = {"shots", "seeds", "examples", "clusters", "needed", "detectable"}
    names = columns_of(rows)
    kinds = [(each, kind) for each in sizes for kind in (each.source, *_clustered(each))]
    notes = dict.fromkeys(SOURCES[kind].format(task=each.task, metric=each.metric) for each, kind in kinds)
    return [
        f"to detect a difference of {effect:g} between two models on the same examples (power 80 %, level 5 %)",
        "",
        *draw(names, [[row.get(name, "") for name in names] for row in rows], numbers, terminal_width()),
        "",
        *notes,
    ]


def _clustered(size: SampleSize) -> tuple[str, ...]:
    return ("clustered",) if size.source == "assumed" and size.clusters < size.examples else ()


def _count(needed: float | None) -> str:
    return "" if needed is None else "no number" if math.isinf(needed) else f"{needed:,.0f}"
