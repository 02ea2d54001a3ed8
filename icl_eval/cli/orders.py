"""`icl-eval orders`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icl_eval.cli import options
from icl_eval.cli.terminal import terminal_width, write
from icl_eval.config import EVALUATION

if TYPE_CHECKING:
    from icl_eval.runs.orders import OrderEntropies

SHOTS = 4
BEST = 4
FEW = 20  # probes, whose entropies are coarse


@options.takes(
    "prompts",
    "fewshot_split",
    "draw",
    "order",
    "fewshot_ids",
    "labels",
    *options.of_panel("Models"),
    "device",
)
def orders(
    tasks: list[str] | None,
    task: list[str] | None,
    *,
    model: str | None,
    data: str | None,
    data_dir: Path | None,
    include: list[Path] | None,
    shots: Annotated[
        int, typer.Option(min=2, metavar="N", rich_help_panel=EVALUATION, help="Number of demonstrations.")
    ] = SHOTS,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", rich_help_panel=EVALUATION, help="Draw of demonstrations.")
    ] = 0,
    samples: Annotated[
        int, typer.Option(min=1, metavar="N", rich_help_panel=EVALUATION, help="Texts to sample under each order.")
    ] = 1,
    temperature: Annotated[
        float, typer.Option(min=0, metavar="T", rich_help_panel=EVALUATION, help="Temperature of sampling.")
    ] = 1.0,
    **run_options: Any,
) -> None:
    """Rank orders of demonstrations by the entropy of labels.

    No labelled queries are needed: the model makes up the queries itself (Lu et al. 2022). Orders are those of --order,
    by default permutations:24.
    """
    from icl_eval.runs.orders import order_entropies

    (name,), library = options.library_for(options.task_names(tasks, task), include)
    found = order_entropies(
        model or "tiny",
        name,
        samples=samples,
        temperature=temperature,
        library=library,
        data=options.data_of(data, data_dir, otherwise="sample" if model in (None, "tiny") else "hub"),
        shots=shots,
        seeds=(seed,),
        **options.read(run_options),
    )
    write("\n".join(_lines(found)))


def _lines(found: OrderEntropies) -> list[str]:
    """A heading, the table, and the command that evaluates the best orders."""
    from icl_eval.reports.layout import draw

    cells = [
        [each.order, f"{each.global_entropy:.3f}", f"{each.local_entropy:.3f}", _counts(each.labels)]
        for each in found.orders
    ]
    names = ["order", "global entropy", "local entropy", "labels of the probes"]
    best = ",".join(found.best(BEST))
    command = ["icl-eval", "run", "--task", found.task, "--shots", str(found.shots), "--seeds", f"{found.seed},"]
    return [
        f"{found.task}, prompt {found.prompt}, {found.shots} demonstrations, draw {found.draw}, seed {found.seed}: "
        f"{len(found.probes)} probes; {found.discarded} sampled examples were discarded",
        "",
        *draw(names, cells, {"global entropy", "local entropy"}, terminal_width()),
        "",
        *(["few probes: a lower --temperature or more --samples give more"] if len(found.probes) < FEW else []),
        f"the best {min(BEST, len(found.orders))}: {shlex.join([*command, '--draw', found.draw, '--order', best])}",
    ]


def _counts(labels: Any) -> str:
    return ", ".join(f"{label} {count}" for label, count in labels.items())
