"""`icl-eval orders`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from icl_eval.cli import options
from icl_eval.cli.terminal import terminal_width, write
from icl_eval.config import EVALUATION, Option
from icl_eval.errors import counted

if TYPE_CHECKING:
    from icl_eval.runs.orders import OrderEntropies

SHOTS = 4
BEST = 4
FEW_PROBES = 20  # with fewer, a hint is printed


@options.takes(
    "prompts",
    "fewshot_split",
    "draw",
    "select",
    "encoder",
    "order",
    "fewshot_ids",
    "labels",
    "revision",
    "tokenizer",
    "dtype",
    "bos",
    "max_length",
    "quantize",
    "trust_remote_code",
    "allow_pickle",
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
    shots: Annotated[int, Option("Number of demonstrations.", EVALUATION, "N", minimum=2)] = SHOTS,
    seed: int,
    samples: Annotated[int, Option("Texts to sample after each order.", EVALUATION, "N", minimum=1)] = 1,
    temperature: Annotated[float, Option("Temperature of sampling.", EVALUATION, "T", minimum=0)] = 1.0,
    **run_options: Any,
) -> None:
    """Rank orders of demonstrations by label entropy.

    This needs no labelled queries, because the model generates the queries itself (Lu et al. 2022). --order lists the
    orders; the default is permutations:24.
    """
    from icl_eval.runs.orders import order_entropies

    found = order_entropies(
        model or "tiny",
        options.one_task("orders", tasks, task, include),
        samples=samples,
        temperature=temperature,
        data=options.data_for(model, data, data_dir),
        shots=shots,
        seeds=(seed,),
        **options.read(run_options),
    )
    given = {"model": model, "data": data, "data_dir": data_dir, "include": include, **run_options}
    (name,) = options.task_names(tasks, task)
    arguments = ["--task", name, "--shots", str(shots), "--seeds", f"{seed},", *_words(given)]
    write("\n".join(_lines(found, [*arguments, *(["--draw", found.draw] if found.draw else [])])))


def _words(given: Mapping[str, Any]) -> Iterator[str]:
    """Options as arguments of a command line, without `--order` and `--draw`."""
    for name, value in given.items():
        option = {**options.COMMAND_OPTIONS, **options.RUN_OPTIONS}[name][1]
        if name not in ("order", "draw") and value not in (None, [], option.default, "auto"):
            flag = option.flags[0] if option.flags else f"--{name.replace('_', '-')}"
            for each in value if isinstance(value, list) else [value]:
                yield from [flag] if each is True else [flag, str(each)]


def _lines(found: OrderEntropies, given: Sequence[str]) -> list[str]:
    """A heading, the table, and the command that evaluates the best orders with the given arguments."""
    from icl_eval.reports.layout import draw

    cells = [
        [each.order, f"{each.global_entropy:.3f}", f"{each.local_entropy:.3f}", _counts(each.labels)]
        for each in found.orders
    ]
    names = ["order", "global entropy", "local entropy", "labels of the probes"]
    best = ",".join(found.best(BEST))
    return [
        f"{found.task}, prompt {found.prompt}, {counted(found.shots, 'demonstration')}, draw {found.draw or 'by id'}, "
        f"seed {found.seed}: "
        f"{counted(len(found.probes), 'probe')}; "
        f"{counted(found.discarded, 'sampled example was', 'sampled examples were')} discarded",
        "",
        *draw(names, cells, {"global entropy", "local entropy"}, terminal_width()),
        "",
        *(
            ["there are few probes; use a lower --temperature or more --samples"]
            if len(found.probes) < FEW_PROBES
            else []
        ),
        f"the best {min(BEST, len(found.orders))}: {shlex.join(['icl-eval', 'run', *given, '--order', best])}",
    ]


def _counts(labels: Any) -> str:
    return ", ".join(f"{label} {count}" for label, count in labels.items())
